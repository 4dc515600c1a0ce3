"""Batches on their way to a GPU, played on the CPU: what is pinned, what is copied when, who waits for whom."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from lima_core.errors import UserError
from lima_core.training import transfer
from lima_core.training.tensors import map_tensors, moved, num_bytes, tensors_of
from lima_core.training.trial import _waiting_bytes


@dataclass(frozen=True)
class Inner:
    rows: Tensor
    none: Tensor | None = None


@dataclass(frozen=True)
class Outer:
    names: tuple[str, ...]
    parts: tuple[Inner, ...]
    number: int
    loose: Tensor


def batch(value: float = 1.0) -> Outer:
    parts = (Inner(torch.full((2, 3), value)), Inner(torch.full((4,), value), torch.full((1,), value)))
    return Outer(("a", "b"), parts, 7, torch.full((5,), value))


def test_all_tensors_of_a_batch_are_reached_and_the_rest_is_left() -> None:
    doubled = map_tensors(lambda tensor: 2 * tensor, batch())
    assert [tensor.unique().item() for tensor in tensors_of(doubled)] == [2.0] * 4
    assert (doubled.names, doubled.number, doubled.parts[0].none) == (("a", "b"), 7, None)
    assert num_bytes(batch()) == 4 * (6 + 4 + 1 + 5) and num_bytes([batch(), 3, "x"]) == 64
    assert moved((3, [batch()]), "cpu")[1][0].loose.tolist() == [1.0] * 5


def test_every_tensor_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: asked.append(tuple(self.shape)) or self + 1)
    pinned = transfer.pinned([batch()])
    assert sorted(asked) == [(1,), (2, 3), (4,), (5,)]
    assert pinned[0].parts[1].none.item() == 2.0


def test_on_a_cpu_batches_pass_as_they_are() -> None:
    batches = [batch(1), batch(2)]
    assert [a is b for a, b in zip(transfer.arriving(iter(batches), "cpu"), batches, strict=True)] == [True, True]


class Event:
    def __init__(self, log: list[Any]) -> None:
        self.number = sum(entry[0] == "copied" for entry in log)


class Stream:
    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def record_event(self) -> Event:
        return Event(self.log)

    def wait_event(self, event: Event) -> None:
        self.log.append(("waits for", event.number))


def test_the_next_batch_is_copied_before_this_one_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []
    inside: list[bool] = []

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    def copied(value: Outer, device: str) -> Outer:
        assert inside and device == "cuda:0", "copied in the stream of the training"
        log.append(("copied", value.loose[0].item()))
        return value

    monkeypatch.setattr(transfer.torch.cuda, "Stream", lambda device: Stream(log))
    monkeypatch.setattr(transfer.torch.cuda, "current_stream", lambda device: Stream(log))
    monkeypatch.setattr(transfer.torch.cuda, "stream", on)
    monkeypatch.setattr(transfer, "moved", copied)
    recorded: list[Tensor] = []
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: recorded.append(self))
    for arrived in transfer.arriving(iter([batch(1), batch(2), batch(3)]), "cuda:0"):
        log.append(("worked on", arrived.loose[0].item()))
    assert log == [
        ("copied", 1), ("copied", 2), ("waits for", 1), ("worked on", 1),
        ("copied", 3), ("waits for", 2), ("worked on", 2), ("waits for", 3), ("worked on", 3),
    ]  # fmt: skip
    assert len(recorded) == 3 * 4


def test_a_gpu_without_room_for_the_next_batch_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(value: Outer, device: str) -> Outer:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(transfer.torch.cuda, "Stream", lambda device: Stream([]))
    monkeypatch.setattr(transfer.torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(transfer, "moved", full)
    with pytest.raises(UserError, match=r"^the next batch: out of GPU memory \(CUDA out of memory\); .*batch_size"):
        next(transfer.arriving(iter([batch()]), "cuda:0"))


def test_a_trial_counts_the_batches_that_lie_on_a_gpu_beside_what_it_tries() -> None:
    one = num_bytes(batch())
    steps = [[batch(), batch()], [batch()], [batch()]]
    assert _waiting_bytes(steps, batch(), "cuda:0") == 2 * (2 * one) - one
    assert _waiting_bytes(steps, batch(), "cpu") == 0
