# SPDX-License-Identifier: Apache-2.0
"""lindermanlab/S5 and the package s5-pytorch; make_s5.py and make_s5_torch.py made the checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from converting import HERE, altered, check, refusal, settings
from ssmd.convert.checkpoint import load
from ssmd.convert.errors import ConvertError

Capture = pytest.CaptureFixture[str]
SETTINGS = {
    "s5-batchnorm": "",
    "s5-layernorm": (
        "prenorm=false activation=half_glu2 mode=last discretization=bilinear conj_sym=false clip_eigs=true"
    ),
    "s5-full-glu": "mode=last",
    "s5-gelu": "prenorm=false mode=last",
    "s5-torch": "",
    "s5-torch-blocks": "",
}
SEQ = "encoder.layers_0.seq."


def checkpoint(case: str) -> Path:
    """The file of a case."""
    return next((HERE / case).glob("checkpoint.*"))


@pytest.mark.parametrize("mode", ["step", "scan"])
@pytest.mark.parametrize("case", SETTINGS)
def s5__published_checkpoint__computes_what_its_own_code_does(case: str, mode: str, tmp_path: Path) -> None:
    check(case, checkpoint(case), tmp_path / "out", mode, *settings(SETTINGS[case]))


def s5__parameters_alone__are_the_same_model(tmp_path: Path) -> None:
    whole = msgpack.unpackb(checkpoint("s5-gelu").read_bytes())
    (tmp_path / "in").write_bytes(msgpack.packb(whole["params"]))
    check("s5-gelu", tmp_path / "in", tmp_path / "out", "step", *settings(SETTINGS["s5-gelu"]))


@pytest.mark.parametrize(
    ("case", "words", "changes", "said"),
    [
        ("s5-gelu", "", {f"{SEQ}C1": (6, 4, 2), f"{SEQ}C2": (6, 4, 2)}, f"{SEQ}C reads a recording from its end"),
        ("s5-gelu", "", {f"{SEQ}C": (6, 8, 2)}, f"{SEQ}C reads a recording from its end"),
        ("s5-gelu", "", {f"{SEQ}C": None}, f"tensor {SEQ}C is missing"),
        ("s5-gelu", "", {f"{SEQ}C": ()}, f"tensor {SEQ}C has shape (), not (6, 4, 2)"),
        ("s5-gelu", "", {f"{SEQ}log_step": (4,)}, f"tensor {SEQ}log_step has shape (4,), not (4, 1)"),
        ("s5-gelu", "", {"decoder_mu.kernel": (6, 6)}, "s5 knows no tensor decoder_mu.kernel"),
        ("s5-gelu", "activation=half_glu1", {}, "--set activation: s5 has no such setting"),
        ("s5-gelu", "discretization=dirac", {}, "--set discretization: 'dirac' cannot be expressed"),
        ("s5-batchnorm", "activation=full_glu", {}, "--set activation: 'full_glu' cannot be expressed"),
        ("s5-batchnorm", "mode=first", {}, "--set mode: 'first' cannot be expressed; there are: pool, last"),
        ("s5-batchnorm", "prenorm=1", {}, "prenorm is 1, which is no bool"),
        ("s5-torch", "", {"seq.C": (6, 16)}, "seq.C reads a recording from its end"),
        ("s5-torch", "", {"seq.B": None}, "tensor seq.B is missing"),
        ("s5-torch", "", {"other.seq.Lambda": (8,)}, "has 2 S5 modules outside of blocks"),
        ("s5-torch-blocks", "", {"0.ff_enc.weight": (9, 6)}, "0.ff_enc puts out 9 channels and 0.ff_dec takes 6"),
        ("s5-torch-blocks", "", {"2.weight": (6, 6)}, "s5-pytorch knows no tensor 2.weight"),
    ],
)
def s5__what_does_not_fit__is_refused_by_name(
    case: str, words: str, changes: dict[str, Any], said: str, tmp_path: Path, capsys: Capture
) -> None:
    tensors = {name: None if shape is None else np.ones(shape, np.float32) for name, shape in changes.items()}
    source = altered(checkpoint(case), tmp_path / "in.safetensors", tensors) if changes else checkpoint(case)
    assert said in refusal(capsys, source, tmp_path / "out", *settings(words))


def flax_file__types__are_read_as_they_are(tmp_path: Path) -> None:
    def array(shape: tuple[int, ...], name: str, raw: bytes) -> msgpack.ExtType:
        return msgpack.ExtType(1, msgpack.packb((shape, name, raw)))

    tree = {
        "params": {
            "wide": array((2,), "float64", np.array([1 / 3, 2]).tobytes()),
            "half": {"b": array((1, 2), "bfloat16", np.array([0x3F80, 0xC000], np.uint16).tobytes())},
            "one": msgpack.ExtType(3, msgpack.packb(((), "int32", np.int32(7).tobytes()))),
            "complex": msgpack.ExtType(2, msgpack.packb((1.0, 2.0))),
        },
        "step": 3,
    }
    (tmp_path / "in").write_bytes(msgpack.packb(tree))
    found = load(tmp_path / "in")
    assert found.other == {"step": 3}
    assert {name: array.tolist() for name, array in found.tensors.items()} == {
        "wide": [1 / 3, 2],
        "half.b": [[1, -2]],
        "one": 7,
    }


@pytest.mark.parametrize("bad", [((3,), "float32"), ((-1,), "float32"), ((2.0,), "float32"), ((2,), "object")])
def flax_file__array_that_is_none__is_refused(bad: tuple[Any, str], tmp_path: Path) -> None:
    array = msgpack.ExtType(1, msgpack.packb((*bad, bytes(8))))
    (tmp_path / "in").write_bytes(msgpack.packb({"params": {"a": array}}))
    with pytest.raises(ConvertError, match="is no whole file of flax"):
        load(tmp_path / "in")


def flax_file__truncated_anywhere__is_refused(tmp_path: Path) -> None:
    whole = checkpoint("s5-gelu").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "in").write_bytes(whole[:length])
        with pytest.raises(ConvertError):
            load(tmp_path / "in")


def flax_file__any_byte_flipped__is_read_or_refused(tmp_path: Path) -> None:
    whole = bytearray(checkpoint("s5-gelu").read_bytes())
    for at in range(len(whole)):
        for flip in (0xFF, 0x80, 0x01):
            whole[at] ^= flip
            (tmp_path / "in").write_bytes(whole)
            try:
                load(tmp_path / "in")
            except ConvertError as error:
                assert str(tmp_path / "in") in str(error)
            whole[at] ^= flip


def flax_file__depth_without_end__is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"\x81\xa1a" * 100_000 + b"\xc0")
    with pytest.raises(ConvertError, match="is no whole file of flax"):
        load(tmp_path / "in")


def flax_file__package_missing__is_asked_for(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgpack", None)
    assert "needs the package msgpack" in refusal(capsys, checkpoint("s5-gelu"), tmp_path / "out", *settings(""))
