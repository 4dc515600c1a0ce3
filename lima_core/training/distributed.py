"""Several processes that train together: sums over them, and the few words they exchange.

No wrapper around the module: every process works on its part of each batch, and gradients are summed in flat buckets
before the optimiser's step, which all take alike. Who these processes are is told by ``Resources``; the command line
starts ``torch.distributed`` (``start``). Tensors on a GPU go through NCCL, those on the CPU through gloo.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lima_core.errors import UserError
from lima_core.types import Resources

BUCKET_BYTES = 25 << 20
"""Gradients that travel together; the size that torch's own DistributedDataParallel starts from."""
PATIENCE = timedelta(minutes=60)
"""How long one process may be behind the others (a checkpoint on a slow disk) before all of them stop."""


def start(rank: int, size: int, device: str, store: dist.Store, patience: timedelta = PATIENCE) -> None:
    """Joins the group of ``size`` processes that meet at ``store``; returns when all are there."""
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)


def stop() -> None:
    """Leaves the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


@dataclass(frozen=True)
class World:
    """The processes that train together; a process alone needs no ``torch.distributed``."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, resources: Resources) -> "World":
        """The one that the resources tell of."""
        return cls(resources.rank, resources.world_size)

    @property
    def leads(self) -> bool:
        """This process writes files and speaks."""
        return self.rank == 0

    def total(self, tensor: Tensor) -> Tensor:
        """Sum of everyone's ``tensor``, in place; bit for bit the same everywhere."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def largest(self, tensor: Tensor) -> Tensor:
        """Largest of everyone's ``tensor``, element by element, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    @contextmanager
    def ends_together(self) -> Iterator[None]:
        """Within, a process that is gone or silent is a UserError: torch tells of it in the words of its network."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not re.search(r"gloo|nccl|peer|timed? ?out", str(error), re.IGNORECASE):
                raise
            what = f"another process is gone or silent ({str(error).splitlines()[0]})"
            remedy = "see what it said, and whether it was killed; what is finished is kept"
            raise UserError(what, where=f"process {self.rank} of {self.size}", remedy=remedy) from error

    def rows(self, table: Tensor) -> list[Tensor]:
        """Everyone's ``table`` (P, C), by rank; P may differ and be 0, C and dtype may not. All must call this alike.

        Nothing is differentiated through it.
        """
        if self.size == 1:
            return [table]
        counts = torch.zeros(self.size, dtype=torch.int64, device=table.device)
        counts[self.rank] = len(table)
        lengths = self.total(counts).tolist()
        own = table.new_zeros(max(lengths), table.shape[1])  # NCCL's parts are of one size
        own[: len(table)] = table.detach()
        everyone = [torch.empty_like(own) for _ in lengths]
        if own.numel():
            dist.all_gather(everyone, own)
        return [rows[:length] for rows, length in zip(everyone, lengths, strict=True)]

    def barrier(self) -> None:
        """Returns when all have come here."""
        self.total(torch.zeros(1))

    def texts(self, text: str) -> list[str]:
        """What every process says, by rank."""
        if self.size == 1:
            return [text]
        said = list(text.encode())
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(said)
        rows = torch.zeros(self.size, int(self.total(lengths).max()), dtype=torch.uint8)
        rows[self.rank, : len(said)] = torch.tensor(said, dtype=torch.uint8)
        self.total(rows)
        return [bytes(row[:num].tolist()).decode() for row, num in zip(rows, lengths.tolist(), strict=True)]

    def same(self, what: str, value: object) -> None:
        """Raises a UserError unless all processes have the same ``value``."""
        values = self.texts(str(value))
        if len(set(values)) > 1:
            told = ", ".join(f"{value} in process {rank}" for rank, value in enumerate(values))
            remedy = "all processes need the same code, the same data and the same work folder"
            raise UserError(f"{what} differs: {told}", remedy=remedy)

    def total_gradients(self, params: Sequence[nn.Parameter]) -> None:
        """Sums the gradients of ``params`` over the processes; one that a process has no gradient for counts as 0."""
        if self.size == 1:
            return
        for param in params:
            if param.grad is None:
                param.grad = torch.zeros_like(param)
        for bucket in buckets([param.grad for param in params if param.grad is not None]):
            flat = self.total(torch.cat([gradient.reshape(-1) for gradient in bucket]))
            for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def share(self, module: nn.Module, *, buffers_only: bool = False) -> None:
        """Gives everyone the first process's tensors of ``module``."""
        if self.size == 1:
            return
        tensors = module.buffers() if buffers_only else module.state_dict().values()
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


ALONE = World()


def buckets(tensors: Sequence[Tensor], limit_bytes: int = BUCKET_BYTES) -> Iterator[list[Tensor]]:
    """``tensors`` in order, in runs of one dtype and at most ``limit_bytes``, or of a single larger one."""
    bucket: list[Tensor] = []
    num_bytes = 0
    for tensor in tensors:
        if bucket and (num_bytes + tensor.nbytes > limit_bytes or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append(tensor)
        num_bytes += tensor.nbytes
    if bucket:
        yield bucket


def has_norms(module: nn.Module) -> bool:
    """Some layer of ``module`` normalises over the batch."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())


def synchronise_norms(module: nn.Module, on: bool) -> None:
    """Switches the batch normalisations of ``module`` between statistics of all processes and their own.

    They say by an attribute ``synchronised`` that they can (``lima_core.sparse.norm.SparseBatchNorm``).

    Raises:
        UserError: one cannot, and is asked to.
    """
    able = {name: layer for name, layer in module.named_modules() if hasattr(layer, "synchronised")}
    inside = {id(child) for layer in able.values() for child in layer.modules()}
    for name, layer in module.named_modules():
        if on and isinstance(layer, nn.modules.batchnorm._BatchNorm) and id(layer) not in inside:
            remedy = "use SparseBatchNorm, or set fit.sync_batch_norm: false"
            raise UserError(f"{type(layer).__name__} cannot be synchronised", where=name or "module", remedy=remedy)
    for layer in able.values():
        layer.synchronised = on
