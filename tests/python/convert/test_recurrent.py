# SPDX-License-Identifier: Apache-2.0
"""torch's nn.LSTM and nn.GRU; make_recurrent.py made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from converting import HERE, check, refusal
from ssmd import convert

Capture = pytest.CaptureFixture[str]
RATE = "--rate=100"


def saved(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """Tensors of ones."""
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, path)
    return path


def cell(prefix: str = "", gates: int = 4, suffix: str = "") -> dict[str, tuple[int, ...]]:
    """One layer of 5 units on 3 channels, without biases."""
    return {f"{prefix}weight_ih_l0{suffix}": (gates * 5, 3), f"{prefix}weight_hh_l0{suffix}": (gates * 5, 5)}


@pytest.mark.parametrize("mode", ["step", "scan"])
@pytest.mark.parametrize("case", ["lstm", "gru"])
def recurrent__state_dict__computes_what_torch_does(case: str, mode: str, tmp_path: Path) -> None:
    check(case, HERE / case / "model.pt", tmp_path / "out", mode, RATE)


def recurrent__module_in_a_module__is_found_with_its_head(tmp_path: Path, capsys: Capture) -> None:
    assert convert.main([str(HERE / "lstm" / "model.pt"), str(tmp_path / "out"), RATE, "--name=ahead"]) == 0
    assert "fc: Linear of 2 channels" in capsys.readouterr().out
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["name"] == "ahead"
    assert config["input"] == {"kind": "signal", "channels": 3, "sample_rate": 100}
    assert config["output"] == {"kind": "signal", "channels": 2, "sample_rate": 100}
    assert [layer["type"] for layer in config["layers"]] == ["lstm", "lstm", "linear"]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (cell("lstm.") | cell("lstm.", suffix="_reverse"), "lstm is bidirectional"),
        (cell() | {"weight_hr_l0": (2, 5)}, "the module projects its state (proj_size)"),
        (cell("a.") | cell("b."), "has 2 recurrent modules (a, b)"),
        (cell(gates=1), "has 5 rows for 5 units: neither an LSTM (4 each) nor a GRU (3)"),
        (cell() | {"norm.weight": (5,), "norm.bias": (5,)}, "torch-rnn knows no tensor norm.bias, norm.weight"),
        (cell() | {"a.weight": (5, 5), "b.weight": (2, 5)}, "torch-rnn knows no tensor a.weight, b.weight"),
        (cell() | {"fc.weight": (2, 6)}, "tensor fc.weight has shape (2, 6), not (any, 5)"),
        (cell() | {"bias_ih_l0": (20,)}, "tensor bias_hh_l0 is missing"),
        (cell() | {"weight_ih_l1": (20, 5)}, "tensor weight_hh_l1 is missing"),
    ],
)
def recurrent__what_no_layer_does__is_refused_by_name(
    shapes: dict[str, Any], words: str, tmp_path: Path, capsys: Capture
) -> None:
    assert words in refusal(capsys, saved(tmp_path / "in.safetensors", shapes), tmp_path / "out", RATE)


def recurrent__no_rate__is_asked_for(tmp_path: Path, capsys: Capture) -> None:
    assert "--rate: the checkpoint says no sample rate" in refusal(capsys, HERE / "lstm" / "model.pt", tmp_path / "out")
