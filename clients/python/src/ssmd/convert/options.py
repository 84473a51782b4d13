# SPDX-License-Identifier: Apache-2.0
"""What the command line says that a checkpoint does not."""

import json
from collections.abc import Collection
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
    _assumed: dict[str, Any] = field(default_factory=dict)

    def take(self, key: str, default: T, among: Collection[T] = ()) -> T:
        """The setting, of the type that the default has; the default where it was not given. `among`: its choices."""
        self._taken.add(key)
        if key not in self.settings:
            self._assumed[key] = default
        value = typed(self.settings, key, default, "--set")
        if among and value not in among:
            raise ConvertError(
                f"{value!r} cannot be expressed", f"--set {key}", f"there are: {', '.join(map(str, among))}"
            )
        return value

    def need(self, key: str, like: T, why: str, among: Collection[T] = ()) -> T:
        """The setting, of the type that `like` has, which has no default because none would be right for most."""
        if key not in self.settings:
            words = f"one of {', '.join(map(str, among))}" if among else f"like {like!r}"
            raise ConvertError(f"has to be given, {words}: {why}", f"--set {key}", "see how the model was trained")
        return self.take(key, like, among)

    def assumed(self) -> str:
        """What was taken and not given, as it would be given."""
        return " ".join(f"{key}={json.dumps(value)}" for key, value in self._assumed.items()).replace('"', "")

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
