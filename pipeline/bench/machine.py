"""What the machine itself can do, measured in the same rounds: torch.mm at each precision, and copying."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lima_core.seeds import torch_rng
from pipeline.bench.harness import Contestant, Options

COPY = "copy"


def mm_name(precision: str) -> str:
    """Name of the matrix product at a precision."""
    return f"torch.mm {precision}"


def precisions(device: str) -> tuple[str, ...]:
    """What is compared on a device; TF32 is a way in which NVIDIA's chips multiply float32."""
    return ("fp32", "tf32", "bf16") if device.startswith("cuda") else ("fp32", "bf16")


@contextmanager
def at_precision(precision: str, device: str) -> Iterator[None]:
    """``fp32``: as torch is by default; ``tf32``: float32 products on tensor cores; ``bf16``: autocast."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def contestants(options: Options, wanted: tuple[str, ...]) -> list[Contestant]:
    """The machine's rates at the precisions ``wanted``, and its copy."""
    edge = _edge(options)
    products = [
        Contestant(mm_name(precision), _product(edge, precision, options.device), flops=2 * edge**3, yardstick=True)
        for precision in wanted
    ]
    size = 4 * edge**2 * (8 if options.size != "tiny" else 1)
    return [*products, Contestant(COPY, _copy(size // 4, options.device), num_bytes=2 * size, yardstick=True)]


def _edge(options: Options) -> int:
    if options.size == "tiny":
        return 128
    return 8192 if options.device.startswith("cuda") else 2048


def _product(edge: int, precision: str, device: str) -> Callable[[], Callable[[], Tensor]]:
    def prepare() -> Callable[[], Tensor]:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        # Random numbers: on zeros a GPU draws less power and is faster than it will ever be on data.
        a, b = (torch.randn(edge, edge, generator=torch_rng(0, name)).to(device, dtype) for name in ("a", "b"))
        out = torch.empty_like(a)

        def work() -> None:
            with at_precision("tf32" if precision == "tf32" else "fp32", device):
                torch.mm(a, b, out=out)

        return work

    return prepare


def _copy(num_floats: int, device: str) -> Callable[[], Callable[[], Tensor]]:
    def prepare() -> Callable[[], Tensor]:
        source = torch.ones(num_floats, device=device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    return prepare
