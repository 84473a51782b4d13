# SPDX-License-Identifier: Apache-2.0
"""state-spaces/s4, version 3 and 4; make_s4.py made the checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from converting import HERE, check

MODES = pytest.mark.parametrize("mode", ["step", "scan"])
RATE = "--rate=16000"
SETTINGS = {
    "s4-example": "",
    "s4-v4-dplr": "prenorm=true",
    "s4-v4-diag": (
        "disc=bilinear real_transform=relu imag_transform=softplus dt_transform=softplus activation=tanh final_act=silu"
    ),
    "s4-v4-real": "",
    "s4-v3-dplr": "",
    "s4-v3-batchnorm": "",
    "s4-v3-diag": "disc=zoh",
}


def settings(text: str) -> list[str]:
    """As the command takes them."""
    return [RATE, *(f"--set={setting}" for setting in text.split())]


@MODES
@pytest.mark.parametrize("case", SETTINGS)
def s4__published_checkpoint__computes_what_its_own_code_does(case: str, mode: str, tmp_path: Path) -> None:
    check(case, HERE / case / "checkpoint.pt", tmp_path / "out", mode, *settings(SETTINGS[case]))
