# SPDX-License-Identifier: Apache-2.0
"""lindermanlab/S5 and the package s5-pytorch; make_s5.py and make_s5_torch.py made the checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from converting import HERE, check

MODES = pytest.mark.parametrize("mode", ["step", "scan"])
RATE = "--rate=16000"
SETTINGS = {
    "s5-batchnorm": "",
    "s5-layernorm": (
        "prenorm=false activation=half_glu2 mode=last discretization=bilinear conj_sym=false clip_eigs=true"
    ),
    "s5-full-glu": "mode=last",
    "s5-gelu": "prenorm=false mode=last",
    "s5-torch": "",
    "s5-torch-blocks": "",
}


def settings(text: str) -> list[str]:
    """As the command takes them."""
    return [RATE, *(f"--set={setting}" for setting in text.split())]


@MODES
@pytest.mark.parametrize("case", SETTINGS)
def s5__published_checkpoint__computes_what_its_own_code_does(case: str, mode: str, tmp_path: Path) -> None:
    checkpoint = next((HERE / case).glob("checkpoint.*"))
    check(case, checkpoint, tmp_path / "out", mode, *settings(SETTINGS[case]))
