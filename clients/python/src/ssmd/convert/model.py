# SPDX-License-Identifier: Apache-2.0
"""The model directory that comes out (docs/MODELS.md): config.json and model.safetensors."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from .errors import ConvertError


@dataclass
class Model:
    """What is written; `notes` tell what was left out or changed on the way, a sentence each."""

    config: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    notes: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """How many numbers are written."""
        return sum(tensor.size for tensor in self.tensors.values())

    @property
    def layers(self) -> int:
        """How many layers, as the configuration counts them."""
        return int(self.config["num_hidden_layers"]) if "layers" not in self.config else len(self.config["layers"])


def write(model: Model, directory: Path) -> None:
    """The whole directory or nothing: it is written beside its place, and renamed when it is complete.

    Half precision stays what it is, everything else becomes float32.
    """
    if directory.exists():
        raise ConvertError("is there already", directory, "name another directory, or remove this one")
    if not directory.parent.is_dir():
        raise ConvertError("is no directory", directory.parent, "make it first")
    tensors = {name: _storable(name, tensor) for name, tensor in model.tensors.items()}
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            if tensors:
                save_file(tensors, beside / "model.safetensors", {"format": "pt"})
            (beside / "config.json").write_text(json.dumps(model.config, indent=2) + "\n")
            _open_up(beside)
            beside.rename(directory)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    except OSError as error:
        raise ConvertError(f"cannot be written ({error.strerror})", directory, "choose another place") from error


def _storable(name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    if tensor.dtype.kind != "f":
        raise ConvertError(
            f"holds {tensor.dtype}, not real numbers", f"tensor {name}", "this is a fault of ssmd-convert"
        )
    if not np.isfinite(tensor).all():
        raise ConvertError("holds a NaN or an infinite number", f"tensor {name}", "the checkpoint is not usable")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(tensor, np.float16 if tensor.dtype == np.float16 else np.float32)
    if not np.isfinite(stored).all():
        raise ConvertError("holds a number beyond float32", f"tensor {name}", "the checkpoint is not usable")
    return stored


def _open_up(directory: Path) -> None:
    """What was made for our eyes only gets the permissions that new files have: a daemon may be somebody else."""
    mask = os.umask(0o077)  # there is no other way to ask
    os.umask(mask)
    for path in directory.iterdir():
        path.chmod(0o666 & ~mask)
    directory.chmod(0o777 & ~mask)
