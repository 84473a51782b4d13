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


def recognises(start: bytes) -> bool:
    """By its name."""
    return start[:4] == b"GGUF"


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The tensors, shaped as torch shapes them, and the metadata."""
    try:
        import gguf
    except ImportError as error:
        raise ConvertError("needs the package gguf", path, "pip install 'ssmd[gguf]' (or gguf)") from error
    whole = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)
    tensors: dict[str, NDArray[Any]] = {}
    try:
        reader = gguf.GGUFReader(path)
        for tensor in reader.tensors:
            kept = tensor.tensor_type in whole
            tensors[tensor.name] = tensor.data if kept else gguf.dequantize(tensor.data, tensor.tensor_type)
        other = {
            key: field.contents()
            for key, field in reader.fields.items()
            if field.types and field.types[0] != gguf.GGUFValueType.ARRAY
        }
    except NotImplementedError as error:
        raise ConvertError(f"is quantised in a way that is not read ({error})", path, "fetch another one") from error
    except (ValueError, LookupError, OSError) as error:
        raise ConvertError(f"is damaged, or newer than the package gguf ({error})", path, "fetch it again") from error
    return tensors, other | {TYPES: sorted({tensor.tensor_type.name for tensor in reader.tensors})}
