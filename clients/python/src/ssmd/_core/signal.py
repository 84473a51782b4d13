# SPDX-License-Identifier: Apache-2.0
"""How an operation waits without knowing for what kind of caller."""

from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")


class Signal:
    """Something may have changed: whoever waits shall look again. Each waiter is called once and forgotten."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[Callable[[], None]] = []

    def add(self, wake: Callable[[], None]) -> None:
        """Call `wake` the next time."""
        self._waiters.append(wake)

    def discard(self, wake: Callable[[], None]) -> None:
        """Not any more."""
        if wake in self._waiters:
            self._waiters.remove(wake)

    def fire(self) -> None:
        """Wake all that wait."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for wake in waiters:
                wake()


Operation: TypeAlias = Generator[Signal, None, T]
