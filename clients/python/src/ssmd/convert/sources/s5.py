# SPDX-License-Identifier: Apache-2.0
"""lindermanlab/S5, in flax: ClassificationModel, or its StackedEncoderModel alone.

A layer is seq (the state-space model), an activation that may be gated by out1 and out2, a residual, and norm before or
after. flax's gelu is the tanh form, its LayerNorm has an eps of 1e-6, and its Dense kernels are (in, out). What the
checkpoint does not say has the defaults of run_train.py. Lambda is used as it is stored; clip_eigs holds its real part
at most at -1e-4. The mean over time becomes the mean so far, and the logits are put out, without the log_softmax that
training takes of them.
"""

import re

import numpy as np

from ..checkpoint import Checkpoint
from ..errors import ConvertError
from ..graph import Array, Graph, Layer, activation, complexes, multiply, pairs, residual
from ..model import Model
from ..options import Options

NAME = "s5"
HELP = (
    "lindermanlab/S5, what flax.serialization wrote; needs --rate; settings: prenorm, activation (half_glu1 or "
    "half_glu2), discretization, conj_sym, clip_eigs, mode (pool or last)"
)

FIRST = re.compile(r"(.*?)layers_0\.seq\.Lambda_re")
DISCRETIZATIONS = ("zoh", "bilinear")
LAYERNORM_EPS, BATCHNORM_EPS = 1e-6, 1e-5  # flax's
LARGEST_REAL = -1e-4  # of Lambda with clip_eigs


def recognises(checkpoint: Checkpoint) -> bool:
    """By the first layer's Lambda."""
    return any(FIRST.fullmatch(name) for name in checkpoint.tensors)


def convert(checkpoint: Checkpoint, options: Options) -> Model:
    """Layers encoder, layers.N.norm, layers.N.seq, layers.N.out and decoder."""
    match = next(filter(None, map(FIRST.fullmatch, checkpoint.tensors)), None)
    if match is None:
        raise ConvertError("has no layers_0.seq.Lambda_re", checkpoint.path, "is it of lindermanlab/S5?")
    prefix = match[1]
    graph = Graph()
    layers = [_dense(checkpoint, f"{prefix}encoder.", graph, "encoder")]
    prenorm = options.take("prenorm", True)
    n = 0
    while f"{prefix}layers_{n}.seq.Lambda_re" in checkpoint.tensors:
        at, name = f"{prefix}layers_{n}.", f"layers.{n}"
        norm = _norm(checkpoint, f"{at}norm.", graph, f"{name}.norm")
        inside = [_seq(checkpoint, f"{at}seq.", graph, f"{name}.seq", options)]
        inside += _activation(checkpoint, at, graph, name, options)
        layers += [residual([norm, *inside])] if prenorm else [residual(inside), norm]
        n += 1
    graph.notes.append(f"{n} layers of {layers[0]['out']} channels")
    width = layers[0]["out"]
    root = prefix.removesuffix("encoder.")
    if f"{root}decoder.kernel" in checkpoint.tensors:
        if options.take("mode", "pool", ("pool", "last")) == "pool":
            layers.append({"type": "mean"})
            graph.notes.append("its mean over time is the mean so far: the last output is the recording's")
        layers.append(_dense(checkpoint, f"{root}decoder.", graph, "decoder"))
        graph.notes.append("puts out logits, without the log_softmax of training")
        width = layers[-1]["out"]
    return graph.model(options, (layers[0]["in"], width), layers)


def layer(graph: Graph, name: str, system: dict[str, Array], discretization: str, conjugates: bool) -> Layer:
    """An s5 layer of complex Lambda (P), B (P, H) and C (H, P), of D (H) and log_step (P)."""
    P, H = system["B"].shape
    tensors = {part: pairs(array) if np.iscomplexobj(array) else array for part, array in system.items()}
    keys = {"channels": H, "state": P, "discretization": discretization, "conjugate_symmetry": conjugates}
    return graph.add("s5", name, tensors, **keys)


def refuse_both_directions(checkpoint: Checkpoint, C: str, modes: int) -> None:
    """A second C, or one of twice as many columns as there are modes, belongs to a scan from the recording's end."""
    if f"{C}2" in checkpoint.tensors or checkpoint.take_any(C).shape[1:2] == (2 * modes,):
        why = "a live stream has no end to begin at; train one without bidirectional"
        raise ConvertError(f"{C} reads a recording from its end, too", checkpoint.path, why)


def _seq(checkpoint: Checkpoint, at: str, graph: Graph, name: str, options: Options) -> Layer:
    re_part = checkpoint.take(f"{at}Lambda_re", None).astype(np.float64)
    P = re_part.shape[0]
    if options.take("clip_eigs", False):
        re_part = np.minimum(re_part, LARGEST_REAL)
    refuse_both_directions(checkpoint, f"{at}C", P)
    B = complexes(checkpoint.take(f"{at}B", P, None, 2))
    H = B.shape[1]
    system = {
        "Lambda": re_part + 1j * checkpoint.take(f"{at}Lambda_im", P),
        "B": B,
        "C": complexes(checkpoint.take(f"{at}C", H, P, 2)),
        "D": checkpoint.take(f"{at}D", H),
        "log_step": checkpoint.take(f"{at}log_step", P, 1)[:, 0],
    }
    discretization = options.take("discretization", "zoh", DISCRETIZATIONS)
    return layer(graph, name, system, discretization, options.take("conj_sym", True))


def _activation(checkpoint: Checkpoint, at: str, graph: Graph, name: str, options: Options) -> list[Layer]:
    """full_glu has out1 and out2, both half_glu's have out2, and gelu has neither."""
    gelu = activation("gelu_tanh")
    if f"{at}out1.kernel" in checkpoint.tensors:
        kernels, biases = zip(*(_kernel(checkpoint, f"{at}{out}.") for out in ("out1", "out2")), strict=True)
        return [gelu, graph.linear(f"{name}.out", np.concatenate(kernels), np.concatenate(biases)), {"type": "glu"}]
    if f"{at}out2.kernel" not in checkpoint.tensors:
        return [gelu]
    gate = [_dense(checkpoint, f"{at}out2.", graph, f"{name}.out"), activation("sigmoid")]
    if options.take("activation", "half_glu1", ("half_glu1", "half_glu2")) == "half_glu1":
        return [gelu, multiply([], gate)]
    return [multiply([], [gelu, *gate])]


def _kernel(checkpoint: Checkpoint, at: str) -> tuple[Array, Array]:
    """Of a Dense, as weight (out, in) and bias."""
    kernel = checkpoint.take(f"{at}kernel", None, None)
    return kernel.T, checkpoint.take(f"{at}bias", kernel.shape[1])


def _dense(checkpoint: Checkpoint, at: str, graph: Graph, name: str) -> Layer:
    return graph.linear(name, *_kernel(checkpoint, at))


def _norm(checkpoint: Checkpoint, at: str, graph: Graph, name: str) -> Layer:
    """A BatchNorm where there are statistics, otherwise a LayerNorm."""
    weight = checkpoint.take(f"{at}scale", None)
    tensors = {"weight": weight, "bias": checkpoint.take(f"{at}bias", *weight.shape)}
    if f"batch_stats.{at}mean" not in checkpoint.tensors:
        return graph.norm("layernorm", name, LAYERNORM_EPS, **tensors)
    for part, statistic in (("running_mean", "mean"), ("running_var", "var")):
        tensors[part] = checkpoint.take(f"batch_stats.{at}{statistic}", *weight.shape)
    return graph.norm("batchnorm", name, BATCHNORM_EPS, **tensors)
