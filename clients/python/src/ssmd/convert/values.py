# SPDX-License-Identifier: Apache-2.0
"""A value of a configuration that somebody else wrote, of the type that it has to have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import ConvertError

T = TypeVar("T", bool, int, float, str)


def typed(values: Mapping[str, Any], key: str, default: T, where: str | Path) -> T:
    """The value, of the default's type (a whole number may stand for a float); the default where there is none."""
    value = values.get(key, default)
    kind = type(default)
    if kind is float and type(value) is int:
        return kind(value)
    if type(value) is not kind:
        raise ConvertError(f"{key} is {value!r}, which is no {kind.__name__}", where, f"give one, like {default!r}")
    return value
