# SPDX-License-Identifier: Apache-2.0
"""Layers of docs/MODELS.md in the making, each put down together with its tensors.

A source asks for layer after layer, nests the lists that come back in residuals and branches, and has the model made of
them. A kind of layer that several sources need is a method here; a kind that one needs, it makes by `add`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .model import Model
from .options import Options

Layer = dict[str, Any]
Array = NDArray[Any]


class Graph:
    """The tensors so far, and what the notes will say."""

    def __init__(self) -> None:
        self.tensors: dict[str, Array] = {}
        self.notes: list[str] = []

    def add(self, kind: str, name: str, tensors: dict[str, Array], **keys: Any) -> Layer:
        """A layer with tensors of its own."""
        self.tensors |= {f"{name}.{part}": tensor for part, tensor in tensors.items()}
        return {"type": kind, "name": name, **keys}

    def linear(self, name: str, weight: Array, bias: Array | None) -> Layer:
        """A weight (out, in), or one of a convolution over single frames, (out, in, 1)."""
        weight = weight[..., 0] if weight.ndim == 3 else weight
        tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        out, inputs = weight.shape
        return self.add("linear", name, tensors, **{"in": inputs, "out": out, "bias": bias is not None})

    def norm(self, kind: str, name: str, eps: float, **tensors: Array) -> Layer:
        """A layernorm, rmsnorm or batchnorm."""
        return self.add(kind, name, tensors, dim=tensors["weight"].shape[0], eps=eps)

    def model(self, options: Options, channels: tuple[int, int], layers: list[Layer]) -> Model:
        """The model of signals, `channels` in and out at one rate."""
        rate = options.sample_rate()
        config: dict[str, Any] = {"model_type": "ssmd", "format_version": 1, "name": options.name}
        for side, count in zip(("input", "output"), channels, strict=True):
            config[side] = {"kind": "signal", "channels": count, "sample_rate": rate}
        return Model({**config, "layers": layers}, self.tensors, self.notes)


def activation(fn: str) -> Layer:
    """One of the functions that the engine has."""
    return {"type": "activation", "fn": fn}


def residual(layers: list[Layer]) -> Layer:
    """What comes in, and the layers' output of it, added."""
    return {"type": "residual", "layers": layers}


def multiply(*branches: list[Layer]) -> Layer:
    """The product of what branches make of the same input; an empty one is the input itself."""
    return {"type": "multiply", "branches": list(branches)}


def part(start: int, end: int) -> Layer:
    """Channels start..end-1."""
    return {"type": "slice", "from": start, "to": end}


def pairs(complex_array: Array) -> Array:
    """Complex numbers as a trailing (re, im)."""
    return np.stack([complex_array.real, complex_array.imag], -1)


def complexes(pairs_array: Array) -> Array:
    """A trailing (re, im) as complex numbers, in double precision."""
    wide = pairs_array.astype(np.float64)
    return np.asarray(wide[..., 0] + 1j * wide[..., 1])
