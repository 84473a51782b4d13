# SPDX-License-Identifier: Apache-2.0
"""Streams at the real daemon: the same bits as the engine by itself, however they are sent; and what is refused."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import ssmd
from conftest import LONG, ROOT, Daemon, forecast, joined, noise, odd_chunks, ssmrun, taken


def pipe__odd_chunks__gives_the_bits_of_ssmrun(client: ssmd.Client) -> None:
    samples = noise(20011)
    with client.open("pipe", "forecast", rate=360) as stream:
        results = list(stream.pipe(odd_chunks(samples)))
        assert (stream.created, stream.channels, stream.out_channels, stream.next) == (True, 1, 3, 20011)
    assert joined(results).tobytes() == forecast(samples).tobytes()
    assert "pipe" not in [info.id for info in client.list()]


def push__one_frame_at_a_time__gives_the_bits_of_ssmrun(client: ssmd.Client) -> None:
    samples = noise(701)
    with client.open("single", "forecast", rate=360) as stream:
        for sample in samples:
            stream.push(sample)
    assert joined(list(stream)).tobytes() == forecast(samples).tobytes()


def push__pcm__gives_the_bits_of_ssmrun(client: ssmd.Client) -> None:
    pcm = np.round(noise(1501) * 20000).astype(np.int16)
    with client.open("pcm", "forecast", rate=360) as stream:
        stream.push(pcm)
    assert joined(list(stream)).tobytes() == forecast(pcm).tobytes()


def push__in_one_thread_and_take_in_another__waits_for_the_slower(client: ssmd.Client) -> None:
    samples = noise(40_007)  # beyond the window, the ring and the buffer
    stream = client.open("threads", "forecast", rate=360, buffer=1 << 14)

    def write() -> None:
        for chunk in odd_chunks(samples, most=9000):
            stream.push(chunk)
        stream.close()

    results: list[ssmd.Result] = []
    reader = threading.Thread(target=lambda: results.extend(stream))
    reader.start()
    write()
    reader.join(LONG)
    assert joined(results).tobytes() == forecast(samples).tobytes()


def consumer__slow__bounds_what_is_kept_and_loses_nothing(client: ssmd.Client) -> None:
    samples = noise(30_001)
    stream = client.open("slow", "forecast", rate=360, buffer=1 << 15)
    results = []
    for result in stream.pipe(odd_chunks(samples, most=7000)):
        assert stream._writer.inbox.waiting <= 1 << 15
        assert client._driver.core.in_flight <= client.daemon.stream_window
        results.append(result)
    assert joined(results).tobytes() == forecast(samples).tobytes()


def push__of_more_than_fits_without_taking__says_so_and_goes_on_afterwards(client: ssmd.Client) -> None:
    samples = noise(60_000)
    stream = client.open("full", "forecast", rate=360)
    with pytest.raises(ssmd.ResultsWaiting, match="frames below"):
        stream.push(samples)
    assert 0 < stream.next < 60_000
    stream.close()
    assert joined(list(stream)).tobytes() == forecast(samples[: stream.next]).tobytes()


def backfill__the_same_chunks__gives_the_bits_of_the_scan(client: ssmd.Client) -> None:
    case = ROOT / "tests/golden/s4d-stack"
    channels = client.open("shape", "s4d-stack")
    samples = noise(64 * 31 + 5, channels.channels)
    channels.detach()
    outputs = []
    for n in (1, 5):
        with client.open(f"backfill{n}", "s4d-stack") as stream:
            for chunk in np.array_split(samples[: 64 * 30], n):
                stream.push(chunk, backfill=True)
            stream.push(samples[64 * 30 :], backfill=True)
        outputs.append(joined(list(stream)))
    assert outputs[0].tobytes() == outputs[1].tobytes()
    alone = ssmrun(str(case), samples, "--mode=scan", "--chunk=64").reshape(outputs[0].shape)
    assert outputs[0].tobytes() == alone.tobytes()


def tokens__odd_chunks__give_the_bits_of_ssmrun(client: ssmd.Client) -> None:
    case = ROOT / "tests/golden/mixed-tokens"
    tokens = np.fromfile(case / "input.i32", "<i4")
    with client.open("tokens", "mixed-tokens") as stream:
        for at in range(0, len(tokens), 7):
            stream.push(tokens[at : at + 7].tolist())
        with pytest.raises(ValueError, match="tokens"):
            stream.push([stream._writer.info.vocab])
    assert joined(list(stream)).tobytes() == ssmrun(str(case), tokens).tobytes()


def streams__many_on_one_connection__keep_their_own_bits(client: ssmd.Client) -> None:
    signals = [noise(1009, seed=i) for i in range(100)]
    streams = [client.open(f"many/{i}", "forecast", rate=360) for i in range(100)]
    for at in range(0, 1009, 91):
        for stream, samples in zip(streams, signals, strict=True):
            stream.push(samples[at : at + 91])
    for stream in streams:
        stream.close()
    for stream, samples in zip(streams, signals, strict=True):
        assert joined(list(stream)).tobytes() == forecast(samples).tobytes()


def time__pushed__comes_back_with_the_results(client: ssmd.Client) -> None:
    with client.open("time", "forecast", rate=360) as stream:
        stream.push(noise(5))
        stream.push(noise(5), time=-(2**63))
        stream.push(noise(5), time=2**63 - 1)
    times = [(result.first + len(result), result.time) for result in stream]
    assert [(end, time) for end, time in times if time is not None] == [(10, -(2**63)), (15, 2**63 - 1)]


def reset__after_results__begins_a_new_epoch_with_the_same_bits(client: ssmd.Client) -> None:
    samples = noise(500)
    stream = client.open("reset", "forecast", rate=360)
    stream.push(samples)
    before = taken(stream, 500)
    epoch = stream.epoch
    stream.reset()
    assert stream.epoch > epoch
    assert stream.next == 0
    stream.push(samples)
    stream.close()
    after = list(stream)
    assert {result.epoch for result in after} == {stream.epoch}
    assert joined(before).tobytes() == joined(after).tobytes()


def close__without_results__waits_until_everything_is_applied(client: ssmd.Client) -> None:
    with client.open("mute", "forecast", rate=360, results=False) as stream:
        stream.push(noise(1000))
    with pytest.raises(ssmd.Closed, match="without results"):
        stream.receive()
    with pytest.raises(ssmd.Closed, match="closing"):
        stream.push([0.0])


def questions__answered__describe_models_streams_and_counters(client: ssmd.Client) -> None:
    stream = client.open("asked", "forecast", rate=360)
    stream.push(noise(9))
    stream.receive(LONG)
    models = {model.name: model.template for model in client.models()}
    assert models["memory"] and not models["gru"]
    info = stream.info()
    assert (info.id, info.next, info.out_channels, info.attached) == ("asked", 9, 3, True)
    assert [i.id for i in client.list("ask")] == ["asked"]
    assert client.stats()["frames_applied"].value >= 9
    assert client.stats()["frames_applied"].help
    assert 0 < client.ping() < LONG
    assert client.daemon.daemon.startswith("ssmd ")
    stream.close()


def list__over_a_thousand__asks_again(own_daemon: Daemon) -> None:
    with ssmd.connect(own_daemon.endpoint) as client:
        for i in range(1003):
            client.open(f"{i:04}", "forecast:order=1", rate=1, results=False)
        assert [info.id for info in client.list()] == [f"{i:04}" for i in range(1003)]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ({"id": "", "model": "forecast", "rate": 360}, ssmd.Code.BAD_ID, "64"),
        ({"id": "x" * 65, "model": "forecast", "rate": 360}, ssmd.Code.BAD_ID, "64"),
        ({"id": "a", "model": "nothing"}, ssmd.Code.NO_MODEL, "nothing"),
        ({"id": "a", "model": "gru", "rate": 1e6}, ssmd.Code.RATE, None),
        ({"id": "a", "model": "forecast", "rate": 360, "resume": True}, ssmd.Code.NO_STREAM, None),
        ({"id": "a", "model": "forecast", "rate": 360, "results_from": 9}, ssmd.Code.TOO_NEW, None),
    ],
)
def open__refused__has_the_daemons_code_and_sentence(
    client: ssmd.Client, arguments: dict[str, object], code: ssmd.Code, sentence: str | None
) -> None:
    with pytest.raises(ssmd.Refused, match=sentence) as caught:
        client.open(**arguments)  # type: ignore[arg-type]
    assert caught.value.code is code
    assert len(str(caught.value)) > 10
    assert client.ping() >= 0


def open__of_what_exists__is_resumed_or_refused_as_asked(client: ssmd.Client) -> None:
    first = client.open("exists", "forecast", rate=360)
    first.push(noise(10))
    first.receive(LONG)
    with pytest.raises(ssmd.Refused) as caught:
        client.open("exists", "forecast", rate=360, resume=False)
    assert caught.value.code is ssmd.Code.EXISTS
    again = client.open("exists", "forecast", rate=360, resume=True)
    assert (again.created, again.next) == (False, 10)
    with pytest.raises(ssmd.TakenOver):
        first.push([0.0])
    again.close()


def read__of_nothing__is_refused(client: ssmd.Client) -> None:
    with pytest.raises(ssmd.Refused) as caught:
        client.read("no such stream")
    assert caught.value.code is ssmd.Code.NO_STREAM
    with pytest.raises(TypeError, match="either"):
        client.read()


def receive__nothing_comes__times_out_and_may_go_on(client: ssmd.Client) -> None:
    stream = client.open("patience", "forecast", rate=360)
    with pytest.raises(ssmd.Timeout):
        stream.receive(0.05)
    stream.push([0.5])
    result = stream.receive(LONG)
    assert result and len(result) == 1
    stream.close()


def connect__nobody_there__says_what_is_missing() -> None:
    with pytest.raises(ssmd.Unreachable, match="no such socket"):
        ssmd.connect("ipc:///nowhere/ssmd.sock", timeout=0.2)
    with pytest.raises(ssmd.Unreachable, match="no daemon answers"):
        ssmd.connect("tcp://127.0.0.1:9", timeout=0.2)
    with pytest.raises(ssmd.Unreachable, match="cannot connect"):
        ssmd.connect("nonsense", timeout=0.2)
    with pytest.raises(ValueError, match="16 bytes"):
        ssmd.connect("ipc:///nowhere", writer=b"short")


def connect__without_an_endpoint__takes_it_from_the_environment(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSMD_ENDPOINT", daemon.endpoint)
    with ssmd.connect() as client:
        assert client.ping() > 0


def client__closed__refuses_and_wakes_who_waits(daemon: Daemon) -> None:
    client = ssmd.connect(daemon.endpoint)
    stream = client.open("left", "forecast", rate=360)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            stream.receive()
        except ssmd.Closed as closed:
            caught.append(closed)

    waiting = threading.Thread(target=wait)
    waiting.start()
    client.close()
    waiting.join(LONG)
    assert len(caught) == 1
    with pytest.raises(ssmd.Closed):
        client.ping()
    client.close()
