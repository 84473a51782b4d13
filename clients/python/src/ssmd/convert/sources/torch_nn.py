# SPDX-License-Identifier: Apache-2.0
"""torch's layers that several sources are built of, with the names and shapes that torch gives their weights."""

from ..checkpoint import Checkpoint
from ..graph import Graph, Layer

EPS = 1e-5  # torch's, of every norm


def linear(checkpoint: Checkpoint, at: str, graph: Graph, name: str, bias: bool = True) -> Layer:
    """A Linear, or the Conv1d of kernel size 1 that is the same."""
    stored = checkpoint.tensors.get(f"{at}weight")
    weight = checkpoint.take(f"{at}weight", None, None, *((1,) if stored is not None and stored.ndim == 3 else ()))
    return graph.linear(name, weight, checkpoint.take(f"{at}bias", weight.shape[0]) if bias else None)


def norm(checkpoint: Checkpoint, at: str, graph: Graph, name: str, eps: float = EPS) -> Layer:
    """A BatchNorm where there are a training's statistics, a LayerNorm where there is a bias, otherwise an RMSNorm."""
    weight = checkpoint.take(f"{at}weight", None)
    if f"{at}bias" not in checkpoint.tensors:
        return graph.norm("rmsnorm", name, eps, weight=weight)
    tensors = {"weight": weight, "bias": checkpoint.take(f"{at}bias", *weight.shape)}
    if f"{at}running_mean" not in checkpoint.tensors:
        return graph.norm("layernorm", name, eps, **tensors)
    checkpoint.drop(f"{at}num_batches_tracked")
    for part in ("running_mean", "running_var"):
        tensors[part] = checkpoint.take(f"{at}{part}", *weight.shape)
    return graph.norm("batchnorm", name, eps, **tensors)
