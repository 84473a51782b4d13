# SPDX-License-Identifier: Apache-2.0
"""Language models of state-spaces/mamba: what MambaLMHeadModel.save_pretrained writes, Mamba-1 and Mamba-2.

They are the models of transformers under nearly the same names, so what comes out is a directory in that layout, which
says everything and keeps a tied head tied. Defaults are those of mamba_ssm 2.3: of MambaConfig, and of the arguments of
Mamba and Mamba2, which `ssm_cfg` holds. A key that mamba_ssm does not know is refused, as it refuses it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import huggingface
from ..checkpoint import Checkpoint
from ..errors import ConvertError
from ..model import Model
from ..options import Options
from ..values import typed

NAME = "mamba"
HELP = "a language model of state-spaces/mamba (Mamba-1, Mamba-2), its config.json beside it"

EMBEDDING = "backbone.embedding.weight"  # transformers says embeddings
EPS = 1e-5  # of every norm; no key says another

# What a key must be, because nothing of ours does what it does otherwise.
ONLY = {"rms_norm": True, "d_intermediate": 0, "attn_layer_idx": []}
MIXER_ONLY = {"d_ssm": None, "D_has_hdim": False, "norm_before_gate": False}

# Keys that are read, and those that only matter to training or to the choice of a kernel.
KEYS = {"d_model", "n_layer", "vocab_size", "pad_vocab_size_multiple", "ssm_cfg", "tie_embeddings", *ONLY}
KEYS |= {"attn_cfg", "residual_in_fp32", "fused_add_norm"}
MIXER_KEYS = {
    "Mamba1": {"dt_rank", "dt_init", "dt_scale", "use_fast_path"},
    "Mamba2": {"headdim", "ngroups", "rmsnorm", "dt_limit", *MIXER_ONLY}
    | {"conv_init", "A_init_range", "chunk_size", "use_mem_eff_path", "sequence_parallel"},
}
BOTH_KEYS = {"layer", "d_state", "d_conv", "expand", "conv_bias", "bias", "dt_min", "dt_max", "dt_init_floor"}


def recognises(checkpoint: Checkpoint) -> bool:
    """By the names of MambaLMHeadModel."""
    return EMBEDDING in checkpoint.tensors and "backbone.layers.0.mixer.A_log" in checkpoint.tensors


def convert(checkpoint: Checkpoint, options: Options) -> Model:
    """The same tensors, under a configuration of transformers."""
    config, where = checkpoint.config(), checkpoint.path.parent / "config.json"
    mixer = config.get("ssm_cfg") or {}
    layer = typed(mixer, "layer", "Mamba1", where)
    if layer not in MIXER_KEYS:
        raise ConvertError(f"ssm_cfg layer is {layer}", where, f"known are {' and '.join(MIXER_KEYS)}")
    _check(config, "", KEYS, ONLY, where)
    _check(mixer, "ssm_cfg ", MIXER_KEYS[layer] | BOTH_KEYS, MIXER_ONLY, where)
    written = _common(config, mixer, where)
    written |= (_mamba2 if layer == "Mamba2" else _mamba)(mixer, written, where)

    model = Model(written, {})
    for name, shape in huggingface.tensors(written).items():
        model.tensors[name] = checkpoint.take(EMBEDDING if name == huggingface.EMBEDDING else name, *shape)
    head = checkpoint.tensors.get(huggingface.HEAD)
    if written["tie_word_embeddings"] and head is not None:
        if not np.array_equal(head, model.tensors[huggingface.EMBEDDING]):
            what = f"tensor {huggingface.HEAD} is not the embedding, though config.json ties the two"
            raise ConvertError(what, checkpoint.path, "set tie_embeddings to false if the head is meant")
        checkpoint.drop(huggingface.HEAD)
        model.notes.append(f"{huggingface.HEAD}: not written, it is the embedding (tie_embeddings)")
    model.notes.append(f"{layer}: width {written['hidden_size']}, {written['vocab_size']} tokens, padding included")
    return model


def _check(config: Mapping[str, Any], part: str, keys: set[str], only: Mapping[str, Any], where: Path) -> None:
    """No key that nobody knows, and none with a value that cannot be expressed."""
    for key, value in config.items():
        if key not in keys:
            raise ConvertError(f"key {part}{key} is not one of mamba_ssm's", where, "what it changes cannot be known")
        if key in only and value != only[key]:
            raise ConvertError(f"key {part}{key} is {value!r}", where, f"only {only[key]!r} can be converted")


def _common(config: Mapping[str, Any], mixer: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """What both kinds have; the numbers that a shape is made of are at least 1."""
    dim = _count(config, "d_model", 2560, where)
    multiple = _count(config, "pad_vocab_size_multiple", 8, where)
    return {
        "hidden_size": dim,
        "num_hidden_layers": _count(config, "n_layer", 64, where),
        "vocab_size": -(-_count(config, "vocab_size", 50277, where) // multiple) * multiple,
        "intermediate_size": int(typed(mixer, "expand", 2.0, where) * dim),
        "conv_kernel": _count(mixer, "d_conv", 4, where),
        "use_bias": typed(mixer, "bias", False, where),
        "use_conv_bias": typed(mixer, "conv_bias", True, where),
        "layer_norm_epsilon": EPS,
        "hidden_act": "silu",
        "tie_word_embeddings": typed(config, "tie_embeddings", True, where),
    }


def _mamba(mixer: Mapping[str, Any], common: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """What Mamba-1 has of its own."""
    auto = mixer.get("dt_rank", "auto") == "auto"
    return {
        "model_type": "mamba",
        "state_size": _count(mixer, "d_state", 16, where),
        "time_step_rank": -(-common["hidden_size"] // 16) if auto else _count(mixer, "dt_rank", 1, where),
    }


def _mamba2(mixer: Mapping[str, Any], common: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """What Mamba-2 has of its own."""
    inner = common["intermediate_size"]
    head_dim = _count(mixer, "headdim", 64, where)
    if inner % head_dim:
        raise ConvertError(f"key ssm_cfg headdim {head_dim} does not divide {inner} channels", where, "correct it")
    limit = mixer.get("dt_limit", [0.0, float("inf")])
    if not (isinstance(limit, list) and len(limit) == 2 and all(type(bound) in (int, float) for bound in limit)):
        raise ConvertError(f"key ssm_cfg dt_limit is {limit!r}", where, "it is two numbers, the least and the most")
    return {
        "model_type": "mamba2",
        "state_size": _count(mixer, "d_state", 128, where),
        "head_dim": head_dim,
        "num_heads": inner // head_dim,
        "n_groups": _count(mixer, "ngroups", 1, where),
        "rms_norm": typed(mixer, "rmsnorm", True, where),
        "time_step_limit": limit,
    }


def _count(config: Mapping[str, Any], key: str, default: int, where: Path) -> int:
    value = typed(config, key, default, where)
    if value < 1:
        raise ConvertError(f"key {key} is {value}", where, "it counts something, so it is at least 1")
    return value
