# SPDX-License-Identifier: Apache-2.0
"""state-spaces/s4, version 3 and 4; make_s4.py made the checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converting import HERE, altered, check, refusal, settings
from ssmd import convert
from ssmd.convert.checkpoint import load

Capture = pytest.CaptureFixture[str]
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
    "s4-v3-relu": "real_transform=relu",
}
KERNEL = "s4_layers.0.layer.kernel."  # of s4-v4-dplr


def checkpoint(case: str) -> Path:
    """The file of a case."""
    return HERE / case / "checkpoint.pt"


@pytest.mark.parametrize("mode", ["step", "scan"])
@pytest.mark.parametrize("case", SETTINGS)
def s4__published_checkpoint__computes_what_its_own_code_does(case: str, mode: str, tmp_path: Path) -> None:
    check(case, checkpoint(case), tmp_path / "out", mode, *settings(SETTINGS[case]))


def s4__setting_not_given__is_said_with_what_was_taken(tmp_path: Path, capsys: Capture) -> None:
    assert convert.main([str(checkpoint("s4-v4-dplr")), str(tmp_path / "out"), *settings("prenorm=true")]) == 0
    said = capsys.readouterr().out
    assert "taken as usual: real_transform=exp imag_transform=none dt_transform=exp activation=gelu (" in said


def s4__mean_of_a_training__is_in_the_model_on_demand(tmp_path: Path) -> None:
    for mode, kinds in (("last", ["layernorm", "linear"]), ("pool", ["layernorm", "mean", "linear"])):
        out = tmp_path / mode
        assert convert.main([str(checkpoint("s4-v3-dplr")), str(out), *settings(f"mode={mode}")]) == 0
        layers = json.loads((out / "config.json").read_text())["layers"]
        assert [layer["type"] for layer in layers] == ["linear", "residual", "residual", *kinds]


def s4__length_in_half_precision__is_the_same_length(tmp_path: Path) -> None:
    length = {f"s4_layers.{n}.layer.kernel.l_kernel": np.array(64, np.float16) for n in range(2)}
    source = altered(checkpoint("s4-v4-dplr"), tmp_path / "in.safetensors", length)
    check("s4-v4-dplr", source, tmp_path / "out", "step", *settings("prenorm=true"))


def s4__length_missing__is_asked_for_and_taken(tmp_path: Path, capsys: Capture) -> None:
    without = {f"s4_layers.{n}.layer.kernel.l_kernel": None for n in range(2)}
    source = altered(checkpoint("s4-v4-dplr"), tmp_path / "in.safetensors", without)
    said = refusal(capsys, source, tmp_path / "out", *settings("prenorm=true"))
    assert f"--set l_kernel: has to be given, like 0: there is no {KERNEL}l_kernel" in said
    check("s4-v4-dplr", source, tmp_path / "out", "step", *settings("prenorm=true l_kernel=64"))


@pytest.mark.parametrize(
    ("case", "words", "changes", "said"),
    [
        ("s4-v4-real", "disc=dss", {}, "--set disc: 'dss' cannot be expressed; there are: zoh, bilinear"),
        ("s4-v4-real", "activation=glu", {}, "--set activation: 'glu' cannot be expressed"),
        ("s4-v3-diag", "", {}, "--set disc: has to be given, one of zoh, bilinear: version 3's diagonal kernel"),
        ("s4-v4-diag", "disc=zoh", {}, "--set final_act: has to be given"),
        ("s4-v4-real", "real_transform=none", {}, "kernel.A_real is not above 0 everywhere, as real_transform none"),
        ("s4-v4-real", "dt_transform=none", {}, "kernel.inv_dt is not above 0 everywhere, as dt_transform none"),
        ("s4-v4-real", "", {"layer.D": ()}, "layer.D has shape (), not (1, 6)"),
        ("s4-v4-real", "prenorm=true", {}, "--set prenorm: s4 has no such setting"),
        ("s4-v4-real", "", {"layer.kernel.C": (2, 6, 4)}, "kernel.C has 2 outputs and D 1: it reads a recording"),
        ("s4-v4-real", "", {"layer.kernel.C": (2, 6, 4), "layer.D": (2, 6)}, "C has 2 outputs for each channel"),
        ("s4-v4-real", "", {"layer.kernel.A_real": (4, 4)}, "layer.kernel.B has shape (1, 6, 4), not (1, 4, 4)"),
        ("s4-v4-real", "", {"layer.kernel.inv_dt": (6, 3)}, "layer.kernel.inv_dt has 3 columns for 4 modes"),
        ("s4-v4-dplr", "", {f"{KERNEL}inv_dt": (6, 4)}, f"{KERNEL}inv_dt has a step for each mode"),
        ("s4-v4-dplr", "", {f"{KERNEL}P": (1, 3, 4, 2)}, f"{KERNEL}P has shape (1, 3, 4, 2), not (any, 2, 4, 2)"),
        ("s4-v4-dplr", "", {f"{KERNEL}l_kernel": (2,)}, f"{KERNEL}l_kernel has shape (2,), not ()"),
        ("s4-v4-dplr", "", {"s4_layers.0.input_gate.weight": (6, 6)}, "s4 knows no tensor s4_layers.0.input_gate"),
        ("s4-example", "", {"s4_layers.1.kernel.C": None}, "s4 knows no tensor"),
        ("s4-example", "", {"s4_layers.0.D": None}, "tensor s4_layers.0.D is missing"),
        ("s4-example", "", {"encoder.bias": None}, "tensor encoder.bias is missing"),
        ("s4-v3-dplr", "", {"model.layers.0.norm.norm.m": (1,)}, "s4 knows no tensor model.layers.0.norm.norm.m"),
    ],
)
def s4__what_does_not_fit__is_refused_by_name(
    case: str, words: str, changes: dict[str, Any], said: str, tmp_path: Path, capsys: Capture
) -> None:
    tensors = {name: None if shape is None else np.ones(shape, np.float32) for name, shape in changes.items()}
    source = altered(checkpoint(case), tmp_path / "in.safetensors", tensors) if changes else checkpoint(case)
    assert said in refusal(capsys, source, tmp_path / "out", *settings(words))


def s4__modes_that_the_training_cut_to_zero__are_refused(tmp_path: Path, capsys: Capture) -> None:
    name = "kernel.kernel.inv_A_real"
    dead = np.full(load(checkpoint("s4-v3-diag")).tensors[name].shape, np.nan, np.float32)
    source = altered(checkpoint("s4-v3-diag"), tmp_path / "in.safetensors", {name: dead})
    assert f"{name} is not above 0 everywhere, as real_transform exp" in refusal(
        capsys, source, tmp_path / "out", *settings("disc=zoh")
    )


def s4__number_beyond_any__is_refused_by_the_name_that_it_gets(tmp_path: Path, capsys: Capture) -> None:
    changes = {"layer.kernel.A_real": np.full((6, 4), 1000, np.float32)}
    source = altered(checkpoint("s4-v4-real"), tmp_path / "in.safetensors", changes)
    said = refusal(capsys, source, tmp_path / "out", *settings(""))
    assert "tensor layers.0.ssm.log_A_real: holds a NaN or an infinite number" in said
