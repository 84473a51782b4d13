# SPDX-License-Identifier: Apache-2.0
"""lab-emi/CleanUMamba; make_clean_umamba.py made the checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converting import HERE, Storage, Tensor, altered, check, refusal, save, settings
from ssmd import convert
from ssmd.convert.checkpoint import load

Capture = pytest.CaptureFixture[str]
SETTINGS = {"clean-umamba": "gain=4", "clean-umamba-2": "", "clean-umamba-s4": "gain=4"}
CENTRE = "tsfm_Mamba_layers.0.mixer."


def checkpoint(case: str) -> Path:
    """The file of a case."""
    return HERE / case / "checkpoint.pkl"


@pytest.mark.parametrize("mode", ["step", "scan"])
@pytest.mark.parametrize("case", SETTINGS)
def clean_umamba__published_checkpoint__computes_what_its_own_code_does(case: str, mode: str, tmp_path: Path) -> None:
    check(case, checkpoint(case), tmp_path / "out", mode, *settings(SETTINGS[case]))


def clean_umamba__levels__lie_in_one_another(tmp_path: Path) -> None:
    assert convert.main([str(checkpoint("clean-umamba-2")), str(tmp_path / "out"), *settings("")]) == 0
    layers = json.loads((tmp_path / "out" / "config.json").read_text())["layers"]
    above = ["conv1d", "activation", "linear", "glu", "residual", "linear", "glu", "conv_transpose1d"]
    for level in range(3):
        assert [layer["type"] for layer in layers] == above + ["activation"] * (level > 0)
        assert layers[0].get("groups", 1) == (2 if level else 1)
        layers = layers[4]["layers"]
    assert [layer["type"] for layer in layers] == ["linear", "residual", "residual", "layernorm", "linear"]


def clean_umamba__pruned_mamba__has_the_sizes_of_its_tensors(tmp_path: Path) -> None:
    tensors = load(checkpoint("clean-umamba")).tensors
    kept = np.arange(5)  # of the 16 inner channels
    both = np.concatenate([kept, kept + 16])
    shapes = {"in_proj.weight": (both,), "x_proj.weight": (slice(None), kept), "out_proj.weight": (slice(None), kept)}
    shapes |= {
        part: (kept,) for part in ("conv1d.weight", "conv1d.bias", "dt_proj.weight", "dt_proj.bias", "A_log", "D")
    }
    pruned = {f"{CENTRE}{part}": np.ascontiguousarray(tensors[f"{CENTRE}{part}"][at]) for part, at in shapes.items()}
    source = altered(checkpoint("clean-umamba"), tmp_path / "in.safetensors", pruned)
    assert convert.main([str(source), str(tmp_path / "out"), *settings("gain=4")]) == 0
    text = (tmp_path / "out" / "config.json").read_text().replace("\n", "")
    assert '"inner": 5,' in text and '"inner": 16,' in text


def clean_umamba__no_gain__is_asked_for(tmp_path: Path, capsys: Capture) -> None:
    said = refusal(capsys, checkpoint("clean-umamba"), tmp_path / "out", *settings(""))
    assert "--set gain: has to be given, like 16.0: it divides a clip by its standard deviation" in said


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"glu_activation": "SiLU"}, "network_config has glu_activation 'SiLU'; only 'Sigmoid' can be expressed"),
        ({"bypass_channels": [2, 0]}, "network_config has bypass_channels [2, 0]"),
        ({"stride": "two"}, "stride is 'two', which is no int"),
        ([], "its network_config is no dictionary"),
    ],
)
def clean_umamba__configuration_that_cannot_be_expressed__is_refused(
    config: Any, said: str, tmp_path: Path, capsys: Capture
) -> None:
    ones = Storage("0", np.ones(12, np.float32))
    tensors = {"tsfm_conv1.weight": Tensor(ones, 0, (3, 4, 1), (4, 1, 1))}
    tensors |= {"encoder.0.0.weight": Tensor(ones, 0, (3, 1, 4), (4, 4, 1))}
    source = save(tmp_path / "in.pkl", {"network_config": config, "model_state_dict": tensors}, ones)
    assert said in refusal(capsys, source, tmp_path / "out", *settings("gain=4"))


@pytest.mark.parametrize(
    ("case", "words", "changes", "said"),
    [
        ("clean-umamba", "gain=0", {}, "--set gain: 0.0 is no gain"),
        ("clean-umamba", "gain=4", {"encoder.1.0.weight": (6, 3, 4)}, "encoder.1.0.weight takes 3 channels of 4"),
        ("clean-umamba", "gain=4", {"encoder.1.0.weight": (6, 0, 4)}, "encoder.1.0.weight takes 0 channels of 4"),
        ("clean-umamba", "gain=4", {"decoder.1.2.bias": None}, "tensor decoder.1.2.bias is missing"),
        ("clean-umamba", "gain=4", {f"{CENTRE}A_log": (16,)}, f"{CENTRE}A_log has shape (16,), not (16, any)"),
        ("clean-umamba", "gain=4", {f"{CENTRE}D": (8,)}, f"{CENTRE}D has shape (8,), not (16)"),
        ("clean-umamba", "gain=4", {"decoder.1.2.bias": (2,)}, "decoder.1.2.bias has shape (2,), not (4)"),
        ("clean-umamba", "gain=4", {"residual_projection_layers.0.bias": (4,)}, "knows no tensor residual_projection"),
        ("clean-umamba-2", "gain=4", {f"{CENTRE}dt_bias": (0,)}, "takes 16 channels, of a model of 8 and 0 heads"),
        ("clean-umamba-2", "gain=4", {f"{CENTRE}dt_bias": (3,)}, "takes 16 channels, of a model of 8 and 3 heads"),
        ("clean-umamba-s4", "gain=4", {f"{CENTRE}ssm.layer.D": (2, 4)}, "ssm.layer.D has shape (2, 4), not (1, 4)"),
    ],
)
def clean_umamba__what_does_not_fit__is_refused_by_name(
    case: str, words: str, changes: dict[str, Any], said: str, tmp_path: Path, capsys: Capture
) -> None:
    tensors = {name: None if shape is None else np.ones(shape, np.float32) for name, shape in changes.items()}
    source = altered(checkpoint(case), tmp_path / "in.safetensors", tensors) if changes else checkpoint(case)
    assert said in refusal(capsys, source, tmp_path / "out", *settings(words))
