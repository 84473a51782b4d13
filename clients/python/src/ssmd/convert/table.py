# SPDX-License-Identifier: Apache-2.0
"""The sources that can be converted. A new one is a module in sources/ and a line here."""

from typing import Protocol

from .checkpoint import Checkpoint
from .errors import ConvertError
from .model import Model
from .options import Options
from .sources import clean_umamba, mamba, mamba_gguf, recurrent, s4, s5, s5_torch


class Source(Protocol):
    """What a module in sources/ has."""

    NAME: str  # what --from calls it
    HELP: str  # one line: what it is, and its settings

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is one of these, told by what its tensors are called; never an error."""

    def convert(self, checkpoint: Checkpoint, options: Options) -> Model:
        """Take every tensor, and make the model of them."""


SOURCES: tuple[Source, ...] = (mamba, mamba_gguf, recurrent, s4, s5, s5_torch, clean_umamba)


def find(name: str | None, checkpoint: Checkpoint) -> Source:
    """The source of that name, or the one that the checkpoint is of."""
    names = ", ".join(source.NAME for source in SOURCES)
    found = [s for s in SOURCES if (name == s.NAME if name else s.recognises(checkpoint))]
    if len(found) == 1:
        return found[0]
    if name:
        raise ConvertError("is no source", f"--from {name}", f"there are: {names}")
    if found:
        could = ", ".join(source.NAME for source in found)
        raise ConvertError(f"could be one of {could}", checkpoint.path, "choose one with --from")
    some = ", ".join(sorted(checkpoint.tensors)[:3]) or "none"
    raise ConvertError(f"its tensors ({some}, ...) are of no known source", checkpoint.path, f"known are: {names}")
