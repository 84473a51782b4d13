# SPDX-License-Identifier: Apache-2.0
"""Why a checkpoint is not converted."""

from pathlib import Path


class ConvertError(Exception):
    """One line: where it is wrong, what is wrong there, and what to do about it."""

    def __init__(self, what: str, where: str | Path, todo: str) -> None:
        super().__init__(f"{where}: {what}; {todo}")
