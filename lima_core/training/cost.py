"""What a training will take, from sizes alone: a rule of thumb, and the shape by which measurements are scaled.

Seconds per scan are a line through two measured steps (forward, backward, optimiser; fp32, 2 cores of a Zen 4 EPYC):
MinkUNet-34 with 37.9 M parameters on 31.5 k points 2.3 s, a network of 0.1 M parameters 0.1 s.
"""

from lima_core.cost import Sample
from lima_core.training.config import FitConfig
from lima_core.training.optim import AdamWConfig
from lima_core.training.plan import plan_of

SECONDS_PER_SCAN = 0.1
SECONDS_PER_PARAMETER = 2.2 / 37.9e6
REFERENCE_POINTS = 31_500
FORWARD = 1 / 3
"""Of a training step, what its forward pass takes."""
BYTES_PER_POINT_AND_CHANNEL = 4 * 40
"""Activations kept for the backward pass: about 40 layers of the full-resolution width."""
BASE_BYTES = 600_000_000
"""Interpreter, torch and the loader."""
LOG_BYTES_PER_STEP = 700
"""Text, TensorBoard and the curve."""


def num_steps(fit: FitConfig, num_samples: int) -> int:
    """Optimiser steps of a training over ``num_samples`` scans."""
    return plan_of(max(1, num_samples), fit.batch_size, fit.epochs, fit.steps, seed=0).steps


def num_scans(fit: FitConfig, num_samples: int) -> int:
    """Scans that a training sees, each as often as it sees it."""
    return num_steps(fit, num_samples) * min(fit.batch_size, max(1, num_samples))


def scan_seconds(num_points: int, num_parameters: int) -> float:
    """Forward, backward and optimiser, of one scan."""
    return (SECONDS_PER_SCAN + SECONDS_PER_PARAMETER * num_parameters) * num_points / REFERENCE_POINTS


def training_bytes(fit: FitConfig, num_points: int, num_channels: int, num_parameters: int) -> int:
    """Peak memory: activations of one micro-batch; weights, gradients, two moments of AdamW, and an average if any.

    A lone process and activations that are kept; the training itself measures before its first step.
    """
    scans = -(-fit.batch_size // fit.accumulate)
    activations = scans * num_points * num_channels * BYTES_PER_POINT_AND_CHANNEL
    return BASE_BYTES + activations + (20 if fit.ema else 16) * num_parameters


def training_disk_bytes(fit: FitConfig, num_samples: int, num_parameters: int) -> int:
    """Weights, those kept on the way, and logs."""
    steps, kept = num_steps(fit, num_samples), 0
    if wanted := fit.checkpoints:
        epochs = steps * fit.batch_size / max(1, num_samples)
        made = steps / wanted.every_steps if wanted.every_steps else epochs / (wanted.every_epochs or 1)
        kept = min(wanted.keep_last, int(made) + 1)
    return 4 * num_parameters * (1 + kept) + LOG_BYTES_PER_STEP * steps


def resume_bytes(fit: FitConfig, num_parameters: int) -> int:
    """The resume state, twice: the new one is written beside the old."""
    moments = 2 if isinstance(fit.optimiser, AdamWConfig) else 1
    return 2 * 4 * num_parameters * (1 + moments + (fit.ema is not None))


def brief_fit(fit: FitConfig, sample: Sample) -> FitConfig:
    """The same training for a few steps, of smaller batches where the sample says so."""
    batch = min(fit.batch_size, sample.largest_batch)
    length = {"steps": sample.steps, "epochs": None, "checkpoints": None}
    return fit.model_copy(update=length | {"batch_size": batch, "accumulate": min(fit.accumulate, batch)})
