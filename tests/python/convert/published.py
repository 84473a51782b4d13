# SPDX-License-Identifier: Apache-2.0
"""A published checkpoint of a directory here: converted, run by ssmrun, and held against what its own code computed."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from conftest import BIN, Floats
from ssmd.convert import convert, write
from ssmd.convert.model import Model
from ssmd.convert.options import Options

HERE = Path(__file__).parent
MODES = ("step", "scan")


def converted(checkpoint: str, settings: dict[str, Any]) -> Model:
    """The model of a checkpoint here."""
    _, model = convert(HERE / checkpoint, Options("published", 16000, settings))
    return model


def run(model: Model, case: str, mode: str, directory: Path) -> Floats:
    """What ssmrun makes of the case's input."""
    write(model, directory / "model")
    output = directory / "output.f32"
    command = [BIN / "ssmrun", "--model", directory / "model", "--input", HERE / case / "input.f32"]
    done = subprocess.run([*command, "--output", output, "--mode", mode], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.fromfile(output, np.float32)


def error(output: Floats, case: str) -> float:
    """The largest difference to the expected output, as the golden cases count it."""
    expected = np.fromfile(HERE / case / "expected.f32", np.float32)
    assert output.shape == expected.shape
    return float(np.abs(output - expected).max() / np.abs(expected).max())


def kinds(model: Model) -> list[str]:
    """The layers, outermost only."""
    layers = json.loads(json.dumps(model.config))["layers"]
    return [layer["type"] for layer in layers]
