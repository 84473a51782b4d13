# SPDX-License-Identifier: Apache-2.0
"""The example, as a reader of it would run it."""

import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from conftest import LONG, ROOT, Daemon


def _electrocardiogram() -> Path | None:
    """What python3-scipy carries; where it is not there the test is skipped."""
    return next(Path("/usr/lib/python3/dist-packages/scipy").rglob("ecg.dat"), None)


def forecast__example_on_the_electrocardiogram__names_few_unusual_seconds(daemon: Daemon, tmp_path: Path) -> None:
    recording = _electrocardiogram()
    if recording is None:
        pytest.skip("python3-scipy is not installed")
    ecg = (np.load(recording)["ecg"].astype(float) - 1024) / 200
    with wave.open(str(tmp_path / "ecg.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(360)
        file.writeframes(np.round(ecg / 8 * 32768).astype("<i2").tobytes())
    done = subprocess.run(
        [sys.executable, str(ROOT / "clients/python/examples/forecast.py"), str(tmp_path / "ecg.wav")],
        env=os.environ | {"SSMD_ENDPOINT": daemon.endpoint},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )
    *seconds, last = done.stdout.splitlines()
    assert last == f"{len(ecg)} results, {len(seconds)} unusual seconds"
    assert 0 < len(seconds) < len(ecg) // 360 // 4
