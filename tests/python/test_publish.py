# SPDX-License-Identifier: Apache-2.0
"""Publishing: what the daemon makes of frames that nobody acknowledges."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import ssmd
from conftest import LONG, Daemon, forecast, joined, noise, odd_chunks, taken

LINES = "publish = p/ model=forecast rate=360 gap=zero source_ms=1\npublish = t model=mixed-tokens\n"


@pytest.fixture
def publishing() -> Iterator[Daemon]:
    daemon = Daemon(LINES)
    yield daemon
    daemon.remove()


def endpoint(daemon: Daemon) -> str:
    return f"ipc://{daemon.directory}/ssmd-publish.sock"


def publish__chunks_and_a_gap__is_the_stream_with_zeros(publishing: Daemon) -> None:
    signal = noise(1000)
    with ssmd.connect(publishing.endpoint) as client, ssmd.Publisher(endpoint(publishing)) as publisher:
        reader = client.read(prefix="p/", from_=0)
        for chunk in odd_chunks(signal[:600]):
            assert publisher.publish("p/1", chunk, rate=360)
        assert publisher.publish("p/1", signal[700:], first=700)
        signal[600:700] = 0
        assert joined(taken(reader, 1000)).tobytes() == forecast(signal).tobytes()
        assert client.stats()["publish_frames_filled"].value == 100


def publish__from_two_threads__is_one_run(publishing: Daemon) -> None:
    signals = {f"p/{i}": noise(500, seed=i) for i in range(2)}

    def send(publisher: ssmd.Publisher, id: str) -> None:
        for chunk in odd_chunks(signals[id]):
            assert publisher.publish(id, chunk)

    with ssmd.connect(publishing.endpoint) as client, ssmd.Publisher(endpoint(publishing)) as publisher:
        reader = client.read(prefix="p/", from_=0)
        threads = [threading.Thread(target=send, args=(publisher, id)) for id in signals]
        for thread in threads:
            thread.start()
        results = taken(reader, 1000)
        for thread in threads:
            thread.join()
    for id, signal in signals.items():
        assert joined([r for r in results if r.id == id]).tobytes() == forecast(signal).tobytes()


def publish__tokens__are_taken(publishing: Daemon) -> None:
    with ssmd.connect(publishing.endpoint) as client, ssmd.Publisher(endpoint(publishing)) as publisher:
        reader = client.read(prefix="t", from_=0)
        assert publisher.publish("t1", [1, 2, 3], tokens=True, backfill=True)
        assert len(joined(taken(reader, 3))) == 3


def publish__while_the_daemon_is_away__says_so_and_goes_on(publishing: Daemon) -> None:
    with ssmd.Publisher(endpoint(publishing)) as publisher:
        publishing.kill()
        end = time.monotonic() + LONG
        while publisher.publish("p/1", np.zeros(10, np.float32)) and time.monotonic() < end:
            pass
        publishing.start()
        while not publisher.publish("p/1", np.zeros(10, np.float32)):
            assert time.monotonic() < end
        with ssmd.connect(publishing.endpoint) as client:
            while not client.list():
                assert time.monotonic() < end


def publisher__without_a_daemon__is_refused() -> None:
    with pytest.raises(ssmd.Unreachable, match="nobody listens"):
        ssmd.Publisher("ipc:///tmp/ssmd-nobody.sock", timeout=0.05)
