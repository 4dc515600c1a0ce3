"""Pre-training methods: lima. To add one: a file with its config and module, and a line in each of the two below."""

from torch import nn

from lima_core.methods.lima import Lima, LimaConfig
from lima_core.stores.feature_store import FeatureFacts

MethodConfig = LimaConfig
"""Union of the methods' configs, told apart by ``name``; a union of one is its member."""


def build_method(config: MethodConfig, backbone: nn.Module, facts: FeatureFacts, seed: int) -> Lima:
    """The method's module: ``backbone`` and ``head`` inside, ``loss(batch)`` for the training loop."""
    return Lima(config, backbone, facts, seed)
