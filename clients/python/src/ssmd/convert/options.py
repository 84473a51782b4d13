# SPDX-License-Identifier: Apache-2.0
"""What the command line says that a checkpoint does not."""

from dataclasses import dataclass, field
from typing import Any

from .errors import ConvertError
from .values import T, typed


@dataclass
class Options:
    """`name` and `rate` (Hz) of the model, and `--set KEY=VALUE`, which only the source knows how to read.

    A source takes what it needs; what nobody took is refused, so that a misspelt setting does not pass unseen.
    """

    name: str
    rate: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def take(self, key: str, default: T) -> T:
        """The setting, of the type that the default has; the default where it was not given."""
        self._taken.add(key)
        return typed(self.settings, key, default, "--set")

    def sample_rate(self) -> float:
        """Of a model of signals, which has to say one."""
        self._taken.add("--rate")
        if self.rate is None:
            raise ConvertError("the checkpoint says no sample rate", "--rate", "give the rate it was trained at, in Hz")
        return self.rate

    def refuse_unused(self, source: str) -> None:
        """What was given and not taken."""
        if self.rate is not None and "--rate" not in self._taken:
            raise ConvertError(f"{source} has no sample rate", "--rate", "leave it out")
        for key in self.settings.keys() - self._taken:
            known = ", ".join(sorted(self._taken - {"--rate"})) or "none"
            raise ConvertError(f"{source} has no such setting", f"--set {key}", f"it has: {known}")
