"""Processes of torchrun: what they tell each other, what each gets, and who reports a failure."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from lima_core.errors import ConfigError, UserError
from lima_core.types import Resources
from pipeline import building, cli
from pipeline.ranks import DONE, Ranks, join, quiet_unless_first, refuse_alone, shared
from pipeline.runner import follow, run


def pair() -> tuple[Ranks, Ranks]:
    store = dist.HashStore()
    return Ranks(0, 2, 0, 2, store), Ranks(1, 2, 1, 2, store)


def test_alone_without_torchrun_or_with_a_single_process() -> None:
    assert join({}) == join({"WORLD_SIZE": "1", "RANK": "0"}) == Ranks()
    assert Ranks().leads and Ranks().fails_first()
    Ranks().announce("nobody listens")


def test_incomplete_variables_are_told() -> None:
    with pytest.raises(ConfigError, match="environment: WORLD_SIZE is 2 but LOCAL_RANK is missing or wrong; start"):
        join({"WORLD_SIZE": "2", "RANK": "0"})
    with pytest.raises(ConfigError, match="environment: WORLD_SIZE is 'abc', not a number; start lima by torchrun"):
        join({"WORLD_SIZE": "abc"})


def test_announcements_come_in_order_until_done() -> None:
    first, second = pair()
    for word in ("a", "b", DONE):
        first.announce(word)
    assert list(second.announced()) == ["a", "b"]


def test_only_the_first_failure_is_told_and_ends_the_waiting() -> None:
    first, second = pair()
    assert first.fails_first() and not second.fails_first()
    with pytest.raises(UserError, match="another process failed"):
        next(second.announced())


def test_everyone_has_his_gpu_and_his_part_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr("lima_core.training.distributed.start", lambda *words: started.append(words[:3]))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("pipeline.hardware.num_cores", lambda: 12)
    make = lambda device, workers: Resources(device=device, workers=workers)  # noqa: E731
    found = shared(make, pair()[1], "auto", None)
    assert (found.device, found.workers, found.rank, found.world_size) == ("cuda:1", 6, 1, 2)
    assert shared(make, pair()[0], "cpu", 3) == Resources(device="cpu", workers=3, rank=0, world_size=2)
    assert started == [(1, 2, "cuda:1"), (0, 2, "cpu")]
    assert shared(make, Ranks(), "cuda:1", 1) == Resources(device="cuda:1", workers=1)
    with pytest.raises(ConfigError, match="--device: 'cuda:1' for 2 processes; give --device cuda"):
        shared(make, pair()[0], "cuda:1", None)


def test_commands_that_cannot_be_shared_are_refused() -> None:
    for words in (["stage", "distill"], ["run", "x.yaml"], ["--help"], []):
        refuse_alone(pair()[0], words)
    with pytest.raises(ConfigError, match="2 processes cannot share lima ablate; torchrun is for stage, run, report"):
        refuse_alone(pair()[0], ["ablate", "x.yaml"])
    refuse_alone(Ranks(), ["ablate", "x.yaml"])


def test_followers_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for ranks in pair():
        with quiet_unless_first(ranks):
            print(f"process {ranks.rank}")
            print(f"error {ranks.rank}", file=sys.stderr)
    assert capsys.readouterr() == ("process 0\n", "error 0\nerror 1\n")


def test_followers_take_part_in_what_trains_only(
    toys: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum of the toys trains; the numbers that it reads are the first process's work."""
    node, (first, second) = toys.total(toys.numbers()), pair()
    ran: list[tuple[str, int, int]] = []
    for toy in (toys.make, toys.add):
        real = toy.run

        def noted(config: object, inputs: object, out: Path, resources: Resources, real: object = real) -> object:
            ran.append((out.name.partition("-")[0], resources.rank, resources.world_size))
            return real(config, inputs, out, resources) if resources.rank == 0 else {}

        monkeypatch.setattr(toy, "run", noted)
    monkeypatch.setattr(toys.add, "TRAINS", True, raising=False)
    run([node], tmp_path, Resources(world_size=2), say=lambda line: None, announce=first.announce)
    first.announce(DONE)
    follow([node], tmp_path, Resources(rank=1, world_size=2), second.announced())
    assert ran == [("numbers", 0, 1), ("total", 0, 2), ("total", 1, 2)]
    with pytest.raises(UserError, match="the first process builds something else; start all processes with the same"):
        follow([toys.numbers()], tmp_path, Resources(rank=1, world_size=2), ["unheard of"])


def test_a_second_failure_prints_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for ranks in pair():
        monkeypatch.setattr(building, "own_ranks", lambda ranks=ranks: ranks)
        with pytest.raises(SystemExit) as ended:
            cli.main(["ablate", "x.yaml"])
        assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
