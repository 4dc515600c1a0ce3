"""What a training will take on the reference machine, from sizes alone.

Seconds per scan are a line through two measured steps (forward, backward, optimiser; fp32, 2 cores of a Zen 4 EPYC):
MinkUNet-34 with 37.9 M parameters on 31.5 k points 2.3 s, a network of 0.1 M parameters 0.1 s. An earlier
run of the same stage on the user's own machine replaces the guess.
"""

from lima_core.training.config import FitConfig

SECONDS_PER_SCAN = 0.1
SECONDS_PER_PARAMETER = 2.2 / 37.9e6
REFERENCE_POINTS = 31_500
BYTES_PER_POINT_AND_CHANNEL = 4 * 40
"""Activations kept for the backward pass: about 40 layers of the full-resolution width."""
BASE_BYTES = 600_000_000
"""Interpreter, torch and the loader."""


def training_seconds(fit: FitConfig, num_samples: int, num_points: int, num_parameters: int) -> float:
    """Seconds of a whole training over ``num_samples`` scans of ``num_points``."""
    scans = fit.steps * fit.batch_size if fit.steps is not None else (fit.epochs or 1) * num_samples
    per_scan = SECONDS_PER_SCAN + SECONDS_PER_PARAMETER * num_parameters
    return scans * per_scan * num_points / REFERENCE_POINTS


def training_bytes(fit: FitConfig, num_points: int, num_channels: int, num_parameters: int) -> int:
    """Peak memory: activations of one micro-batch; weights, gradients, two moments of AdamW, and an average if any.

    A lone process and activations that are kept; the training itself measures before its first step.
    """
    scans = -(-fit.batch_size // fit.accumulate)
    activations = scans * num_points * num_channels * BYTES_PER_POINT_AND_CHANNEL
    return BASE_BYTES + activations + (20 if fit.ema else 16) * num_parameters
