# SPDX-License-Identifier: Apache-2.0
"""What ssmd-convert says and writes, whatever the source."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from converting import HERE, refusal
from ssmd import convert
from ssmd.convert import Model, write
from ssmd.convert.errors import ConvertError
from ssmd.convert.table import SOURCES

Capture = pytest.CaptureFixture[str]
LSTM = HERE / "lstm" / "model.pt"


def command__checkpoint__says_what_it_found_and_where_the_model_is(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert convert.main([str(LSTM), str(out), "--rate=100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{LSTM}: torch-rnn, 3 layers, 800 parameters"
    assert lines[1] == "  nn.LSTM: 3 channels in, 2 layers of 7"
    assert lines[-1] == f"{out}: written"
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]


def command__installed__lists_its_formats() -> None:
    program = Path(sys.executable).parent / "ssmd-convert"
    said = subprocess.run([program, "--help"], check=True, capture_output=True, text=True).stdout
    for source in SOURCES:
        assert f"  {source.NAME} " in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rate=100", "--set", "window=3"], "--set window: torch-rnn has no such setting; it has: none"),
        (["--rate=100", "--from=keras"], "--from keras: is no source; there are: mamba"),
        (["--rate=100", "--from=mamba"], f"{HERE}/lstm/config.json: cannot be read"),
    ],
)
def command__option_that_does_not_fit__is_refused_by_name(
    options: list[str], words: str, tmp_path: Path, capsys: Capture
) -> None:
    assert words in refusal(capsys, LSTM, tmp_path / "out", *options)


def command__rate_of_a_model_of_tokens__is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert "--rate: mamba has no sample rate" in refusal(capsys, HERE / "mamba1", tmp_path / "out", "--rate=100")


@pytest.mark.parametrize("option", ["--rate=0", "--rate=nan", "--rate=inf", "--rate=fast", "--set=window"])
def command__option_that_is_none__is_refused_as_usual(option: str, tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        convert.main([str(LSTM), str(tmp_path / "out"), option])
    assert caught.value.code == 2
    assert f"argument {option.partition('=')[0]}" in capsys.readouterr().err


def command__output_that_is_there__is_left_alone(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "out").mkdir()
    assert "out: is there already" in refusal(capsys, LSTM, tmp_path / "out", "--rate=100")
    assert not list((tmp_path / "out").iterdir())


def command__no_directory_for_the_output__is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert convert.main([str(LSTM), str(tmp_path / "a" / "b"), "--rate=100"]) == 1
    assert "a: is no directory; make it first" in capsys.readouterr().err


def write__float64_and_half__become_float32_and_stay(tmp_path: Path) -> None:
    wide, half = np.array([1 / 3]), np.array([0.5], np.float16)
    write(Model({"model_type": "ssmd"}, {"wide": wide, "half": half}), tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert tensors["wide"].dtype == np.float32 and tensors["wide"] == np.float32(1 / 3)
    assert tensors["half"].dtype == np.float16
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {"model_type": "ssmd"}


def write__turned_tensor__is_written_in_its_order(tmp_path: Path) -> None:
    tensor = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write(Model({}, {"w": tensor}), tmp_path / "out")
    np.testing.assert_array_equal(load_file(tmp_path / "out" / "model.safetensors")["w"], tensor)


def write__directory_and_files__may_be_read_by_whoever_the_umask_says(tmp_path: Path) -> None:
    write(Model({}, {"w": np.zeros(1, np.float32)}), tmp_path / "out")
    (tmp_path / "usual").mkdir()
    (tmp_path / "usual" / "file").touch()

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(tmp_path / "out") == mode(tmp_path / "usual")
    assert {mode(path) for path in (tmp_path / "out").iterdir()} == {mode(tmp_path / "usual" / "file")}


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (np.array([1, np.nan], np.float32), "tensor w: holds a NaN or an infinite number"),
        (np.array([1e39]), "tensor w: holds a number beyond float32"),
        (np.array([1]), "tensor w: holds int64, not real numbers"),
    ],
)
def write__tensor_that_no_model_can_have__leaves_nothing(tensor: np.ndarray, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConvertError) as caught:
        write(Model({}, {"w": tensor}), tmp_path / "out")
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def write__failure_on_the_way__leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write(Model({"bad": object()}, {"w": np.zeros(3, np.float32)}), tmp_path / "out")
    assert not list(tmp_path.iterdir())
