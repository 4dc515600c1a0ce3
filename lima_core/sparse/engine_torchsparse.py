"""Sparse convolution by torchsparse's kernels on our pairs: 2.1 on CUDA (implicit GEMM), 2.0 or 2.1 on the CPU.

Neither its modules nor its search for neighbours are used, only the functions of ``torchsparse.backend``, called as
its own autograd functions call them: forward unsorted, backward sorted by three partial masks for fewer than 32
offsets (its default, torchsparse/nn/functional/conv at 385f5ce). Weights are (K, C_in, C_out) there as here.

Precisions. float32, on CUDA TF32 only where ``torch.backends.cuda.matmul.allow_tf32`` allows it, and float16, added in
float32. It does not know bf16: that is multiplied in float32 and the result rounded, exact enough but no faster. The
CPU has float32 only, and gets slower with every thread more.

Two traps. Given an odd number of offsets and as many outputs as inputs, its gather-scatter takes the middle offset for
the identity, whatever the pairs say; then ``_forward_cpu`` asks for one output row more. Its CUDA kernels run on the
default stream, so torch must be on it.

What ran: 2.0.0 on the CPU, forward and backward, in the contract test. CUDA is written against the source of 2.1.
"""

import importlib
import importlib.util
import warnings
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from lima_core.errors import ConfigError
from lima_core.sparse import tables
from lima_core.sparse.kernel_map import KernelMap

NAME = "torchsparse"
TILE, TILE_WEIGHT = 128, 64
"""Rows that one block of its kernels takes, for features and for the gradient of the weight."""
SPLITS = 3
"""Partial masks of the backward pass."""
SORTED_BELOW = 32
"""Offsets from which the backward pass does not sort."""
SPLIT_K = 32
"""Partial sums of the gradient of the weight."""


def missing(device: str) -> str:
    """Why this engine cannot run on ``device``, and how to get it; empty when it can."""
    backend, reason = _load()
    if backend is None:
        return reason
    if device == "cpu":
        return "" if _cpu_function(backend, "forward") else "this torchsparse is built without CPU functions"
    if not hasattr(backend, "conv_forward_implicit_gemm_cuda"):
        return "this torchsparse is older than 2.1 or built without CUDA, see docs/engines.md"
    return ""


def convolve(features: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    """Sum over pairs: ``out[target] += features[source] @ weight[offset]``.

    Args:
        features: (pairs.num_source, C_in) float32, bf16 or float16.
        weight: (K, C_in, C_out), multiplied in the precision of the features.
        pairs: the kernel map.

    Returns:
        (pairs.num_target, C_out) in the precision of the features. Differentiable once; the gradient of the weight
        has the weight's own precision.

    Raises:
        ConfigError: torchsparse does not run on this device, or a precision it does not have.
    """
    if reason := missing(features.device.type):
        raise ConfigError(reason, where="sparse engine 'torchsparse'")
    return _Convolution.apply(features, weight, pairs, _computed_in(features))


@cache
def _load() -> tuple[ModuleType | None, str]:
    """``torchsparse.backend``, or the reason why there is none. 2.1 asks for a GPU as soon as it is imported."""
    if importlib.util.find_spec("torchsparse") is None:
        return None, "torchsparse is not installed; it is on no package index, see docs/engines.md"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # its decorators are those of older versions of torch
            return importlib.import_module("torchsparse.backend"), ""
    except (ImportError, AssertionError, RuntimeError) as error:
        return None, f"torchsparse is installed but cannot be imported here: {str(error).splitlines()[0]}"


def _computed_in(features: Tensor) -> torch.dtype:
    """The precision of the products."""
    on_cpu = features.device.type == "cpu"
    if features.dtype in (torch.float32, torch.bfloat16) or (features.dtype == torch.float16 and on_cpu):
        return torch.float32
    if features.dtype == torch.float16:
        return torch.float16
    kind, where = str(features.dtype).removeprefix("torch."), "sparse engine 'torchsparse'"
    raise ConfigError(f"no {kind} on {features.device.type}", where=where, remedy="use 'native'")


class _Convolution(torch.autograd.Function):
    """Its functions forward and backward; a map without pairs or voxels never reaches them."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, weight: Tensor, pairs: KernelMap, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs, ctx.dtype = pairs, dtype
        if tables.is_empty(pairs):
            return features.new_zeros(pairs.num_target, weight.shape[2])
        forward = _forward_cpu if features.device.type == "cpu" else _forward_cuda
        with torch.autocast(features.device.type, enabled=False):
            return forward(_plain(features, dtype), _plain(weight, dtype), pairs).to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        if tables.is_empty(ctx.pairs):
            return torch.zeros_like(features), torch.zeros_like(weight), None, None
        backward = _backward_cpu if features.device.type == "cpu" else _backward_cuda
        operands = (_plain(operand, ctx.dtype) for operand in (features, weight, grad))
        with torch.autocast(features.device.type, enabled=False):
            grad_features, grad_weight = backward(*operands, ctx.pairs)
        return grad_features.to(features.dtype), grad_weight.to(weight.dtype), None, None


def _plain(operand: Tensor, dtype: torch.dtype) -> Tensor:
    return operand.detach().to(dtype).contiguous()


def _forward_cpu(features: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    maps, sizes = _flat_cpu(pairs)
    identity_is_wrong = pairs.centre is None and len(weight) % 2 == 1 and pairs.num_source == pairs.num_target
    out = features.new_zeros(pairs.num_target + identity_is_wrong, weight.shape[2])
    _cpu_function(_load()[0], "forward")(features, out, weight, maps, sizes, False)
    return out[: pairs.num_target]


def _backward_cpu(features: Tensor, weight: Tensor, grad: Tensor, pairs: KernelMap) -> tuple[Tensor, Tensor]:
    maps, sizes = _flat_cpu(pairs)
    grad_features, grad_weight = torch.zeros_like(features), torch.zeros_like(weight)
    _cpu_function(_load()[0], "backward")(features, grad_features, grad, weight, grad_weight, maps, sizes, False)
    return grad_features, grad_weight


def _flat_cpu(pairs: KernelMap) -> tuple[Tensor, Tensor]:
    maps, counts = tables.flat_pairs(pairs)
    return maps.contiguous(), torch.tensor(counts, dtype=torch.int32)


def _cpu_function(backend: ModuleType, direction: str) -> object:
    """2.1 gave the functions of 2.0 another name."""
    names = (f"convolution_{direction}_cpu", f"conv_{direction}_gather_scatter_cpu")
    return next((getattr(backend, name) for name in names if hasattr(backend, name)), None)


def _forward_cuda(features: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    rows = pairs.derived.get(("torchsparse forward",), lambda: tile_rows(tables.by_target(pairs).rows))
    with torch.cuda.device(features.device):
        return _load()[0].conv_forward_implicit_gemm_cuda(
            features, weight, rows, pairs.num_target, weight.shape[2], *_allowed(features.device)
        )


def _backward_cuda(features: Tensor, weight: Tensor, grad: Tensor, pairs: KernelMap) -> tuple[Tensor, Tensor]:
    rows = pairs.derived.get(("torchsparse backward",), lambda: tile_rows(tables.by_source(pairs).rows))
    num_offsets, c_in, c_out = weight.shape
    by_output, backend, sizes = weight.transpose(1, 2).contiguous(), _load()[0], (pairs.num_source, c_in)
    with torch.cuda.device(features.device):
        if num_offsets < SORTED_BELOW:
            by = pairs.derived.get(("torchsparse sorted",), lambda: _sort_rows(backend, rows, pairs.num_source))
            grad_features = backend.conv_forward_implicit_gemm_sorted_cuda(
                grad, by_output, by.rows, by.tile_masks, by.order, *sizes, *_allowed(features.device)
            )
            flat = backend.conv_backward_wgrad_implicit_gemm_sorted_cuda(
                grad, features, by.rows, by.tile_masks_weight, by.order, SPLIT_K, *_allowed(features.device)
            )
        else:
            grad_features = backend.conv_forward_implicit_gemm_cuda(
                grad, by_output, rows, *sizes, *_allowed(features.device)
            )
            flat = backend.conv_backward_wgrad_implicit_gemm_cuda(
                grad, features, rows, SPLIT_K, *_allowed(features.device)
            )
    return grad_features, flat.reshape(num_offsets, c_out, c_in).transpose(1, 2)


@dataclass
class _Sorted:
    """What its sorted kernels read, made by its own functions from the rows."""

    rows: Tensor
    tile_masks: Tensor
    tile_masks_weight: Tensor
    order: Tensor


def _sort_rows(backend: ModuleType, rows: Tensor, num_rows: int) -> _Sorted:
    masks, order = torch.sort(backend.derive_bitmask_from_out_in_map(rows, SPLITS, num_rows), descending=True)
    order = order.int()
    return _Sorted(
        backend.reorder_out_in_map_cuda(rows, order),
        backend.reduce_bitmask_cuda(masks, TILE),
        backend.reduce_bitmask_cuda(masks, TILE_WEIGHT),
        order,
    )


def tile_rows(rows: Tensor) -> Tensor:
    """(V, K) int32 from (K, V), V rounded up to whole tiles with rows of -1."""
    num_rows = -(-rows.shape[1] // TILE) * TILE
    tiled = rows.new_full((num_rows, len(rows)), -1)
    tiled[: rows.shape[1]] = rows.T
    return tiled


def _allowed(device: torch.device) -> tuple[bool, bool]:
    """TF32, float16: as torch and the GPU have them. Where the GPU has none, its kernels for them are empty."""
    capability = torch.cuda.get_device_capability(device)
    return torch.backends.cuda.matmul.allow_tf32 and capability >= (8, 0), capability >= (7, 5)
