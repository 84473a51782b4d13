# SPDX-License-Identifier: Apache-2.0
"""state-spaces/s4: its checkpoints compute what its own code computed of them (make_s4.py)."""

from pathlib import Path
from typing import Any

import pytest
from published import MODES, converted, error, run

CASES: dict[str, tuple[dict[str, Any], float]] = {
    "s4-example": ({"prenorm": False}, 1e-5),
    "s4-v4-dplr": ({"prenorm": True}, 1e-5),
    "s4-v4-diag": (
        {
            "disc": "bilinear",
            "real_transform": "relu",
            "imag_transform": "softplus",
            "dt_transform": "softplus",
            "activation": "tanh",
            "final_act": "silu",
        },
        1e-5,
    ),
    "s4-v4-real": ({}, 1e-5),
    "s4-v3-dplr": ({}, 1e-5),
    "s4-v3-batchnorm": ({}, 1e-5),
    "s4-v3-diag": ({"disc": "zoh"}, 1e-5),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def s4__converted__computes_what_its_own_code_does(case: str, mode: str, tmp_path: Path) -> None:
    settings, tolerance = CASES[case]
    model = converted(f"{case}/checkpoint.pt", settings)
    found = error(run(model, case, mode, tmp_path), case)
    assert found <= tolerance
