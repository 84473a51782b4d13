# SPDX-License-Identifier: Apache-2.0
"""lab-emi/CleanUMamba; make_clean_umamba.py made the checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from converting import HERE, check, settings

SETTINGS = {"clean-umamba": "gain=4", "clean-umamba-2": "", "clean-umamba-s4": "gain=4"}


@pytest.mark.parametrize("mode", ["step", "scan"])
@pytest.mark.parametrize("case", SETTINGS)
def clean_umamba__published_checkpoint__computes_what_its_own_code_does(case: str, mode: str, tmp_path: Path) -> None:
    check(case, HERE / case / "checkpoint.pkl", tmp_path / "out", mode, *settings(SETTINGS[case]))
