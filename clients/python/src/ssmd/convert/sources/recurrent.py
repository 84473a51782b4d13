# SPDX-License-Identifier: Apache-2.0
"""torch's nn.LSTM and nn.GRU, several layers of one size, and a Linear after them if there is one.

The names are torch's: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, with the module's own name before them. The
linear layer is the only other weight there is. A state_dict has only what was trained: dropout is nothing when a model
runs, but whether something without weights stood between the two, nobody can see; the notes say so.
"""

import re
from typing import Any

import numpy as np

from ..checkpoint import Checkpoint
from ..errors import ConvertError
from ..model import Model
from ..options import Options

NAME = "torch-rnn"
HELP = "a state_dict of nn.LSTM or nn.GRU, alone or with a Linear after it; needs --rate"

KINDS = {4: "lstm", 3: "gru"}  # by gates, whose order and equations are torch's
FIRST = re.compile(r"(.*\.)?weight_ih_l0")


def recognises(checkpoint: Checkpoint) -> bool:
    """By the first layer's input weights."""
    return any(FIRST.fullmatch(name) for name in checkpoint.tensors)


def convert(checkpoint: Checkpoint, options: Options) -> Model:
    """Layers cell0, cell1, ... and head."""
    prefix = _prefix(checkpoint)
    _refuse_variants(checkpoint, prefix)
    rows, inputs = checkpoint.take(f"{prefix}weight_ih_l0", None, None).shape
    hidden = checkpoint.take(f"{prefix}weight_hh_l0", rows, None).shape[1]
    kind = KINDS.get(rows // hidden) if hidden and rows % hidden == 0 else None
    if kind is None:
        raise ConvertError(
            f"{prefix}weight_ih_l0 has {rows} rows for {hidden} units: neither an LSTM (4 each) nor a GRU (3)",
            checkpoint.path,
            "an nn.RNN does not say its function (tanh or relu): write its directory by hand",
        )
    model = Model({}, {})
    layers: list[dict[str, Any]] = []
    wide = inputs
    while f"{prefix}weight_ih_l{len(layers)}" in checkpoint.tensors:
        n = len(layers)
        for part, shape in (("weight_ih", (rows, wide)), ("weight_hh", (rows, hidden))):
            model.tensors[f"cell{n}.{part}"] = checkpoint.take(f"{prefix}{part}_l{n}", *shape)
        for part in ("bias_ih", "bias_hh"):
            absent = f"{prefix}bias_ih_l0" not in checkpoint.tensors  # bias=False, and then of every layer
            bias = np.zeros(rows, np.float32) if absent else checkpoint.take(f"{prefix}{part}_l{n}", rows)
            model.tensors[f"cell{n}.{part}"] = bias
        layers.append({"type": kind, "name": f"cell{n}", "in": wide, "hidden": hidden})
        wide = hidden
    model.notes.append(f"nn.{kind.upper()}: {inputs} channels in, {len(layers)} layers of {hidden}")
    wide = _head(checkpoint, prefix, hidden, layers, model)
    rate = options.sample_rate()
    model.config = {
        "model_type": "ssmd",
        "format_version": 1,
        "name": options.name,
        "input": {"kind": "signal", "channels": inputs, "sample_rate": rate},
        "output": {"kind": "signal", "channels": wide, "sample_rate": rate},
        "layers": layers,
    }
    return model


def _prefix(checkpoint: Checkpoint) -> str:
    """The module's own name, with its dot."""
    found = [match[1] or "" for name in checkpoint.tensors if (match := FIRST.fullmatch(name))]
    if len(found) != 1:
        names = ", ".join(name.removesuffix(".") for name in sorted(found)) or "none"
        raise ConvertError(
            f"has {len(found)} recurrent modules ({names})",
            checkpoint.path,
            "one is converted: in what order several follow one another, their weights do not say",
        )
    return found[0]


def _refuse_variants(checkpoint: Checkpoint, prefix: str) -> None:
    """What torch can do and a stream, or a layer of ours, cannot."""
    why = None
    for name in checkpoint.tensors:
        if name.startswith(prefix) and name.endswith("_reverse"):
            why = "is bidirectional: it reads a recording from its end, too, which a live stream has not"
        elif name.startswith(f"{prefix}weight_hr_l"):
            why = "projects its state (proj_size), which the lstm layer cannot"
    if why:
        raise ConvertError(f"{prefix.removesuffix('.') or 'the module'} {why}", checkpoint.path, "train one without")


def _head(checkpoint: Checkpoint, prefix: str, hidden: int, layers: list[dict[str, Any]], model: Model) -> int:
    """The linear layer, if there is one; the width of what comes out."""
    others = [
        name.removesuffix("weight")
        for name, tensor in checkpoint.tensors.items()
        if name.endswith(".weight") and tensor.ndim == 2 and not name.startswith(f"{prefix}weight_")
    ]
    if len(others) != 1:  # of several, the surplus is refused by name
        return hidden
    name = others[0]
    model.tensors["head.weight"] = checkpoint.take(f"{name}weight", None, hidden)
    out = int(model.tensors["head.weight"].shape[0])
    bias = f"{name}bias" in checkpoint.tensors
    if bias:
        model.tensors["head.bias"] = checkpoint.take(f"{name}bias", out)
    layers.append({"type": "linear", "name": "head", "in": hidden, "out": out, "bias": bias})
    model.notes.append(
        f"{name.removesuffix('.')}: Linear of {out} channels on the output of each frame; if a function without "
        "weights stood around it, add it to config.json as an activation"
    )
    return out
