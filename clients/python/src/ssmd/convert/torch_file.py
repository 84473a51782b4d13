# SPDX-License-Identifier: Apache-2.0
"""Reads what torch.save wrote, without torch and without running anything that the file says.

The file is a zip archive of stored members: NAME/data.pkl, a pickle in which every tensor is a call of
torch._utils._rebuild_tensor_v2 on a storage, and NAME/data/KEY, the bytes of each storage. torch itself is a download
of gigabytes and reads a pickle by a list of classes that it trusts; this one trusts none. The three functions and the
names of storages that tensors are made of are ours, and an object of any other class becomes a `Foreign`, which holds
what the pickle said of it and does nothing: so the hyperparameters that a training framework puts beside the weights
neither run nor stand in the way.

Tensors are views of the mapped file, read only; what is damaged is found by the archive's own checksums.
"""

import io
import math
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import bfloat16
from .errors import ConvertError

BFLOAT16 = "bfloat16"
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT16,
    "ComplexDoubleStorage": "<c16",
    "ComplexFloatStorage": "<c8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
LOCAL_HEADER = 30  # bytes of a zip member's header before its name
OLD = "written by torch before 1.6: torch.save(torch.load(FILE), NEW) with a newer torch makes one that is read"


class Foreign:
    """Stands for an object whose class is not read; `kind` is the class's name."""

    kind = ""
    args: tuple[Any, ...]
    state: Any
    items: list[Any]

    def __new__(cls, *args: Any, **_: Any) -> "Foreign":
        """Whatever a pickle may do to make one."""
        it = super().__new__(cls)
        it.args, it.state, it.items = args, None, []
        return it

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, item: Any) -> None:
        """As a list is filled."""
        self.items.append(item)


class _Dict(dict[Any, Any]):
    """An OrderedDict; the attributes that torch hangs on one (_metadata) say nothing of the weights."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage(NamedTuple):
    data: NDArray[Any]
    bfloat16: bool


def recognises(start: bytes) -> bool:
    """A zip archive, or the pickle that an older torch wrote."""
    return start[:4] == b"PK\x03\x04" or start[:2] == b"\x80\x02"


def read(path: Path) -> dict[str, Any]:
    """The dictionary that was saved, with arrays in place of tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            root = _Archive(path, archive).load()
    except zipfile.BadZipFile as error:
        raise ConvertError(
            f"is no whole archive of torch.save ({error})", path, f"fetch it again; or, {OLD}"
        ) from error
    except ConvertError:
        raise
    except Exception as error:  # what a pickle that makes no sense may raise is beyond listing
        raise ConvertError(f"does not make sense ({error!r})", path, "fetch the file again") from error
    if isinstance(root, Foreign):
        raise ConvertError(
            f"holds a whole {root.kind}, which only its own code can read",
            path,
            "save its weights alone there: torch.save(model.state_dict(), FILE)",
        )
    if not isinstance(root, dict):
        raise ConvertError(f"holds a {type(root).__name__}", path, "a state_dict, or a dictionary with one, is read")
    return root


def split(state: dict[Any, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What are tensors, and what is not."""
    tensors = {str(key): value for key, value in state.items() if isinstance(value, np.ndarray)}
    return tensors, {str(key): value for key, value in state.items() if str(key) not in tensors}


class _Archive:
    """The members of one file."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self.members = {info.filename: info for info in archive.infolist()}
        self.bytes = np.memmap(path, np.uint8, "r")
        self.storages: dict[tuple[str, str], _Storage] = {}
        pickles = [name for name in self.members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ConvertError("is a zip archive, but not one of torch.save", path, "name a checkpoint")
        self.folder = pickles[0].removesuffix("data.pkl")

    def load(self) -> Any:
        """What the pickle makes."""
        if (order := f"{self.folder}byteorder") in self.members and self.member(order).tobytes() != b"little":
            raise ConvertError("was written on a big-endian machine", self.path, "save it again on a little-endian one")
        return _Unpickler(self).load()

    def member(self, name: str) -> NDArray[np.uint8]:
        """A member's bytes, where they lie in the file."""
        info = self.members[name]
        head = self.bytes[info.header_offset : info.header_offset + LOCAL_HEADER]
        at = info.header_offset + LOCAL_HEADER + int(head[26:28].view("<u2")[0]) + int(head[28:30].view("<u2")[0])
        data = self.bytes[at : at + info.file_size]
        if info.compress_type != zipfile.ZIP_STORED or zlib.crc32(data.data) != info.CRC:
            raise ConvertError(f"member {name} is damaged", self.path, "fetch the file again")
        return data

    def storage(self, kind: Any, key: str) -> _Storage:
        """The numbers of a storage; every tensor that shares it names it again."""
        dtype = STORAGES[kind.kind.removeprefix("torch.")]
        if (dtype, key) not in self.storages:
            data = self.member(f"{self.folder}data/{key}").view("<u2" if dtype == BFLOAT16 else dtype)
            self.storages[dtype, key] = _Storage(data, dtype == BFLOAT16)
        return self.storages[dtype, key]


class _Unpickler(pickle.Unpickler):
    """Knows tensors, dictionaries and sizes, and imports nothing."""

    def __init__(self, archive: _Archive) -> None:
        super().__init__(io.BytesIO(archive.member(f"{archive.folder}data.pkl").tobytes()))
        self._archive = archive
        self._known = {
            "collections.OrderedDict": _Dict,
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch.Size": tuple,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Ours, or an empty stand-in of that name."""
        full = f"{module}.{name}"
        return self._known.get(full) or type("Foreign", (Foreign,), {"kind": full})

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage: its class, its key, where it was, how many elements."""
        _, kind, key, _, _ = pid
        return self._archive.storage(kind, key)


def _parameter(data: NDArray[Any], *_: Any) -> NDArray[Any]:
    return data


def _tensor(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    _grad: bool,
    _hooks: Any,
    metadata: dict[str, bool] | None = None,
) -> NDArray[Any]:
    """A tensor, which must lie within its storage; `metadata` may say that it is that conjugated or negated."""
    data = storage.data
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    empty = math.prod(size) == 0
    if min(offset, *size, *stride, 0) < 0 or not (empty or (last < data.size and math.prod(size) <= data.size)):
        raise ValueError(f"a tensor of shape {size} lies outside of its storage of {data.size} numbers")
    if empty:
        return np.empty(size, data.dtype)
    strides = [step * data.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(data[offset:], size, strides, writeable=False)
    view = bfloat16.widen(view) if storage.bfloat16 else view
    if metadata and metadata.get("conj"):
        view = view.conj()
    return -view if metadata and metadata.get("neg") else view
