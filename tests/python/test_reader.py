# SPDX-License-Identifier: Apache-2.0
"""Readers and watchers, and the C client at the other end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import ssmd
from conftest import BIN, LONG, Daemon, forecast, joined, noise, odd_chunks, ssmctl, taken


def read__one_id__is_complete_and_ends_with_the_stream(client: ssmd.Client) -> None:
    samples = noise(5003)
    stream = client.open("read", "forecast", rate=360)
    with client.read("read") as reader:
        written = list(stream.pipe(odd_chunks(samples)))
        read = list(reader)
    assert {result.id for result in read} == {"read"}
    assert joined(read).tobytes() == joined(written).tobytes() == forecast(samples).tobytes()


def read__from_an_index__begins_there(client: ssmd.Client) -> None:
    samples = noise(1000)
    stream = client.open("from", "forecast", rate=360)
    stream.push(samples)
    taken(stream, 1000)
    reader = client.read("from", from_=321)
    stream.close()
    list(stream)
    assert joined(list(reader), 321).tobytes() == forecast(samples)[321:].tobytes()


def read__prefix__finds_streams_of_now_and_of_later(daemon: Daemon, client: ssmd.Client) -> None:
    signals = {f"p/{i}": noise(997, seed=i) for i in range(6)}
    with ssmd.connect(daemon.endpoint) as other:
        streams = {id: other.open(id, "forecast", rate=360) for id in list(signals)[:3]}
        reader = client.read(prefix="p/", from_=0)
        other.open("q", "forecast", rate=360).push([0.0])
        streams |= {id: other.open(id, "forecast", rate=360) for id in list(signals)[3:]}
        for id, stream in streams.items():
            list(stream.pipe(odd_chunks(signals[id])))
        results = taken(reader, 6 * 997)
        reader.close()
        for id, samples in signals.items():
            assert joined([r for r in results if r.id == id]).tobytes() == forecast(samples).tobytes()
        with pytest.raises(ssmd.Closed):
            reader.receive()
        other.open("p/late", "forecast", rate=360).push([0.0])
        assert client.ping() > 0
        assert client.reconnects == 0


def reader__too_slow__is_told_what_it_lost(client: ssmd.Client) -> None:
    stream = client.open("overrun", "forecast", rate=360)
    reader = client.read("overrun", buffer=4096)
    for result in stream.pipe(np.array_split(noise(20_000), 50)):
        del result
    results = list(reader)
    assert results[0].first == 0
    assert sum(len(r) + r.lost for r in results) == 20_000
    assert sum(r.lost for r in results) > 0


def watch__id_or_prefix__sees_results_as_they_come(client: ssmd.Client) -> None:
    samples = noise(50)
    stream = client.open("w/a", "forecast", rate=360)
    with client.watch("w/a") as one, client.watch(prefix="w/") as all, client.watch("w/") as none:
        seen: list[ssmd.Result] = []
        while not seen:  # until the subscription is there
            stream.push(samples[:1])
            for _ in range(3):
                try:
                    seen.append(one.receive(0.02))
                except ssmd.Timeout:
                    break
        begin = stream.next
        stream.push(samples, time=7)
        while seen[-1].first + len(seen[-1]) < begin + 50:
            seen.append(one.receive(LONG))
        assert {result.id for result in seen} == {"w/a"}
        assert seen[-1].time == 7
        assert all.receive(LONG).id == "w/a"
        with pytest.raises(ssmd.Timeout):
            none.receive(0)
    written = []
    stream.close()
    for result in stream:
        written.append(result)
    values = joined(written)
    for result in seen:
        assert result.values.tobytes() == values[result.first : result.first + len(result)].tobytes()


def watch__tap_off__says_so() -> None:
    daemon = Daemon("tap = off\n")
    try:
        with ssmd.connect(daemon.endpoint) as client, pytest.raises(ssmd.Error, match="no tap"):
            client.watch(prefix="")
    finally:
        daemon.remove()


def stream__written_by_ssmctl__is_read_here(daemon: Daemon, client: ssmd.Client, tmp_path: Path) -> None:
    samples = noise(7001)
    samples.tofile(tmp_path / "in.f32")
    with client.read(prefix="from-c", from_=0) as reader:
        ssmctl(
            daemon, "stream", str(tmp_path / "in.f32"), "--rate=360", "--model=forecast", "--stream=from-c",
            f"--out={tmp_path}/out.f32", "--quiet",
        )  # fmt: skip
        results = taken(reader, 7001)
    assert joined(results).tobytes() == (tmp_path / "out.f32").read_bytes() == forecast(samples).tobytes()


def stream__written_here__is_read_by_ssmctl(daemon: Daemon, client: ssmd.Client, tmp_path: Path) -> None:
    samples = noise(7001)
    stream = client.open("to-c", "forecast", rate=360)
    command = [
        str(BIN / "ssmctl"),
        "--endpoint",
        daemon.endpoint,
        "read",
        "to-c",
        "--from=0",
        f"--out={tmp_path}/r.f32",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reading:
        while client.stats()["readers"].value == 0:
            pass
        list(stream.pipe(odd_chunks(samples)))
        assert reading.wait(LONG) == 0
    assert (tmp_path / "r.f32").read_bytes() == forecast(samples).tobytes()


def stream__kept_by_ssmctl__is_gone_on_with_here(daemon: Daemon, client: ssmd.Client, tmp_path: Path) -> None:
    samples = noise(3000)
    samples[:1000].tofile(tmp_path / "in.f32")
    ssmctl(
        daemon, "stream", str(tmp_path / "in.f32"), "--rate=360", "--model=forecast", "--stream=shared",
        f"--out={tmp_path}/out.f32", "--quiet", "--keep",
    )  # fmt: skip
    stream = client.open("shared", "forecast", rate=360, take_over=True, results_from=1000)
    assert stream.next == 1000
    rest = joined(list(stream.pipe(odd_chunks(samples[stream.next :]))), 1000)
    assert (tmp_path / "out.f32").read_bytes() + rest.tobytes() == forecast(samples).tobytes()
