# SPDX-License-Identifier: Apache-2.0
"""Reads a safetensors file, by the safetensors package; its own numpy reader knows no bfloat16."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from . import bfloat16
from .errors import ConvertError

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "C64": np.complex64,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def recognises(start: bytes) -> bool:
    """A length of eight bytes, then JSON."""
    return start[8:9] == b"{"


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The tensors; the file's metadata say nothing that a model needs."""
    try:
        stored = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError) as error:
        raise ConvertError(f"cannot be read ({error})", path, "fetch the file again") from error
    tensors: dict[str, NDArray[Any]] = {}
    for name, info in stored:
        if info["dtype"] not in DTYPES:
            raise ConvertError(f"tensor {name} is stored as {info['dtype']}", path, "quantised weights are not read")
        array = np.frombuffer(info["data"], DTYPES[info["dtype"]]).reshape(info["shape"])
        tensors[name] = bfloat16.widen(array) if info["dtype"] == "BF16" else array
    return tensors, {}
