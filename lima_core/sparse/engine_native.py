"""Sparse convolution in plain PyTorch: CPU and CUDA, no compiler. This engine is the definition; others must agree.

Matrix products fill a buffer, one row per pair of the kernel map, and ONE ``torch.nn.functional.embedding_bag`` adds up
each output voxel's rows in a fixed order: repeatable on CPU and CUDA alike. In bf16 every product is added up in
float32 and rounded, and so is the sum of a voxel's products. An offset and its mirror image have equally many pairs, so
the two are one batched product (``blocks``); on two CPU threads each then gathers and multiplies a matrix of its own.
Buffers are reused by all layers of a step, since fresh memory costs as much as a gather. Backward gathers again what
forward gathered, so only the features are kept. What was tried and lost: docs/engines.md.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from lima_core.sparse.blocks import Block, Grouping, schedule
from lima_core.sparse.kernel_map import KernelMap

NAME = "native"


def missing(device: str) -> str:
    """Why this engine cannot run on ``device``: it always can."""
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
            return _forward(features, weight.to(features.dtype), pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        with _plain(features):
            return *_backward(grad.contiguous(), features, weight, ctx.pairs, ctx.needs_input_grad), None


def _plain(features: Tensor) -> AbstractContextManager:
    """No autocast inside: precisions are chosen here."""
    return torch.autocast(features.device.type, enabled=False)


def _forward(features: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    plan, space = schedule(pairs, features), pairs.workspace
    inputs = space.rows("inputs", plan.largest, features, weight.shape[1])
    products = space.rows("products", plan.num_products, features, weight.shape[2])
    for block in plan.blocks:
        gathered = _gather(features, block.source, inputs, block)
        _multiply(gathered, weight[block.offsets], _part(products, block))
    out = _sum_groups(products, plan.by_target)
    return out if plan.centre is None else out.addmm_(features, weight[plan.centre])


def _backward(
    grad: Tensor, features: Tensor, weight: Tensor, pairs: KernelMap, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of features and weight; both use one gather of the output's gradient."""
    plan, space = schedule(pairs, features), pairs.workspace
    by_output = weight.to(features.dtype).transpose(1, 2)
    inputs = space.rows("inputs", plan.largest, features, weight.shape[1])
    outputs = space.rows("outputs", plan.largest, features, weight.shape[2])
    products = space.rows("products", plan.num_products, features, weight.shape[1])
    grad_weight = torch.empty_like(weight) if plan.covers_all_offsets else torch.zeros_like(weight)
    for block in plan.blocks:
        gathered = _gather(grad, block.target, outputs, block)
        if block.used < block.rows:
            gathered[:, block.used :].zero_()  # rows that only fill up the block must not count
        if needed[0]:
            _multiply(gathered, by_output[block.offsets], _part(products, block))
        if needed[1]:
            met = _gather(features, block.source, inputs, block)
            _multiply(met.transpose(1, 2), gathered, grad_weight[block.offsets])
    if plan.centre is not None and needed[1]:
        _multiply(features.T[None], grad[None], grad_weight[plan.centre : plan.centre + 1])
    if not needed[0]:
        return None, grad_weight
    out = _sum_groups(products, plan.by_source)
    return (out if plan.centre is None else out.addmm_(grad, by_output[plan.centre])), grad_weight


def _gather(rows: Tensor, index: Tensor, buffer: Tensor, block: Block) -> Tensor:
    """(matrices, block.rows, C): the rows of every matrix of the block, in the beginning of ``buffer``."""
    gathered = buffer[: block.end - block.start]
    torch.index_select(rows, 0, index, out=gathered)
    return gathered.view(block.matrices, block.rows, -1)


def _part(products: Tensor, block: Block) -> Tensor:
    """(matrices, block.rows, C): the block's place in the buffer of all products."""
    return products[block.start : block.end].view(block.matrices, block.rows, -1)


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Batched product; of a single pair as a plain one, for which all threads work."""
    if out.dtype != left.dtype:
        out.copy_(torch.bmm(left, right))
    elif out.shape[0] > 1:
        torch.bmm(left, right, out=out)
    else:
        torch.mm(left[0], right[0], out=out[0])


def _sum_groups(rows: Tensor, groups: Grouping) -> Tensor:
    """Sums of the rows of each group, (number of groups, C); an empty group sums to 0."""
    return functional.embedding_bag(groups.order, rows, groups.starts, mode="sum", include_last_offset=True)
