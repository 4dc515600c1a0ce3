"""Activations computed twice instead of kept: a part of a network remembers its input, and repeats itself backwards."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.utils.checkpoint import checkpoint

from lima_core.errors import ConfigError
from lima_core.sparse.norm import statistics_kept
from lima_core.sparse.tensor import SparseTensor


def recomputed(layer: nn.Module, forward: Callable[[SparseTensor], SparseTensor], x: SparseTensor) -> SparseTensor:
    """``forward(x)``, of which only ``x`` is kept; the repetition leaves the running statistics of ``layer`` alone.

    Args:
        layer: owns the norms; nothing in it may be random.
        forward: computes with ``layer``.
        x: the input; nobody may change it in place afterwards.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), statistics_kept(layer)

    return checkpoint(forward, x, use_reentrant=False, context_fn=contexts, preserve_rng_state=False)


def recompute_activations(backbone: nn.Module) -> None:
    """Switches every part of ``backbone`` that can (it has an attribute ``recompute``) to computing twice.

    Raises:
        ConfigError: none can.
    """
    able = [layer for layer in backbone.modules() if hasattr(layer, "recompute")]
    if not able:
        what = f"{type(backbone).__name__} cannot compute its activations again"
        raise ConfigError(what, remedy="leave out --checkpoint-activations")
    for layer in able:
        layer.recompute = True
