"""Sparse convolution by spconv's kernels on our pairs: ``spconv_triton`` 1.0.0 or ``spconv`` 2.3.8, as installed.

Neither package's modules nor its search for neighbours are used, only ``pytorch.ops``, which both share: implicit GEMM
for up to 32 offsets on a GPU, else gather, product and scatter offset by offset. Weights go there as (C_out, K, C_in).

Precisions. Products of float32 are IEEE float32 unless ``torch.backends.cuda.matmul.allow_tf32`` allows TF32; spconv
2.3.8 tunes a layer once and keeps what it chose, so set that before the first step. spconv_triton multiplies bf16 and
float16 as they are and adds in float32. spconv 2.3.8 does not know bf16, and adds float16 in float16 whatever it is
asked; there both are multiplied in float32 and the result rounded. float64 exists on the CPU only.

On the CPU, spconv 2.3.8 is a second opinion, not an engine to train with. Its ``scatter_add_cpu`` shares two pointers
between OpenMP threads and silently adds wrongly with two of them or more; so more than one torch thread is refused.
Its backward pass asks for a CUDA stream that it does not use; ``_without_stream`` answers that for the one call.

What ran: spconv 2.3.8 on the CPU, forward and backward, in the contract test; spconv_triton's kernels in Triton's
interpreter on the CPU. spconv 2.3.8 on CUDA is written against its source.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from lima_core.errors import ConfigError
from lima_core.sparse import tables
from lima_core.sparse.kernel_map import KernelMap

NAME = "spconv"
TRITON, CLASSIC = "spconv_triton", "spconv"
ALL_OFFSETS = [np.array([0xFFFFFFFF], dtype=np.uint32)]
"""The masks of one split: every offset in it."""
RACE = (
    "its CPU build adds wrongly with more than one thread (a data race in scatter_add_cpu), so it serves only as a "
    "cross-check on one thread"
)


def missing(device: str) -> str:
    """Why this engine cannot train on ``device``, and how to get it; empty when it can."""
    if device == "cpu":
        return f"{RACE}; on the CPU use the native engine"
    if provider():
        return ""
    if _is_there(TRITON) and not _is_there("triton"):
        return "spconv_triton is here but triton is not: it comes with a CUDA build of torch"
    return "neither spconv_triton nor a CUDA build of spconv is installed: pip install 'lima-lidar[spconv]'"


def provider() -> str:
    """The package that works on the GPU, the Triton one first; empty for none."""
    if _is_there(TRITON) and _is_there("triton"):
        return TRITON
    return CLASSIC if _is_there(CLASSIC) and _is_built_for_cuda() else ""


@cache
def _is_built_for_cuda() -> bool:
    """Whether spconv 2.3.8 loads and knows CUDA; a wheel whose CUDA libraries are missing does not load."""
    try:
        return not module("spconv.cppconstants").CPU_ONLY_BUILD
    except (ImportError, OSError, RuntimeError):
        return False


def convolve(features: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    """Sum over pairs: ``out[target] += features[source] @ weight[offset]``.

    Args:
        features: (pairs.num_source, C_in) float32, bf16 or float16, on the CPU also float64.
        weight: (K, C_in, C_out), multiplied in the precision of the features.
        pairs: the kernel map.

    Returns:
        (pairs.num_target, C_out) in the precision of the features. Differentiable once; the gradient of the weight
        has the weight's own precision.

    Raises:
        ConfigError: CPU tensors and more than one thread, no package for the device, or a precision it does not have.
    """
    package = _package(features.device)
    return _Convolution.apply(features, weight, pairs, package, _computed_in(features, package))


def _package(device: torch.device) -> str:
    if device.type != "cpu":
        package = provider()
        if not package:
            raise ConfigError(missing(device.type), where="sparse engine 'spconv'")
        return package
    if not _is_there(CLASSIC):
        raise ConfigError("package spconv is not installed", where="sparse engine 'spconv'")
    if torch.get_num_threads() != 1:
        raise ConfigError(RACE, where="sparse engine 'spconv'", remedy="call torch.set_num_threads(1), or use 'native'")
    return CLASSIC


def _computed_in(features: Tensor, package: str) -> torch.dtype:
    """The precision of the products."""
    dtype, on_cpu = features.dtype, features.device.type == "cpu"
    if dtype == torch.float32 or (dtype == torch.float64 and on_cpu):
        return dtype
    if dtype in (torch.bfloat16, torch.float16):
        return dtype if package == TRITON else torch.float32
    kind = str(dtype).removeprefix("torch.")
    raise ConfigError(f"no {kind} on {features.device.type}", where="sparse engine 'spconv'", remedy="use 'native'")


class _Convolution(torch.autograd.Function):
    """Their operators forward and backward; a map without pairs or voxels never reaches them."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, features: Tensor, weight: Tensor, pairs: KernelMap, package: str, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs, ctx.package, ctx.dtype, ctx.tile_masks = pairs, package, dtype, (None, -1)
        if tables.is_empty(pairs):
            return features.new_zeros(pairs.num_target, weight.shape[2])
        with _settings(features.device, package):
            out, *ctx.tile_masks = _forward(
                features.to(dtype).contiguous(), _as_krsc(weight, dtype), pairs, package, any(ctx.needs_input_grad)
            )
        return out.to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        if tables.is_empty(ctx.pairs):
            return torch.zeros_like(features), torch.zeros_like(weight), None, None, None
        operands = (features.to(ctx.dtype).contiguous(), _as_krsc(weight, ctx.dtype), grad.to(ctx.dtype).contiguous())
        with _settings(features.device, ctx.package):
            grad_features, grad_krsc = _backward(*operands, ctx.pairs, ctx.package, ctx.tile_masks)
        grad_weight = grad_krsc.permute(1, 2, 0).to(weight.dtype)
        return grad_features.to(features.dtype), grad_weight, None, None, None


def _forward(
    features: Tensor, krsc: Tensor, pairs: KernelMap, package: str, training: bool
) -> tuple[Tensor, Tensor | None, int]:
    """Output, and what spconv's backward pass wants of the forward one: offsets present in each tile, rows a tile."""
    ops = _ops(package)
    if not _is_implicit(features, krsc):
        lists = tables.pair_lists(pairs)
        return ops.indice_conv(features, krsc, lists.rows, lists.counts, pairs.num_target), None, -1
    table = tables.by_target(pairs)
    return ops.implicit_gemm(
        features,
        krsc,
        table.rows,
        [table.mask],
        [table.order],
        pairs.num_target,
        ALL_OFFSETS,
        is_train=training,
        is_subm=False,
        fp32_accum=True,
    )


def _backward(
    features: Tensor,
    krsc: Tensor,
    grad: Tensor,
    pairs: KernelMap,
    package: str,
    tile_masks: tuple[Tensor | None, int],
) -> tuple[Tensor, Tensor]:
    """Gradients of the features and of the weight as (C_out, K, C_in)."""
    ops = _ops(package)
    if not _is_implicit(features, krsc):
        lists = tables.pair_lists(pairs)
        with _without_stream(ops, features.device):
            return ops.indice_conv_backward(features, krsc, grad, lists.rows, lists.counts)
    forth, back = tables.by_target(pairs), tables.by_source(pairs)
    mask_output, mask_width = tile_masks
    return ops.implicit_gemm_backward(
        features,
        krsc,
        grad,
        forth.rows,
        back.rows,
        [forth.mask],
        [back.mask],
        [forth.order],
        [back.order],
        mask_output_fwd=mask_output,
        masks=ALL_OFFSETS,
        mask_width=mask_width,
        is_subm=False,
        fp32_accum=True,
    )


def _is_implicit(features: Tensor, krsc: Tensor) -> bool:
    return features.device.type != "cpu" and krsc.shape[1] <= tables.MASK_BITS


def _as_krsc(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).permute(2, 0, 1).contiguous()


def _ops(package: str) -> ModuleType:
    return module(f"{package}.pytorch.ops")


def module(name: str) -> ModuleType:
    """A module of either package, without the warnings that spconv's own dependencies give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(name)


@contextmanager
def _settings(device: torch.device, package: str) -> Iterator[None]:
    """On the tensors' own GPU, without autocast, TF32 as torch has it; both packages read their flag at every call."""
    constants = module(f"{package}.constants")
    on_device = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    tf32 = setting(constants, "SPCONV_ALLOW_TF32", torch.backends.cuda.matmul.allow_tf32)
    with on_device, torch.autocast(device.type, enabled=False), tf32:
        yield


def _without_stream(ops: ModuleType, device: torch.device) -> AbstractContextManager:
    """On the CPU, spconv's backward pass asks for the current CUDA stream all the same; it then makes no use of it."""
    return setting(ops, "get_current_stream", lambda: 0) if device.type == "cpu" else nullcontext()


@contextmanager
def setting(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """A name of a module means something else for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@cache
def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
