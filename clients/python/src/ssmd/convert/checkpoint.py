# SPDX-License-Identifier: Apache-2.0
"""A published checkpoint as it was found, whatever file it comes in.

A source takes the tensors that it knows, by name and shape. What nobody took is refused at the end (`refuse_surplus`):
a weight that is left over means that the model is another one than the source thinks.

Readers of further files are one line in READERS, each told by the first bytes of its file.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from . import flax_file, gguf_file, safetensors_file, torch_file
from .errors import ConvertError

Content = tuple[dict[str, NDArray[Any]], dict[str, Any]]

# What a published directory calls its weights, and what training scripts put a state_dict under.
WEIGHTS = ("pytorch_model.bin", "model.safetensors")
STATE_DICTS = ("state_dict", "model_state_dict", "model")


@dataclass
class Checkpoint:
    """`tensors` by name, in the file's own type (bfloat16 widened to float32); `other`, what else the file holds."""

    tensors: dict[str, NDArray[Any]]
    other: dict[str, Any]
    path: Path
    _taken: set[str] = field(default_factory=set)

    def take(self, name: str, *shape: int | None) -> NDArray[Any]:
        """The tensor, which must have this shape; None stands for any size."""
        tensor = self.take_any(name)
        if len(shape) != tensor.ndim or any(n not in (None, have) for n, have in zip(shape, tensor.shape, strict=True)):
            want = ", ".join("any" if n is None else str(n) for n in shape)
            raise ConvertError(
                f"tensor {name} has shape {tensor.shape}, not ({want})",
                self.path,
                "does its configuration belong to it?",
            )
        return tensor

    def take_any(self, name: str) -> NDArray[Any]:
        """The tensor, whose shape the source looks at itself, or leaves to the engine to judge."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ConvertError(f"tensor {name} is missing", self.path, "is the file complete, and of this source?")
        self._taken.add(name)
        return tensor

    def drop(self, name: str) -> None:
        """The tensor is known, and the model does without it; the source's notes say why."""
        self._taken.add(name)

    def refuse_surplus(self, source: str) -> None:
        """Tensors that nobody took."""
        if left := sorted(self.tensors.keys() - self._taken):
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            raise ConvertError(
                f"{source} knows no tensor {', '.join(left[:3])}{more}",
                self.path,
                "a model with it cannot be converted",
            )

    def config(self) -> dict[str, Any]:
        """The config.json beside the weights."""
        path = self.path.parent / "config.json"
        try:
            config = json.loads(path.read_text())
        except OSError as error:
            todo = "put the checkpoint's own config.json beside its weights"
            raise ConvertError(f"cannot be read ({error.strerror})", path, todo) from error
        except ValueError as error:
            raise ConvertError(f"is no JSON ({error})", path, "is it the checkpoint's own?") from error
        if not isinstance(config, dict):
            raise ConvertError("is no JSON object", path, "is it the checkpoint's own?")
        return config


def load(path: Path) -> Checkpoint:
    """The checkpoint in a file, or in a directory with one of WEIGHTS in it."""
    if path.is_dir():
        found = [path / name for name in WEIGHTS if (path / name).is_file()]
        if len(found) != 1:
            what = f"holds {'both' if found else 'neither'} {' and '.join(WEIGHTS)}"
            raise ConvertError(what, path, "name the file that has the weights")
        path = found[0]
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise ConvertError(f"cannot be read ({error.strerror})", path, "name a checkpoint") from error
    for reader in READERS:
        if reader.recognises(start):
            return Checkpoint(*reader.read(path), path)
    raise ConvertError("is no checkpoint that is known here", path, "torch, safetensors, GGUF and flax files are")


class Reader(NamedTuple):
    """`recognises` the first 16 bytes of a file; `read` gives its tensors and what else is in it."""

    recognises: Callable[[bytes], bool]
    read: Callable[[Path], Content]


def _torch(path: Path) -> Content:
    """The state_dict, be it the whole file or under a name of its own."""
    root = torch_file.read(path)
    under = next((key for key in STATE_DICTS if isinstance(root.get(key), dict)), None)
    tensors, other = torch_file.split(root if under is None else root[under])
    return tensors, other if under is None else {key: value for key, value in root.items() if key != under}


READERS = (
    Reader(gguf_file.recognises, gguf_file.read),
    Reader(safetensors_file.recognises, safetensors_file.read),  # before torch: its length may begin as a pickle does
    Reader(torch_file.recognises, _torch),
    Reader(flax_file.recognises, flax_file.read),
)
