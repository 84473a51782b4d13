# SPDX-License-Identifier: Apache-2.0
"""The real daemon for tests, in a private directory; a way to it that can be cut; and what results are held against."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import ssmd

ROOT = Path(__file__).resolve().parents[2]
BIN = (ROOT / os.environ.get("BUILD", "build") / "bin").resolve()
LONG = 120.0  # seconds that nothing takes, though the engine runs at nice 19 beside whatever else there is

# Windows that a test fills soon.
SMALL = "stream_window = 64K\nresult_ring = 16K\n"

Floats = NDArray[np.float32]


class Daemon:
    """One ssmd; `restart` keeps its directory."""

    def __init__(self, lines: str = "") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ssmd-"))
        self.socket = self.directory / "ssmd.sock"
        self.endpoint = f"ipc://{self.socket}"
        tap = f"tap = ipc://{self.directory}/tap.sock\n"
        text = f"endpoint = {self.endpoint}\n{tap if 'tap =' not in lines else ''}models = {ROOT}/tests/golden\n{lines}"
        (self.directory / "ssmd.conf").write_text(text)
        self.start()

    def start(self) -> None:
        """Until it answers."""
        log = (self.directory / "log").open("a")
        command = ["setpriv", "--pdeathsig", "KILL", str(BIN / "ssmd"), "--config", str(self.directory / "ssmd.conf")]
        self.process = subprocess.Popen(command, stderr=log, stdout=log)
        log.close()
        try:
            ssmd.connect(self.endpoint, timeout=20).close()
        except ssmd.Error:
            print((self.directory / "log").read_text())
            raise

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """In order."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG)

    def restart(self) -> None:
        """Another incarnation at the same place."""
        self.kill()
        self.start()

    def remove(self) -> None:
        """Whatever state it is in."""
        self.kill()
        shutil.rmtree(self.directory)


class Way:
    """A socket that leads to the daemon's, until it is cut."""

    def __init__(self, daemon: Daemon) -> None:
        self._target = str(daemon.socket)
        self._listener = socket.socket(socket.AF_UNIX)
        path = daemon.directory / "way.sock"
        self._listener.bind(str(path))
        self._listener.listen()
        self.endpoint = f"ipc://{path}"
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Whatever is under way is lost; who connects again comes through again."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """No more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
                self._ends += [near, far]
                threading.Thread(target=_carry, args=(near, far), daemon=True).start()
                threading.Thread(target=_carry, args=(far, near), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One for the tests of a file that leave it as it was."""
    it = Daemon("drain_ms = 100\n" + SMALL)
    yield it
    assert it.stop() == 0
    it.remove()


@pytest.fixture
def own_daemon() -> Iterator[Daemon]:
    """One that the test may do anything to."""
    it = Daemon()
    yield it
    it.remove()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[ssmd.Client]:
    """A connection to it."""
    with ssmd.connect(daemon.endpoint) as it:
        yield it


@pytest.fixture
def way(daemon: Daemon) -> Iterator[Way]:
    """A way to it that can be cut."""
    it = Way(daemon)
    yield it
    it.close()
    Path(it.endpoint.removeprefix("ipc://")).unlink()


def noise(frames: int, channels: int = 1, seed: int = 1) -> Floats:
    """A signal that no chunk of looks like another."""
    random = np.random.default_rng(seed)
    steps = random.normal(0, 0.1, (frames, channels)).cumsum(axis=0)
    signal: Floats = (np.sin(steps) + random.normal(0, 0.01, (frames, channels))).astype(np.float32)
    return signal


def ssmrun(model: str, samples: NDArray[np.generic], *options: str) -> Floats:
    """What the engine says by itself: all results, flat."""
    suffix = {"float32": "f32", "int32": "i32", "int16": "s16"}[str(samples.dtype)]
    with tempfile.TemporaryDirectory() as folder:
        source, out = f"{folder}/in.{suffix}", f"{folder}/out.f32"
        samples.tofile(source)
        command = [str(BIN / "ssmrun"), "--model", model, "--input", source, "--output", out, *options]
        subprocess.run(command, check=True, capture_output=True)
        return np.fromfile(out, np.float32)


def forecast(samples: NDArray[np.generic]) -> Floats:
    """The built-in forecaster at 360 Hz by itself: (frames, 3)."""
    return ssmrun("forecast", samples, "--rate=360", "--channels=1").reshape(-1, 3)


def ssmctl(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The C client's program, to its end."""
    command = [str(BIN / "ssmctl"), "--endpoint", daemon.endpoint, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONG)


def odd_chunks(samples: Floats, seed: int = 1, most: int = 997) -> Iterator[Floats]:
    """The samples in chunks of 1 to `most` frames."""
    random = np.random.default_rng(seed)
    at = 0
    while at < len(samples):
        n = int(random.integers(1, most + 1))
        yield samples[at : at + n]
        at += n


def taken(source: ssmd.Stream | ssmd.Reader, frames: int) -> list[ssmd.Result]:
    """So many frames of results."""
    results: list[ssmd.Result] = []
    while sum(map(len, results)) < frames:
        result = source.receive(LONG)
        assert result
        results.append(result)
    return results


def joined(results: list[ssmd.Result], first: int = 0) -> Floats:
    """All values of results that follow one another from `first` on."""
    for result in results:
        assert (result.first, result.lost) == (first, 0)
        first += len(result)
    return np.concatenate([result.values for result in results])
