# SPDX-License-Identifier: Apache-2.0
"""Models of state-spaces/s4, version 3 and 4: example.py's S4Model, a SequenceModel of S4 blocks, or one block alone.

A block is S4D (models/s4/s4d.py), S4 (version 3) or S4Block (version 4): the kernel (s4_kernel.py) plus D, an
activation, a linear layer and mostly a GLU. Dropout does nothing when a model runs. A kernel of l_max frames is cut off
there in training; a state forgets nothing, so that a stream longer than l_max sees its whole past.

S4Model takes the mean over time, and a stream has the mean so far; a SequenceModel's decoder takes the last frame or
the mean, which the checkpoint does not say. Tensors of a gate, a bottleneck, a feed-forward layer, a pool or a learned
residual are refused by name.
"""

import re

from ..checkpoint import Checkpoint
from ..errors import ConvertError
from ..graph import Graph, Layer, activation, residual
from ..model import Model
from ..options import Options
from . import s4_kernel
from .torch_nn import linear, norm

NAME = "s4"
HELP = (
    "state-spaces/s4, version 3 and 4, S4 and S4D; needs --rate; settings: prenorm, "
    "disc, real_transform, imag_transform, dt_transform, activation, final_act, residual, mode, l_kernel"
)

KERNEL = r"(layer\.)?(kernel\.)?kernel\.C"  # of a block: version 4's S4Block, version 3's S4, or S4D
EXAMPLE = re.compile(rf"(.*?)s4_layers\.0\.{KERNEL}")
SEQUENCE = re.compile(rf"(.*?)layers\.0\.layer\.{KERNEL}")
BLOCK = re.compile(rf"(){KERNEL}")
ACTIVATIONS = ("gelu", "relu", "silu", "tanh", "sigmoid", "softplus", "id")


def recognises(checkpoint: Checkpoint) -> bool:
    """By a kernel's C in one of the three."""
    return any(form.fullmatch(name) for form in (EXAMPLE, SEQUENCE, BLOCK) for name in checkpoint.tensors)


def convert(checkpoint: Checkpoint, options: Options) -> Model:
    """Layers encoder, layers.N.norm, layers.N.ssm, layers.N.output_linear, norm and decoder."""
    for form, make in ((EXAMPLE, _example), (SEQUENCE, _sequence), (BLOCK, _alone)):
        if match := next(filter(None, map(form.fullmatch, checkpoint.tensors)), None):
            return make(checkpoint, match[1], options)
    raise ConvertError("has no S4 kernel", checkpoint.path, "is it of state-spaces/s4?")


def _example(checkpoint: Checkpoint, prefix: str, options: Options) -> Model:
    """S4Model of example.py."""
    graph = Graph()
    prenorm = options.take("prenorm", False)
    layers = [linear(checkpoint, f"{prefix}encoder.", graph, "encoder")]
    n = 0
    while s4_kernel.is_at(checkpoint, _inner(checkpoint, f"{prefix}s4_layers.{n}.")):
        block = _block(checkpoint, f"{prefix}s4_layers.{n}.", graph, f"layers.{n}", options)
        beside = norm(checkpoint, f"{prefix}norms.{n}.", graph, f"layers.{n}.norm")
        layers += [residual([beside, *block])] if prenorm else [residual(block), beside]
        n += 1
    layers += [{"type": "mean"}, linear(checkpoint, f"{prefix}decoder.", graph, "decoder")]
    graph.notes += [
        f"S4Model of {n} blocks",
        "its mean over time is the mean so far: the last output is the recording's",
    ]
    return graph.model(options, (layers[0]["in"], layers[-1]["out"]), layers)


def _sequence(checkpoint: Checkpoint, prefix: str, options: Options) -> Model:
    """SequenceModel, between a linear encoder and a SequenceDecoder where the file is a whole training's."""
    graph = Graph()
    root = prefix.removesuffix("model.")
    layers: list[Layer] = []
    if f"{root}encoder.0.weight" in checkpoint.tensors:
        layers.append(linear(checkpoint, f"{root}encoder.0.", graph, "encoder"))
    prenorm = f"{prefix}norm.norm.weight" in checkpoint.tensors
    around = options.take("residual", True)
    n = 0
    while s4_kernel.is_at(checkpoint, _inner(checkpoint, f"{prefix}layers.{n}.layer.")):
        block = _block(checkpoint, f"{prefix}layers.{n}.layer.", graph, f"layers.{n}", options)
        beside: list[Layer] = []
        if f"{prefix}layers.{n}.norm.norm.weight" in checkpoint.tensors:
            beside = [norm(checkpoint, f"{prefix}layers.{n}.norm.norm.", graph, f"layers.{n}.norm")]
        inside = beside + block if prenorm else block
        layers += ([residual(inside)] if around else inside) + ([] if prenorm else beside)
        n += 1
    width = int(graph.tensors["layers.0.ssm.D"].shape[0])
    if prenorm:
        layers.append(norm(checkpoint, f"{prefix}norm.norm.", graph, "norm"))
    if f"{root}decoder.0.output_transform.weight" in checkpoint.tensors:
        layers += [{"type": "mean"}] if options.take("mode", "last", ("last", "pool")) == "pool" else []
        layers.append(linear(checkpoint, f"{root}decoder.0.output_transform.", graph, "decoder"))
    graph.notes.append(f"SequenceModel of {n} blocks, norms {'before' if prenorm else 'after'} them")
    return graph.model(options, (layers[0].get("in", width), layers[-1].get("out", width)), layers)


def _alone(checkpoint: Checkpoint, _: str, options: Options) -> Model:
    """One block."""
    graph = Graph()
    block = _block(checkpoint, "", graph, "layers.0", options)
    width = int(graph.tensors["layers.0.ssm.D"].shape[0])
    graph.notes.append("one block, without a residual around it")
    return graph.model(options, (width, width), block)


def _inner(checkpoint: Checkpoint, at: str) -> str:
    """Where the kernel and D of a block are: version 4's S4Block has them in a layer of its own."""
    return f"{at}layer." if s4_kernel.is_at(checkpoint, f"{at}layer.") else at


def _block(checkpoint: Checkpoint, at: str, graph: Graph, name: str, options: Options) -> list[Layer]:
    inner = _inner(checkpoint, at)
    D = checkpoint.take_any(f"{inner}D")
    minimal = D.ndim == 1  # s4d.py, which has one output for each channel and no choice of activations
    kernel = s4_kernel.read(checkpoint, inner, options, D.shape[0] if D.ndim == 2 else 1)
    D = checkpoint.take(f"{inner}D", *(() if minimal else (1,)), kernel.channels)
    layers = [s4_kernel.layer(graph, f"{name}.ssm", kernel, D.reshape(kernel.channels))]
    layers += _function("gelu" if minimal else options.take("activation", "gelu", ACTIVATIONS))
    plain = f"{at}output_linear.weight" in checkpoint.tensors
    if not plain and f"{at}output_linear.0.weight" not in checkpoint.tensors:
        return layers  # final_act=None
    mix = linear(checkpoint, f"{at}output_linear.{'' if plain else '0.'}", graph, f"{name}.output_linear")
    layers.append(mix)
    if mix["out"] == 2 * kernel.channels:
        layers.append({"type": "glu"})
    elif not plain:
        layers += _function(options.need("final_act", "id", "the linear layer is not followed by a GLU", ACTIVATIONS))
    return layers


def _function(fn: str) -> list[Layer]:
    return [] if fn == "id" else [activation(fn)]
