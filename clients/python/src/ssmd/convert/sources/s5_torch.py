# SPDX-License-Identifier: Apache-2.0
"""The package s5-pytorch: one S5, or S5Blocks one after another, alone or in an nn.Sequential.

Its S5 keeps all of its modes, no halves of conjugate pairs, and does not clip Lambda. Around it a block has two layer
norms, whose outputs, not inputs, the residuals add to. Its options `liquid` and `degree` change what the weights mean
and are in no checkpoint: they are taken as off.
"""

import re

from ..checkpoint import Checkpoint
from ..errors import ConvertError
from ..graph import Graph, Layer, activation, complexes, multiply, part, residual
from ..model import Model
from ..options import Options
from . import s5
from .torch_nn import linear, norm

NAME = "s5-pytorch"
HELP = "a state_dict of the package s5-pytorch, S5 or S5Blocks in a row; needs --rate; setting: discretization"

ANY = re.compile(r"(.*\.)?seq\.Lambda")
BLOCK = re.compile(r"((?:.*\.)?(\d+)\.)?s5\.seq\.Lambda")


def recognises(checkpoint: Checkpoint) -> bool:
    """By a Lambda, which is complex here."""
    return any(ANY.fullmatch(name) for name in checkpoint.tensors)


def convert(checkpoint: Checkpoint, options: Options) -> Model:
    """Layers blocks.N.attn_norm, blocks.N.s5, blocks.N.ff_norm, blocks.N.ff_enc and blocks.N.ff_dec; or seq alone."""
    graph = Graph()
    layers: list[Layer] = []
    blocks = [match for match in map(BLOCK.fullmatch, checkpoint.tensors) if match]
    if blocks:
        for n, match in enumerate(sorted(blocks, key=lambda match: int(match[2] or 0))):
            layers += _block(checkpoint, match[1] or "", graph, f"blocks.{n}", options)
        width = layers[0]["dim"]
    else:
        layers = [_seq(checkpoint, _only(checkpoint), graph, "seq", options)]
        width = layers[0]["channels"]
    graph.notes.append(f"{len(blocks)} blocks" if blocks else "one S5, without a block around it")
    graph.notes.append("trained with liquid=False and degree=1, if it is to be the same model")
    return graph.model(options, (width, width), layers)


def _only(checkpoint: Checkpoint) -> str:
    """Where the S5 is, which is all there is."""
    found = [match[1] or "" for name in checkpoint.tensors if (match := ANY.fullmatch(name))]
    if len(found) != 1:
        what = f"has {len(found)} S5 modules outside of blocks"
        raise ConvertError(what, checkpoint.path, "one is converted: what is between several, their weights do not say")
    return found[0]


def _block(checkpoint: Checkpoint, at: str, graph: Graph, name: str, options: Options) -> list[Layer]:
    norms = [norm(checkpoint, f"{at}{which}.", graph, f"{name}.{which}") for which in ("attn_norm", "ff_norm")]
    wide, back = (linear(checkpoint, f"{at}{ff}.", graph, f"{name}.{ff}", bias=False) for ff in ("ff_enc", "ff_dec"))
    hidden = back["in"]
    feed = [wide, back]
    if wide["out"] == 2 * hidden:
        feed.insert(1, multiply([part(0, hidden)], [part(hidden, 2 * hidden), activation("gelu")]))
    elif wide["out"] != hidden:
        what = f"{at}ff_enc puts out {wide['out']} channels and {at}ff_dec takes {hidden}"
        raise ConvertError(what, checkpoint.path, "is it an S5Block's?")
    mix = [_seq(checkpoint, f"{at}s5.", graph, f"{name}.s5", options), activation("gelu")]
    return [norms[0], residual(mix), norms[1], residual(feed)]


def _seq(checkpoint: Checkpoint, at: str, graph: Graph, name: str, options: Options) -> Layer:
    Lambda = checkpoint.take(f"{at}seq.Lambda", None)
    P = Lambda.shape[0]
    B = complexes(checkpoint.take(f"{at}seq.B", P, None, 2))
    s5.refuse_both_directions(checkpoint, f"{at}seq.C", P)
    system = {
        "Lambda": Lambda + 0j,
        "B": B,
        "C": checkpoint.take(f"{at}seq.C", B.shape[1], P) + 0j,
        "D": checkpoint.take(f"{at}seq.D", B.shape[1]),
        "log_step": checkpoint.take(f"{at}seq.log_step", P),
    }
    return s5.layer(graph, name, system, options.take("discretization", "zoh", s5.DISCRETIZATIONS), False)
