# SPDX-License-Identifier: Apache-2.0
"""Generation at the real daemon: its own output fed back by hand, text by whole characters, and every way it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import ssmd
from conftest import ROOT, Daemon, Way, joined, ssmctl, ssmrun, taken
from ssmd._text import Writing

MODEL = "mamba-lm-n8"
VOCAB = 97


def logits_of(tokens: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return ssmrun(str(ROOT / "tests/golden" / MODEL), np.array(tokens, np.int32)).reshape(-1, VOCAB)


def tokenizer_make(path: Path) -> Path:
    """A tokenizer.json of 97 bytes, among them those of the words below, written as GPT-2 writes bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    wanted: set[str] = set()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for word, _ in byte_level.pre_tokenize_str("aé漢😀b once"):
        wanted |= set(word)
    rest = [c for c in alphabet if c not in wanted]
    vocab = {c: i for i, c in enumerate(sorted(wanted) + rest[: VOCAB - len(wanted)])}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path))
    return path


def generate__greedily__equals_feeding_the_most_probable_back_by_hand(client: ssmd.Client) -> None:
    prompt = [1, 2, 3]
    with client.open("greedy", MODEL, generates=True) as stream:
        drawn = list(stream.generate(prompt, maximum=30, temperature=0))
        assert stream.ending == ssmd.Ending.MAXIMUM
        assert stream.next == 3 + 29  # the last token is not consumed
    for n, token in enumerate(drawn):
        logits = logits_of(prompt + [t.token for t in drawn[:n]])[-1].astype(np.float64)
        assert (token.token, token.index) == (int(np.argmax(logits)), 3 + n)
        assert token.logprob == pytest.approx(logits[token.token] - np.log(np.exp(logits).sum()), abs=1e-5)


def generate__with_a_seed__is_reproducible_and_what_ssmctl_prints(daemon: Daemon, client: ssmd.Client) -> None:
    texts = []
    for i, seed in enumerate((7, 7, 8)):
        with client.open(f"seed{i}", MODEL, generates=True) as stream:
            drawn = stream.generate([4, 5], maximum=50, temperature=4, top_k=60, min_p=0.01, seed=seed)
            texts.append([token.token for token in drawn])
    assert texts[0] == texts[1] != texts[2]
    options = ["--temperature=4", "--top-k=60", "--min-p=0.01", "--seed=7", "--maximum=50"]
    said = ssmctl(daemon, "generate", f"--model={MODEL}", "--prompt-tokens=4,5", *options).stdout
    assert [int(line) for line in said.split()] == texts[0]


def generate__again_without_a_prompt__goes_on(client: ssmd.Client) -> None:
    options = {"temperature": 4.0, "seed": 3}
    with client.open("whole", MODEL, generates=True) as stream:
        whole = [t.token for t in stream.generate([9, 9], maximum=60, **options)]  # type: ignore[arg-type]
    with client.open("parts", MODEL, generates=True) as stream:
        parts = [t.token for t in stream.generate([9, 9], maximum=25, **options)]  # type: ignore[arg-type]
        parts += [t.token for t in stream.generate(maximum=35, **options)]  # type: ignore[arg-type]
        stream.push([parts[-1]])
        with pytest.raises(ssmd.Refused, match="prompt is empty") as refused:
            list(stream.generate())
        assert refused.value.code == ssmd.Code.BAD_OPTION
    assert parts == whole


def generate__of_a_prompt_longer_than_a_request__is_as_by_hand(client: ssmd.Client) -> None:
    prompt = [int(t) for t in np.random.default_rng(5).integers(0, VOCAB, 3000)]  # and more than the ring holds
    with client.open("long", MODEL, generates=True) as stream:
        (token,) = stream.generate(prompt, maximum=1, temperature=0)
    assert (token.token, token.index) == (int(np.argmax(logits_of(prompt)[-1])), 3000)


def generate__with_top_k__gives_the_most_probable_beside_each_token(client: ssmd.Client) -> None:
    with client.open("top", MODEL, generates=True, top_k=3) as stream:
        for token in stream.generate([1], maximum=20, temperature=0):
            assert token.top.shape == (3,)
            assert (token.top["token"][0], token.top["logprob"][0]) == (token.token, np.float32(token.logprob))


def results__with_top_k__are_pairs_for_writers_readers_and_watchers(client: ssmd.Client) -> None:
    tokens = [1, 2, 3, 50, 96]
    logits = logits_of(tokens)
    with client.open("pairs", MODEL, top_k=2) as stream, client.read("pairs") as reader, client.watch("pairs"):
        stream.push(tokens)
        mine, read = taken(stream, 5), taken(reader, 5)
    assert joined(mine).tobytes() == joined(read).tobytes()
    for result in mine:
        for i, frame in enumerate(result.pairs):
            assert list(frame["token"]) == list(np.argsort(-logits[result.first + i], kind="stable")[:2])
    assert stream.out_channels == 4


def push__while_it_generates__says_so_and_leaving_the_loop_cancels(client: ssmd.Client) -> None:
    with client.open("leave", MODEL, generates=True) as stream:
        drawn = stream.generate([1], maximum=1 << 40, temperature=4)
        first = [next(drawn), next(drawn)]
        with pytest.raises(ssmd.Closed, match="generating"):
            stream.push([1])
        assert client.info("leave").generating
        drawn.close()  # type: ignore[attr-defined]
        assert stream.ending == ssmd.Ending.CANCELLED
        stream.push([2])
        again = [t.token for t in stream.generate([1], maximum=2, temperature=0)]
        assert len(first) == len(again) == 2


def generate__until_a_stop_token__ends_with_it(client: ssmd.Client) -> None:
    with client.open("stop0", MODEL, generates=True) as stream:
        drawn = [t.token for t in stream.generate([1], maximum=100, temperature=4)]
    with client.open("stop1", MODEL, generates=True) as stream:
        stopped = [t.token for t in stream.generate([1], maximum=100, temperature=4, stop=[drawn[20], drawn[21]])]
        assert stream.ending == ssmd.Ending.STOP_TOKEN
    assert stopped == drawn[: len(stopped)]
    assert stopped[-1] in drawn[20:22] and len(stopped) <= 21


def generate__over_a_link_that_is_cut__misses_no_token(daemon: Daemon, way: Way) -> None:
    with ssmd.connect(daemon.endpoint) as client, client.open("uncut", MODEL, generates=True) as stream:
        whole = [t.token for t in stream.generate([1], maximum=20_000, temperature=4)]
    with ssmd.connect(way.endpoint) as client, client.open("cut", MODEL, generates=True, buffer=4096) as stream:
        came = []
        for token in stream.generate([1], maximum=20_000, temperature=4):
            came.append(token.token)
            if len(came) % 5000 == 1:
                way.cut()
        assert client.reconnects > 0
    assert came == whole


@pytest.mark.parametrize(
    ("option", "value"),
    [("temperature", -1.0), ("top_p", 0.0), ("min_p", 2.0), ("repetition_penalty", 0.0), ("repetition_window", 5000),
     ("maximum", 0), ("stop", [97]), ("recent", [97])],
)  # fmt: skip
def generate__with_a_bad_option__names_it(client: ssmd.Client, option: str, value: object) -> None:
    with client.open("bad", MODEL, generates=True) as stream:
        with pytest.raises(ssmd.Refused, match=option):
            list(stream.generate([1], **{option: value}))  # type: ignore[arg-type]
        assert len(list(stream.generate([1], maximum=2))) == 2  # nothing had changed


def generate__of_a_stream_that_was_not_opened_for_it__says_what_to_do(client: ssmd.Client) -> None:
    with client.open("plain", MODEL) as stream, pytest.raises(ssmd.Closed, match="generates=True"):
        list(stream.generate([1]))
    with client.open("words", MODEL, generates=True) as stream, pytest.raises(TypeError, match="tokenizer"):
        list(stream.generate("once"))
    with pytest.raises(ssmd.Refused, match="signal"):
        client.open("signal", "forecast", rate=360, top_k=2)


# ---- text


def text__of_characters_over_many_tokens__comes_by_whole_characters(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tokenizer_make(tmp_path / "tokenizer.json")))
    ids = tokenizer.encode("aé漢😀b").ids
    writing = Writing(tokenizer, [])
    pieces = [writing.add(ssmd.Token(i, 0.0, 0, np.empty(0, np.void))).text for i in ids]
    assert pieces == ["a", "", "é", "", "", "漢", "", "", "", "😀", "b"]


def generate__of_text__gives_the_text_of_its_tokens(client: ssmd.Client, tmp_path: Path) -> None:
    path = tokenizer_make(tmp_path / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    assert len(json.loads(path.read_text())["model"]["vocab"]) == VOCAB
    with client.open("text", MODEL, generates=True, tokenizer=path) as stream:
        drawn = list(stream.generate("once ", maximum=200, temperature=4, seed=2))
    with client.open("ids", MODEL, generates=True) as stream:
        same = [t.token for t in stream.generate(tokenizer.encode("once ").ids, maximum=200, temperature=4, seed=2)]
    assert [t.token for t in drawn] == same
    text = "".join(t.text for t in drawn)
    assert tokenizer.decode(same).startswith(text) and len(text) > 50
    with client.open("parent", MODEL, generates=True, tokenizer=path) as stream, stream.fork("child") as child:
        forked = child.generate("once ", maximum=200, temperature=4, seed=2)  # text, by the parent's tokenizer
        assert [t.token for t in forked] == same
    with client.open("word", MODEL, generates=True, tokenizer=tokenizer) as stream:
        with pytest.raises(ValueError, match="stop: 'never'"):
            list(stream.generate("once", stop=["never"]))
        stopped = list(
            stream.generate("once ", maximum=200, temperature=4, seed=2, stop=[tokenizer.id_to_token(same[9]) or ""])
        )
        assert stopped[-1].token == same[9] and len(stopped) <= 10


# ---- asyncio


def aio_generations__many_at_once__are_each_their_own(daemon: Daemon) -> None:
    async def one(client: ssmd.aio.Client, seed: int) -> list[int]:
        async with client.open(f"aio{seed}", MODEL, generates=True) as stream:
            return [t.token async for t in stream.generate([1, 2], maximum=100, temperature=4, seed=seed)]

    async def all() -> list[list[int]]:
        async with ssmd.aio.connect(daemon.endpoint) as client:
            many = await asyncio.gather(*(one(client, seed) for seed in range(20)))
            async with client.open("early", MODEL, generates=True) as stream:
                async with contextlib.aclosing(stream.generate([1], maximum=1 << 40)) as drawn:
                    async for _ in drawn:
                        break
                assert stream.ending == ssmd.Ending.CANCELLED
            return many

    many = asyncio.run(all())
    with ssmd.connect(daemon.endpoint) as client:
        for seed in (0, 7, 19):
            with client.open("alone", MODEL, generates=True) as stream:
                assert many[seed] == [t.token for t in stream.generate([1, 2], maximum=100, temperature=4, seed=seed)]


def generate__of_forks_and_images_of_one_prompt__is_as_of_the_whole(client: ssmd.Client) -> None:
    prompt, options = [7, 1, 4, 2], {"temperature": 4.0, "seed": 11, "maximum": 40}
    with client.open("straight", MODEL, generates=True, top_k=2) as stream:
        want = [(t.token, t.top.tobytes()) for t in stream.generate(prompt, **options)]  # type: ignore[arg-type]
    with client.open("cache", MODEL, generates=True, top_k=2) as cache:
        cache.push(prompt[:-1])
        image = cache.snapshot()
        forks = [cache.fork(f"fork{i}") for i in range(3)] + [client.restore(image, "restored")]
    for stream in forks:
        assert (stream.next, stream.out_channels) == (3, 6)
        assert [(t.token, t.top.tobytes()) for t in stream.generate(prompt[-1:], **options)] == want  # type: ignore[arg-type]
        stream.close()


def snapshot__of_a_stream_that_generates__is_refused_until_it_has_ended(client: ssmd.Client) -> None:
    with client.open("busy", MODEL, generates=True) as stream:
        drawing = stream.generate([1], maximum=1 << 40)
        next(drawing)
        for ask in (lambda: client.snapshot("busy"), lambda: client.fork("busy", "other")):
            with pytest.raises(ssmd.Refused, match="generates") as refused:
                ask()
            assert refused.value.code == ssmd.Code.BUSY
        drawing.close()  # type: ignore[attr-defined]
        assert client.snapshot("busy").index == stream.next
    with pytest.raises(ssmd.Refused, match="keeps no history"):
        client.open("both", MODEL, generates=True, history=(64, 64))
