# SPDX-License-Identifier: Apache-2.0
"""The layout of transformers' Mamba and Mamba-2, which the engine reads as it is: what tensors a config.json calls for.

Several sources are these models under other names; they make the configuration, and take each tensor listed here.
"""

from typing import Any

EMBEDDING = "backbone.embeddings.weight"
NORM = "backbone.norm_f.weight"
HEAD = "lm_head.weight"

Shapes = dict[str, tuple[int, ...]]


def tensors(config: dict[str, Any]) -> Shapes:
    """Names and shapes; a tied head has no tensor of its own."""
    dim, vocab = config["hidden_size"], config["vocab_size"]
    shapes: Shapes = {EMBEDDING: (vocab, dim)}
    mixer = _mamba2(config) if config["model_type"] == "mamba2" else _mamba(config)
    if config["use_bias"]:
        mixer |= {f"{part}.bias": mixer[f"{part}.weight"][:1] for part in ("in_proj", "out_proj")}
    if config["use_conv_bias"]:
        mixer["conv1d.bias"] = mixer["conv1d.weight"][:1]
    for layer in range(config["num_hidden_layers"]):
        shapes[f"backbone.layers.{layer}.norm.weight"] = (dim,)
        shapes |= {f"backbone.layers.{layer}.mixer.{name}": shape for name, shape in mixer.items()}
    shapes[NORM] = (dim,)
    return shapes if config["tie_word_embeddings"] else shapes | {HEAD: (vocab, dim)}


def _mamba(config: dict[str, Any]) -> Shapes:
    dim, inner, state = config["hidden_size"], config["intermediate_size"], config["state_size"]
    rank = config["time_step_rank"]
    return {
        "in_proj.weight": (2 * inner, dim),
        "conv1d.weight": (inner, 1, config["conv_kernel"]),
        "x_proj.weight": (rank + 2 * state, inner),
        "dt_proj.weight": (inner, rank),
        "dt_proj.bias": (inner,),
        "A_log": (inner, state),
        "D": (inner,),
        "out_proj.weight": (dim, inner),
    }


def _mamba2(config: dict[str, Any]) -> Shapes:
    dim, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_heads"]
    mixed = inner + 2 * config["n_groups"] * config["state_size"]
    shapes: Shapes = {
        "in_proj.weight": (inner + mixed + heads, dim),
        "conv1d.weight": (mixed, 1, config["conv_kernel"]),
        "dt_bias": (heads,),
        "A_log": (heads,),
        "D": (heads,),
        "out_proj.weight": (dim, inner),
    }
    return shapes | ({"norm.weight": (inner,)} if config["rms_norm"] else {})
