# SPDX-License-Identifier: Apache-2.0
"""Reads a GGUF file, by the gguf package of llama.cpp, which is an extra (`pip install ssmd[gguf]`).

Quantised tensors become float32: what they stand for, not what they were before. Metadata are values by key; lists
(the vocabulary) are left out, as the daemon knows tokens by number.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .errors import ConvertError

TYPES = "gguf.types"  # key of what the tensors were stored as

Content = tuple[dict[str, NDArray[Any]], dict[str, Any]]


def recognises(start: bytes) -> bool:
    """By its name."""
    return start[:4] == b"GGUF"


def read(path: Path) -> Content:
    """The tensors, shaped as torch shapes them, and the metadata."""
    try:
        import gguf
    except ImportError as error:
        raise ConvertError("needs the package gguf", path, "pip install gguf") from error

    class Reader(gguf.GGUFReader):
        """Would count through a list that is longer than the file, taking memory for every entry."""

        def _get(self, offset: int, dtype: Any, count: Any = 1, *more: Any, **named: Any) -> NDArray[Any]:
            got = super()._get(offset, dtype, count, *more, **named)
            if len(got) != count:
                raise ValueError(f"ends before byte {offset} and what should be there")
            return got

    try:
        return _content(gguf, Reader(path))
    except NotImplementedError as error:
        raise ConvertError(f"is quantised in a way that is not read ({error})", path, "fetch another one") from error
    except Exception as error:  # what the package raises for a file that makes no sense is nowhere said
        raise ConvertError(f"does not make sense ({error!r})", path, "fetch it again, or try a newer gguf") from error


def _content(gguf: Any, reader: Any) -> Content:
    whole = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)
    tensors = {
        tensor.name: tensor.data if tensor.tensor_type in whole else gguf.dequantize(tensor.data, tensor.tensor_type)
        for tensor in reader.tensors
    }
    other = {
        key: field.contents()
        for key, field in reader.fields.items()
        if field.types and field.types[0] != gguf.GGUFValueType.ARRAY
    }
    return tensors, other | {TYPES: sorted({tensor.tensor_type.name for tensor in reader.tensors})}
