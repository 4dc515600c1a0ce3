"""Where bf16 loses the gradient: MinkUNet-34's weight gradients against float64, with one thing rounded at a time.

    python -m benchmarks.bench_precision [--voxel-m 0.3] [--out FILE]

Operands of the products, in the forward pass, the backward pass or both, are rounded to fewer bits and multiplied in
float32; everything else stays float32. The last rows are autocast as a training uses it. The loss is a distillation's:
distance of unit vectors, the targets a smooth function of position. Cosines are per convolution, over its weight.
"""

import argparse
import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lima_core.methods.losses import unit_distance
from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.seeds import torch_rng
from lima_core.sparse import engine_native
from lima_core.sparse.kernel_map import KernelMap
from lima_core.sparse.tensor import SparseTensor
from lima_core.types import Resources
from pipeline.bench.street import street_voxels
from pipeline.manifest import provenance

CHANNELS = 384
KEPT_BITS = {"bf16": 8, "tf32": 11}
"""Of the significand, the leading one among them."""
PASSES = {"forward": ("forward",), "backward": ("backward",), "both": ("forward", "backward")}


def rounded(value: Tensor, bits: int) -> Tensor:
    """To the nearest number with so many significant bits."""
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp(torch.round(mantissa * 2.0**bits), exponent - bits)


@dataclass(frozen=True)
class Rounding:
    """Which operands are rounded."""

    bits: int
    passes: tuple[str, ...]

    def of(self, which: str, value: Tensor) -> Tensor:
        """``value`` as the products of that pass see it."""
        return rounded(value, self.bits) if which in self.passes else value


class _Convolution(torch.autograd.Function):
    """The native engine's convolution with rounded operands; sums stay as they are."""

    @staticmethod
    def forward(ctx, features: Tensor, weight: Tensor, pairs: KernelMap, how: Rounding) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(features, weight)
        ctx.pairs, ctx.how = pairs, how
        return engine_native._forward(how.of("forward", features), how.of("forward", weight), pairs)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN001
        operands = (ctx.how.of("backward", value.contiguous()) for value in (grad, *ctx.saved_tensors))
        return *engine_native._backward(*operands, ctx.pairs, (True, True)), None, None


@contextmanager
def rounding(how: Rounding) -> Iterator[None]:
    """Within, the native engine rounds its operands."""
    before = engine_native.convolve
    engine_native.convolve = lambda features, weight, pairs: _Convolution.apply(features, weight, pairs, how)
    try:
        yield
    finally:
        engine_native.convolve = before


@dataclass(frozen=True)
class Task:
    """A fixed network, scan and targets."""

    network: nn.Module
    head: nn.Module
    coords: Tensor
    features: Tensor
    targets: Tensor

    def gradients(self, dtype: torch.dtype, autocast: bool = False) -> dict[str, Tensor]:
        """Gradient of every convolution's weight, float64."""
        network, head = (copy.deepcopy(part).to(dtype) for part in (self.network, self.head))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            student = head(network(SparseTensor(self.features.to(dtype), self.coords)).features)
            if dtype == torch.float64:
                unit = functional.normalize(student, dim=1)
                loss = torch.linalg.vector_norm(unit - self.targets.double(), dim=1).mean()
            else:
                loss = unit_distance(student, self.targets)
        loss.backward()
        return {name: p.grad.double() for name, p in network.named_parameters() if p.ndim == 3}


def make_task(voxel_m: float) -> Task:
    """A street scan; targets are sines of position in random directions."""
    coords, rng = street_voxels(voxel_m), torch_rng(0, "precision")
    xyz = coords[:, 1:] * voxel_m
    intensity = 100 * torch.rand(len(coords), 1, generator=rng)
    waves = torch.sin(xyz @ torch.randn(3, CHANNELS, generator=rng) * 0.2)
    targets = functional.normalize(waves + 0.5 * torch.randn(CHANNELS, generator=rng), dim=1)
    network = build_backbone(MinkUNetConfig(), in_channels=4)
    head = nn.Linear(network.out_channels, CHANNELS)
    nn.init.normal_(head.weight, std=0.1, generator=rng)
    return Task(network, head, coords, torch.cat([xyz, intensity], 1), targets)


def cosines(truth: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, float]:
    """Over all weights at once, and the mean and the least over convolutions."""

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))

    each = [cosine(truth[name], found[name]) for name in truth]
    joined = [torch.cat([gradients[name].flatten() for name in truth]) for gradients in (truth, found)]
    return {"all": cosine(*joined), "mean": sum(each) / len(each), "least": min(each)}


def rows(task: Task) -> Iterator[tuple[str, dict[str, float]]]:
    """Every kind of rounding and what it leaves of the gradient."""
    truth = task.gradients(torch.float64)
    yield "float32", cosines(truth, task.gradients(torch.float32))
    for kind, bits in KEPT_BITS.items():
        for name, passes in PASSES.items():
            with rounding(Rounding(bits, passes)):
                yield f"{kind}, {name}", cosines(truth, task.gradients(torch.float32))
    yield "autocast bf16", cosines(truth, task.gradients(torch.float32, autocast=True))


def main(tell: Callable[[str], None] = print) -> None:
    """Prints a table, and writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxel-m", type=float, default=0.3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    task, record = make_task(arguments.voxel_m), {}
    tell(f"MinkUNet-34, {len(task.coords)} voxels; cosine to float64: all weights, mean and least of the layers")
    for name, found in rows(task):
        record[name] = found
        tell(f"{name:<16} {found['all']:8.5f} {found['mean']:8.5f} {found['least']:8.5f}")
    if arguments.out:
        facts = {"voxels": len(task.coords), "cosines": record, "provenance": provenance(Resources())}
        arguments.out.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
