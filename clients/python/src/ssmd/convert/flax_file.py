# SPDX-License-Identifier: Apache-2.0
"""Reads what flax.serialization wrote: msgpack, by the package msgpack, which is an extra (`pip install ssmd[flax]`).

A tree of dictionaries, whose arrays are messages of a type of their own: shape, type and bytes. The tensors are the
leaves of `params` (or of the whole file, when it holds nothing else), named by their path, and those of `batch_stats`
under that name; an optimiser's state is left out. JAX is not needed, and nothing in the file runs.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import bfloat16
from .errors import ConvertError

ARRAY = 1  # flax's number for arrays; a scalar of numpy is one without dimensions
SCALAR = 3
COLLECTIONS = {"params": "", "batch_stats": "batch_stats."}  # flax's, and what their tensors' names begin with
DTYPES = {
    name: np.dtype(name)
    for name in ("float64", "float32", "float16", "complex64", "int64", "int32", "uint32", "uint8", "bool")
} | {"bfloat16": np.dtype(np.uint16)}
ORBAX = "orbax's directories are not read: flax.serialization.to_bytes(state) makes what is"


def recognises(start: bytes) -> bool:
    """A map that is not empty, whose first key is a word."""
    word = start[3:4] if start[:1] == b"\xde" else start[1:2]
    return start[:1] in (*(bytes([0x80 | n]) for n in range(1, 16)), b"\xde") and b"\xa0" <= word <= b"\xbf"


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The tensors, by their paths joined with dots, and what else the file holds."""
    try:
        import msgpack
    except ImportError as error:
        raise ConvertError("needs the package msgpack", path, "pip install 'ssmd[flax]' (or msgpack)") from error
    try:
        root = msgpack.unpackb(path.read_bytes(), ext_hook=_array)
    except (ValueError, TypeError, OSError, msgpack.UnpackException) as error:
        raise ConvertError(f"is no whole file of flax ({error})", path, f"fetch it again; {ORBAX}") from error
    if not isinstance(root, dict):
        raise ConvertError(f"holds a {type(root).__name__}", path, "a dictionary of parameters is read")
    if "params" not in root:
        root = {"params": root}
    tensors: dict[str, NDArray[Any]] = {}
    for collection, prefix in COLLECTIONS.items():
        _flatten(root.get(collection, {}), prefix, tensors)
    return tensors, {str(key): value for key, value in root.items() if key not in COLLECTIONS}


def _flatten(tree: Any, prefix: str, tensors: dict[str, NDArray[Any]]) -> None:
    """Arrays by their paths."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            _flatten(value, f"{prefix}{key}.", tensors)
    elif isinstance(tree, np.ndarray):
        tensors[prefix.removesuffix(".")] = tree


def _array(kind: int, data: bytes) -> Any:
    """An array, or None for what is none."""
    import msgpack

    if kind not in (ARRAY, SCALAR):
        return None
    shape, name, raw = msgpack.unpackb(data)
    dtype = DTYPES.get(name)
    if dtype is None:
        raise ValueError(f"an array of {name}")
    if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of shape {shape} in {len(raw)} bytes")
    array = np.frombuffer(raw, dtype).reshape(shape)
    return bfloat16.widen(array) if name == "bfloat16" else array
