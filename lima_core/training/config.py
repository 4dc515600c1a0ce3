"""How to train, as a value: everything here changes numbers, so all of it is part of the recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lima_core.errors import ConfigError
from lima_core.training.optim import AdamWConfig, OneCycleConfig, OptimConfig, ScheduleConfig
from lima_core.training.shuffle import ShuffleBlocks
from lima_core.types import Config

Count = Annotated[int, Field(ge=1)]


class KeepConfig(Config):
    """Weights kept on the way, as whole checkpoints in ``<artifact>/checkpoints/step-<n>/``."""

    every_epochs: Count | None = None
    """Give this or ``every_steps``."""
    every_steps: Count | None = None
    keep_last: Count = 3
    """Older ones are removed."""

    @model_validator(mode="after")
    def _one_rhythm(self) -> "KeepConfig":
        if (self.every_epochs is None) == (self.every_steps is None):
            raise ConfigError("give exactly one of every_epochs and every_steps", where="checkpoints")
        return self


class FitConfig(Config):
    """How to train."""

    epochs: Count | None = None
    """Length in passes over the source; give this or ``steps``."""
    steps: Count | None = None
    """Length in optimiser steps; give this or ``epochs``."""
    batch_size: Count = 4
    """Samples an optimiser step sees, over all micro-batches and processes."""
    accumulate: Count = 1
    """Micro-batches a batch is split into. The gradient is that of the whole batch, except that BatchNorm and
    Lovasz-softmax see micro-batches."""
    shuffle_blocks: ShuffleBlocks | None = None
    """Keeps neighbours near each other in an epoch's order, for slow disks; null: any sample may follow any other."""
    sync_batch_norm: bool = True
    """With several processes, BatchNorm sees the micro-batch of all of them; else everyone's own part."""
    optimiser: OptimConfig = AdamWConfig()
    schedule: ScheduleConfig = OneCycleConfig()
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the network under autocast; parameters and losses stay float32."""
    grad_clip: Annotated[float, Field(gt=0)] | None = None
    """Largest L2 norm of all gradients together; None leaves them alone."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, e.g. 0.999, which is then what is validated and saved."""
    checkpoints: KeepConfig | None = None
    """None keeps the finished weights only."""

    @model_validator(mode="after")
    def _one_length(self) -> "FitConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("give exactly one of epochs and steps", remedy="set the other one to null")
        return self
