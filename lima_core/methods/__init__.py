"""Pre-training methods: lima. To add one: a file with its config and module, and a line in each of the two below."""

from torch import nn

from lima_core.methods.lima import Lima, LimaConfig

MethodConfig = LimaConfig
"""Union of the methods' configs, told apart by ``name``; a union of one is its member."""


def build_method(config: MethodConfig, backbone: nn.Module, channels: int, seed: int) -> Lima:
    """The method's module: ``backbone``, a ``head`` into the teacher's ``channels``, ``loss(batch)`` for the loop."""
    return Lima(config, backbone, channels, seed)
