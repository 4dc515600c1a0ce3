"""Sparse convolution in plain PyTorch: CPU and CUDA, no compiler. This engine is the definition; others must agree.

One matrix product per kernel offset fills a buffer of products, one row per pair of the kernel map, and ONE
``torch.nn.functional.embedding_bag`` adds up each output voxel's rows in a fixed order: repeatable on CPU and CUDA
alike. Forward on one CPU thread it beat an ``index_add_`` per offset at every width tried, 16 to 384 channels, in
float32 and bf16 (benchmarks/bench_sparse.py), so there is no second path. bf16 products are added in float32.
Backward gathers again what forward gathered, so only the features are kept.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from lima_core.sparse.kernel_map import Grouping, KernelMap

NAME = "native"


def missing() -> str:
    """Why this engine cannot run here; empty when it can."""
    return ""


def convolve(features: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    """Sum over pairs: ``out[target] += features[source] @ weight[offset]``.

    Args:
        features: (pairs.num_source, C_in) float.
        weight: (K, C_in, C_out), multiplied in the precision of the features.
        pairs: the kernel map.

    Returns:
        (pairs.num_target, C_out) in the precision of the features. Differentiable once; the gradient of the weight
        has the weight's own precision.
    """
    return _Convolution.apply(features, weight, pairs)


class _Convolution(torch.autograd.Function):
    """``convolve`` with a backward pass that gathers anew instead of keeping what was gathered."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        with _plain(features):
            return _products_summed(features, weight.to(features.dtype), pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        with _plain(features):
            return *_gradients(grad.contiguous(), features, weight, ctx.pairs, ctx.needs_input_grad), None


def _plain(features: Tensor) -> AbstractContextManager:
    """No autocast inside: precisions are chosen here."""
    return torch.autocast(features.device.type, enabled=False)


def _products_summed(features: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    products = features.new_empty(len(pairs.source), weight.shape[2])
    parts = zip(pairs.source.split(pairs.counts), weight.unbind(), products.split(pairs.counts), strict=True)
    for source, matrix, product in parts:
        if len(source):
            torch.mm(features.index_select(0, source), matrix, out=product)
    out = sum_groups(products, pairs.by_target())
    return out if pairs.centre is None else out.addmm_(features, weight[pairs.centre])


def _gradients(
    grad: Tensor, features: Tensor, weight: Tensor, pairs: KernelMap, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of features and weight; both use one gather of the output's gradient."""
    by_output = weight.to(features.dtype).transpose(1, 2)
    products = features.new_empty(len(pairs.source) if needed[0] else 0, features.shape[1])
    grad_weight = torch.zeros_like(weight) if needed[1] else None
    blocks = _product_blocks(products, pairs) if needed[0] else [None] * len(pairs.counts)
    parts = zip(pairs.source.split(pairs.counts), pairs.target.split(pairs.counts), blocks, strict=True)
    for offset, (source, target, product) in enumerate(parts):
        if not len(source):
            continue
        gathered = grad.index_select(0, target)
        if product is not None:
            torch.mm(gathered, by_output[offset], out=product)
        if grad_weight is not None:
            grad_weight[offset] = features.index_select(0, source).T @ gathered
    if pairs.centre is not None and grad_weight is not None:
        grad_weight[pairs.centre] = features.T @ grad
    if not needed[0]:
        return None, grad_weight
    if pairs.centre is None:
        return sum_groups(products, pairs.by_source()), grad_weight
    return sum_groups(products, pairs.by_target()).addmm_(grad, by_output[pairs.centre]), grad_weight


def _product_blocks(products: Tensor, pairs: KernelMap) -> list[Tensor]:
    """Where backward puts the products of each offset.

    A map with a centre is its own mirror image: the sources of an offset are the targets of the opposite one, in the
    same order. So its products go to the opposite block and are summed by target, and nothing is sorted by source.
    """
    blocks = list(products.split(pairs.counts))
    return blocks if pairs.centre is None else blocks[::-1]


def sum_groups(rows: Tensor, groups: Grouping) -> Tensor:
    """Sums of the rows of each group, (number of groups, C); an empty group sums to 0."""
    return functional.embedding_bag(groups.order, rows, groups.starts, mode="sum", include_last_offset=True)
