# SPDX-License-Identifier: Apache-2.0
"""lab-emi/CleanUMamba, the denoisers: a U-Net of strided convolutions, pruned or not, around Mamba, Mamba-2 or S4.

Level i halves the rate (convolution, ReLU, mix of channels, GLU); what it puts out is added to what comes back from the
levels below, so that a level's output and all below it are one residual. Every size is taken from the tensors, since
pruning leaves the configuration behind; the file's network_config says the rest.

Training divides each clip by its standard deviation and multiplies the result by it. A stream has no whole clip, so
that the setting `gain` takes the place of 1 / deviation. The network pads a clip's end with zeros, as a closed stream
does.
"""

from typing import Any

from ..checkpoint import Checkpoint
from ..errors import ConvertError
from ..graph import Array, Graph, Layer, activation, multiply, part, residual
from ..model import Model
from ..options import Options
from ..values import typed
from . import s4_kernel
from .torch_nn import EPS, linear, norm

NAME = "clean-umamba"
HELP = "lab-emi/CleanUMamba; needs --rate; setting: gain, 1 / the standard deviation of what it will hear"

CENTRE = "tsfm_Mamba_layers."
GAIN = 16.0  # suits speech at the level of the DNS challenge


def recognises(checkpoint: Checkpoint) -> bool:
    """By the projection into its centre and the first convolution."""
    return {"tsfm_conv1.weight", "encoder.0.0.weight"} <= checkpoint.tensors.keys()


def convert(checkpoint: Checkpoint, options: Options) -> Model:
    """Layers encoder.N.conv, encoder.N.mix, tsfm_conv1, blocks.N, norm_f, tsfm_conv2, decoder.N.mix, decoder.N.conv."""
    config = _config(checkpoint)
    graph = Graph()
    depth = 0
    while f"encoder.{depth}.0.weight" in checkpoint.tensors:
        depth += 1
    layers = _level(checkpoint, graph, 0, depth, typed(config, "stride", 2, checkpoint.path), options, config)
    channels = (layers[0]["in"], layers[-1]["out"])
    if typed(config, "normalize_input", True, checkpoint.path):
        why = f"it divides a clip by its standard deviation, which a stream does not know; {GAIN:g} suits usual speech"
        gain = options.need("gain", GAIN, why)
        if not 0 < gain < float("inf"):
            raise ConvertError(f"{gain} is no gain", "--set gain", "give one above 0")
        layers = [{"type": "scale", "value": gain}, *layers, {"type": "scale", "value": 1 / gain}]
        graph.notes.append(f"clips' own standard deviations are replaced by a fixed gain of {gain:g}")
    graph.notes.append(f"{depth} levels")
    return graph.model(options, channels, layers)


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The file's network_config, of which what has no weights must be what a layer of ours does."""
    config = checkpoint.other.get("network_config", {})
    if not isinstance(config, dict):
        raise ConvertError("its network_config is no dictionary", checkpoint.path, "is it of CleanUMamba?")
    for key, only in (("glu_activation", "Sigmoid"), ("bypass_channels", 0), ("encoder_norm", None)):
        if config.get(key, only) != only:
            what = f"its network_config has {key} {config[key]!r}"
            raise ConvertError(what, checkpoint.path, f"only {only!r} can be expressed")
    return config


def _level(
    checkpoint: Checkpoint, graph: Graph, i: int, depth: int, stride: int, options: Options, config: dict[str, Any]
) -> list[Layer]:
    """Level i and all below it."""
    if i == depth:
        return _centre(checkpoint, graph, options, config)
    below = _level(checkpoint, graph, i + 1, depth, stride, options, config)
    j = depth - 1 - i
    down = _convolution(checkpoint, f"encoder.{i}.0.", 0)
    up = _convolution(checkpoint, f"decoder.{j}.2.", 1)
    wide = _inputs(checkpoint, i, down["weight"])
    keys = {"in": wide, "out": down["weight"].shape[0], "kernel": down["weight"].shape[2], "stride": stride}
    keys |= {"groups": groups} if (groups := wide // down["weight"].shape[1]) > 1 else {}
    encoder = graph.add("conv1d", f"encoder.{i}.conv", down, **keys, padding="valid", bias=True)
    keys = {
        "in": up["weight"].shape[0],
        "out": up["weight"].shape[1],
        "kernel": up["weight"].shape[2],
        "stride": stride,
    }
    decoder = graph.add("conv_transpose1d", f"decoder.{j}.conv", up, **keys, bias=True)
    return [
        encoder,
        activation("relu"),
        linear(checkpoint, f"encoder.{i}.2.", graph, f"encoder.{i}.mix"),
        {"type": "glu"},
        residual(below),
        linear(checkpoint, f"decoder.{j}.0.", graph, f"decoder.{j}.mix"),
        {"type": "glu"},
        decoder,
        *([activation("relu")] if i > 0 else []),
    ]


def _inputs(checkpoint: Checkpoint, i: int, weight: Array) -> int:
    """What comes into level i: its convolution's columns, or what the level above puts out, in groups of them."""
    above: int = checkpoint.take(f"encoder.{i - 1}.2.weight", None, None, 1).shape[0] // 2 if i else weight.shape[1]
    if not weight.shape[1] or above % weight.shape[1]:
        what = f"encoder.{i}.0.weight takes {weight.shape[1]} channels of {above}"
        raise ConvertError(what, checkpoint.path, "is the file whole?")
    return above


def _centre(checkpoint: Checkpoint, graph: Graph, options: Options, config: dict[str, Any]) -> list[Layer]:
    """What runs at the lowest rate."""
    eps = typed(config, "norm_epsilon", EPS, checkpoint.path)
    layers = [linear(checkpoint, "tsfm_conv1.", graph, "tsfm_conv1")]
    n = 0
    while f"{CENTRE}{n}.mixer.in_proj.weight" in checkpoint.tensors:
        before = norm(checkpoint, f"{CENTRE}{n}.norm.", graph, f"blocks.{n}.norm", eps)
        mixer = _mixer(checkpoint, f"{CENTRE}{n}.mixer.", graph, f"blocks.{n}.mixer", options)
        layers.append(residual([before, *mixer]))
        n += 1
    layers.append(norm(checkpoint, "norm_f.", graph, "norm_f", eps))
    graph.notes.append(f"{n} blocks in the centre")
    return [*layers, linear(checkpoint, "tsfm_conv2.", graph, "tsfm_conv2")]


def _mixer(checkpoint: Checkpoint, at: str, graph: Graph, name: str, options: Options) -> list[Layer]:
    """Mamba, Mamba-2 or MambaS4, told by what only one of them has."""
    if f"{at}ssm.layer.D" in checkpoint.tensors:
        return _mamba_s4(checkpoint, at, graph, name, options)
    dim, inner = checkpoint.take(f"{at}out_proj.weight", None, None).shape
    rows, _, conv = checkpoint.take(f"{at}conv1d.weight", None, 1, None).shape
    shapes: dict[str, tuple[int, ...]] = {"conv1d.weight": (rows, 1, conv), "out_proj.weight": (dim, inner)}
    if f"{at}dt_bias" in checkpoint.tensors:
        kind, (heads,), state = "mamba2", checkpoint.take(f"{at}dt_bias", None).shape, (rows - inner) // 2
        if not dim or inner % dim or not heads or inner % heads:
            what = f"{at}out_proj.weight takes {inner} channels, of a model of {dim} and {heads} heads"
            raise ConvertError(what, checkpoint.path, "pruned Mamba-2 blocks cannot be expressed")
        keys = {"expand": inner // dim, "state": state, "conv": conv, "head_dim": inner // heads, "groups": 1}
        shapes |= {"in_proj.weight": (2 * inner + 2 * state + heads, dim), "norm.weight": (inner,)}
        shapes |= {key: (heads,) for key in ("dt_bias", "A_log", "D")}
    else:
        kind, (_, state) = "mamba", checkpoint.take(f"{at}A_log", inner, None).shape
        rank = checkpoint.take(f"{at}dt_proj.weight", inner, None).shape[1]
        keys = {"inner": inner, "state": state, "conv": conv, "dt_rank": rank}
        shapes |= {"in_proj.weight": (2 * inner, dim), "x_proj.weight": (rank + 2 * state, inner), "D": (inner,)}
        shapes |= {"dt_proj.weight": (inner, rank), "dt_proj.bias": (inner,), "A_log": (inner, state)}
    for linear_map in ("in_proj", "conv1d", "out_proj"):
        if f"{at}{linear_map}.bias" in checkpoint.tensors:
            shapes[f"{linear_map}.bias"] = shapes[f"{linear_map}.weight"][:1]
    tensors = {key: checkpoint.take(f"{at}{key}", *shape) for key, shape in shapes.items()}
    return [graph.add(kind, name, tensors, dim=dim, **keys)]


def _mamba_s4(checkpoint: Checkpoint, at: str, graph: Graph, name: str, options: Options) -> list[Layer]:
    """A Mamba block whose selective scan is an S4 block of fewer channels, version 4."""
    into = graph.linear(f"{name}.in_proj", checkpoint.take(f"{at}in_proj.weight", None, None), None)
    inner = into["out"] // 2
    kernel = checkpoint.take(f"{at}conv1d.weight", inner, 1, None)
    taps = {"weight": kernel, "bias": checkpoint.take(f"{at}conv1d.bias", inner)}
    keys = {"in": inner, "out": inner, "kernel": kernel.shape[2], "groups": inner, "padding": "causal", "bias": True}
    system = s4_kernel.read(checkpoint, f"{at}ssm.layer.", options, 1)
    D = checkpoint.take(f"{at}ssm.layer.D", 1, system.channels)[0]
    back = graph.linear(f"{name}.out_proj", checkpoint.take(f"{at}out_proj.weight", None, inner), None)
    mix = [
        part(0, inner),
        graph.add("conv1d", f"{name}.conv1d", taps, **keys),
        activation("silu"),
        linear(checkpoint, f"{at}ssm.input_linear.", graph, f"{name}.input_linear"),
        s4_kernel.layer(graph, f"{name}.ssm", system, D),
        activation("gelu"),
        linear(checkpoint, f"{at}ssm.output_linear.0.", graph, f"{name}.output_linear"),
        {"type": "glu"},
    ]
    return [into, multiply(mix, [part(inner, 2 * inner), activation("silu")]), back]


def _convolution(checkpoint: Checkpoint, at: str, out: int) -> dict[str, Array]:
    """Its weight and bias; `out` is the weight's dimension that counts what comes out."""
    weight = checkpoint.take(f"{at}weight", None, None, None)
    return {"weight": weight, "bias": checkpoint.take(f"{at}bias", weight.shape[out])}
