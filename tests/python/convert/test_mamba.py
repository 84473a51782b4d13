# SPDX-License-Identifier: Apache-2.0
"""Language models of state-spaces/mamba, as published and in GGUF; make_mamba.py and make_gguf.py made them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from converting import HERE, check, refusal
from ssmd import convert
from ssmd.convert.checkpoint import load
from ssmd.convert.errors import ConvertError

Capture = pytest.CaptureFixture[str]
METADATA = 1500  # bytes of gguf-q8/model.gguf that are names, sizes and places
MODES = pytest.mark.parametrize("mode", ["step", "scan"])


def copied(case: str, folder: Path, **config: Any) -> Path:
    """A case with other keys in its configuration; ssm_cfg's are added to it."""
    there = shutil.copytree(HERE / case, folder / case)
    keys = json.loads((there / "config.json").read_text())
    keys["ssm_cfg"] |= config.pop("ssm_cfg", {})
    (there / "config.json").write_text(json.dumps(keys | config))
    return there


def with_tensors(there: Path, **changed: NDArray[Any] | None) -> Path:
    """The same weights in a safetensors file, some of them changed or without any."""
    tensors = {name: np.array(tensor) for name, tensor in load(there / "pytorch_model.bin").tensors.items()}
    for name, tensor in changed.items():
        del tensors[name]
        if tensor is not None:
            tensors[name] = tensor
    (there / "pytorch_model.bin").unlink()
    save_file(tensors, there / "model.safetensors")
    return there


@MODES
@pytest.mark.parametrize("case", ["mamba1", "mamba1-options", "mamba2", "mamba2-groups"])
def mamba__published_checkpoint__computes_what_mamba_ssm_does(case: str, mode: str, tmp_path: Path) -> None:
    check(case, HERE / case, tmp_path / "out", mode)


def mamba__safetensors_file__is_the_same_model(tmp_path: Path) -> None:
    check("mamba1", with_tensors(copied("mamba1", tmp_path)), tmp_path / "out", "step")


def mamba__tied_head__is_not_written_twice(tmp_path: Path, capsys: Capture) -> None:
    assert convert.main([str(HERE / "mamba1"), str(tmp_path / "out")]) == 0
    assert "lm_head.weight: not written" in capsys.readouterr().out
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert tensors["backbone.embeddings.weight"].shape == (32, 12)  # 29 tokens, padded to a multiple of 8
    assert "lm_head.weight" not in tensors


def mamba__head_unlike_the_embedding_that_it_is_tied_to__is_refused(tmp_path: Path, capsys: Capture) -> None:
    there = with_tensors(copied("mamba1", tmp_path), **{"lm_head.weight": np.zeros((32, 12), np.float32)})
    assert "tensor lm_head.weight is not the embedding" in refusal(capsys, there, tmp_path / "out")


@pytest.mark.parametrize(
    ("case", "config", "words"),
    [
        ("mamba1", {"rms_norm": False}, "key rms_norm is False; only True"),
        ("mamba1", {"d_intermediate": 24}, "key d_intermediate is 24; only 0"),
        ("mamba1", {"attn_layer_idx": [1]}, "key attn_layer_idx is [1]; only []"),
        ("mamba1", {"sliding": 3}, "key sliding is not one of mamba_ssm's"),
        ("mamba1", {"n_layer": 0}, "key n_layer is 0"),
        ("mamba1", {"n_layer": "2"}, "n_layer is '2', which is no int"),
        ("mamba1", {"ssm_cfg": {"headdim": 4}}, "key ssm_cfg headdim is not one of mamba_ssm's"),
        ("mamba1", {"ssm_cfg": {"layer": "Mamba3"}}, "ssm_cfg layer is Mamba3; known are Mamba1 and Mamba2"),
        ("mamba2", {"ssm_cfg": {"norm_before_gate": True}}, "key ssm_cfg norm_before_gate is True; only False"),
        ("mamba2", {"ssm_cfg": {"D_has_hdim": True}}, "key ssm_cfg D_has_hdim is True; only False"),
        ("mamba2", {"ssm_cfg": {"d_ssm": 12}}, "key ssm_cfg d_ssm is 12; only None"),
        ("mamba2", {"ssm_cfg": {"headdim": 7}}, "headdim 7 does not divide 24 channels"),
        ("mamba2", {"ssm_cfg": {"dt_limit": [0, "inf"]}}, "key ssm_cfg dt_limit is [0, 'inf']"),
        ("mamba1", {"ssm_cfg": {"d_state": 8}}, "mixer.x_proj.weight has shape (33, 24), not (17, 24)"),
        ("mamba1", {"vocab_size": 70}, "backbone.embedding.weight has shape (32, 12), not (72, 12)"),
        ("mamba1", {"n_layer": 3}, "tensor backbone.layers.2.norm.weight is missing"),
        ("mamba1", {"n_layer": 1}, "mamba knows no tensor backbone.layers.1.mixer.A_log"),
    ],
)
def mamba__configuration_that_cannot_be_expressed__is_refused_by_name(
    case: str, config: dict[str, Any], words: str, tmp_path: Path, capsys: Capture
) -> None:
    assert words in refusal(capsys, copied(case, tmp_path, **config), tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "words"), [(None, "cannot be read (No such file"), ("{", "is no JSON"), ("[]", "is no JSON object")]
)
def mamba__configuration_that_is_none__is_refused(
    text: str | None, words: str, tmp_path: Path, capsys: Capture
) -> None:
    there = copied("mamba1", tmp_path)
    (there / "config.json").unlink() if text is None else (there / "config.json").write_text(text)
    said = refusal(capsys, there, tmp_path / "out")
    assert f"{there}/config.json: {words}" in said


@MODES
@pytest.mark.parametrize("case", ["gguf-q8", "gguf-half"])
def mamba_gguf__stored_weights__compute_what_transformers_does(case: str, mode: str, tmp_path: Path) -> None:
    check(case, HERE / case / "model.gguf", tmp_path / "out", mode)


def mamba_gguf__every_truncation__is_refused(tmp_path: Path, capsys: Capture) -> None:
    whole = (HERE / "gguf-q8" / "model.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in [*range(4, METADATA, 3), *range(METADATA, len(whole), 997)]:
        cut.write_bytes(whole[:size])
        assert "cut.gguf" in refusal(capsys, cut, tmp_path / "out")


def mamba_gguf__every_flipped_bit_before_the_weights__is_refused_or_read(tmp_path: Path) -> None:
    whole = bytearray((HERE / "gguf-q8" / "model.gguf").read_bytes())
    refused = 0
    for at in range(4, METADATA):
        whole[at] ^= 1 << at % 8
        path = tmp_path / str(at)  # a new one each time: tensors of the last one may still be mapped
        path.write_bytes(whole)
        whole[at] ^= 1 << at % 8
        try:
            load(path)
        except ConvertError:
            refused += 1
        path.unlink()
    assert refused > METADATA // 2


def mamba_gguf__list_longer_than_the_file__is_refused(tmp_path: Path, capsys: Capture) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "mamba")
    writer.add_token_types([0x55] * 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    whole = (tmp_path / "model.gguf").read_bytes()
    count = whole.index((3).to_bytes(8, "little") + b"\x55")
    (tmp_path / "model.gguf").write_bytes(whole[:count] + (1 << 60).to_bytes(8, "little") + whole[count + 8 :])
    assert "ends before byte" in refusal(capsys, tmp_path / "model.gguf", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mamba.ssm.dt_b_c_rms": True}, "key mamba.ssm.dt_b_c_rms"),
        ({"mamba.ssm.state_size": 8}, "tensor blk.0.ssm_x.weight has shape (10, 64), not (18, 64)"),
        ({"mamba.block_count": 1}, "mamba-gguf knows no tensor blk.1.attn_norm.weight"),
    ],
)
def mamba_gguf__metadata_that_do_not_fit__are_refused(
    change: dict[str, int], words: str, tmp_path: Path, capsys: Capture
) -> None:
    path = Path(shutil.copy(HERE / "gguf-q8" / "model.gguf", tmp_path))
    reader = gguf.GGUFReader(path, "r+")
    for key, value in change.items():
        reader.fields[key].parts[-1][0] = value
    reader.data.flush()
    assert words in refusal(capsys, path, tmp_path / "out")


def mamba_gguf__other_architecture__is_of_no_known_source(tmp_path: Path, capsys: Capture) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    said = refusal(capsys, tmp_path / "model.gguf", tmp_path / "out")
    assert "its tensors (token_embd.weight, ...) are of no known source; known are: mamba" in said
