# SPDX-License-Identifier: Apache-2.0
"""ssmd-convert as a test calls it, and a checkpoint of torch.save written without torch."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from conftest import Floats, ssmrun
from ssmd import convert
from ssmd.convert.checkpoint import load

HERE = Path(__file__).parent
TOLERANCE = 1e-5  # on max|out - expected| / max|expected|, as of the golden cases


def refusal(capsys: pytest.CaptureFixture[str], source: Path, output: Path, *options: str) -> str:
    """The line that the command says instead of writing anything."""
    beside = sorted(output.parent.iterdir())
    assert convert.main([str(source), str(output), *options]) == 1
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1 and said.err.startswith("ssmd-convert: ")
    assert sorted(output.parent.iterdir()) == beside
    return said.err


def check(case: str, source: Path, output: Path, mode: str, *options: str) -> None:
    """Converted and run, the checkpoint says what its own code said once, in tests/python/convert/CASE."""
    assert convert.main([str(source), str(output), *options]) == 0
    samples = next((HERE / case).glob("input.*"))
    given = np.fromfile(samples, {".f32": np.float32, ".i32": np.int32}[samples.suffix])
    expected = np.fromfile(HERE / case / "expected.f32", np.float32)
    assert deviation(ssmrun(str(output), given, f"--mode={mode}"), expected) <= TOLERANCE


def settings(words: str) -> list[str]:
    """Settings and a rate, as the command takes them."""
    return ["--rate=16000", *(f"--set={word}" for word in words.split())]


def deviation(out: Floats, expected: Floats) -> float:
    """NaN when anything is, so that no bound holds."""
    assert out.shape == expected.shape
    return float(np.abs(out - expected).max() / np.abs(expected).max())


def altered(source: Path, there: Path, changes: Mapping[str, NDArray[Any] | None]) -> Path:
    """A checkpoint's tensors in a safetensors file, some of them others; None leaves one out."""
    tensors = {name: np.array(tensor) for name, tensor in load(source).tensors.items()} | dict(changes)
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, there)
    return there


class _Pickler(pickle.Pickler):
    """Storages by name, as torch keeps them outside of the pickle."""

    def persistent_id(self, thing: Any) -> Any:
        return thing.pid if isinstance(thing, Storage) else None

    def reducer_override(self, thing: Any) -> Any:
        return (_rebuild_tensor_v2, thing.arguments) if isinstance(thing, Tensor) else NotImplemented


class Storage:
    """An array in the archive."""

    def __init__(self, key: str, array: NDArray[Any]) -> None:
        kind, dtype = (ComplexFloatStorage, "<c8") if np.iscomplexobj(array) else (FloatStorage, "<f4")
        self.key, self.data = key, array.astype(dtype).tobytes()
        self.pid = ("storage", kind, key, "cpu", array.size)


class Tensor:
    """A view of a storage; of marks, torch has conj and neg."""

    def __init__(
        self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], **marks: bool
    ) -> None:
        self.arguments = (storage, offset, size, stride, False, OrderedDict[Any, Any](), *([marks] if marks else []))


class FloatStorage:
    """Pickled as torch's."""


class ComplexFloatStorage:
    """Pickled as torch's."""


def _rebuild_tensor_v2(*_: Any) -> None:
    """Pickled as torch's."""


# The modules in which a pickle looks these up.
MODULES = {"torch": types.ModuleType("torch"), "torch._utils": types.ModuleType("torch._utils")}
for name, thing in (
    ("torch", FloatStorage),
    ("torch", ComplexFloatStorage),
    ("torch._utils", _rebuild_tensor_v2),
):
    thing.__module__ = name
    setattr(MODULES[name], thing.__name__, thing)


def save(path: Path, thing: Any, *storages: Storage) -> Path:
    """What torch.save writes."""
    out = io.BytesIO()
    with mock.patch.dict(sys.modules, MODULES):
        _Pickler(out, 2).dump(thing)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", out.getvalue())
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.data)
    return path
