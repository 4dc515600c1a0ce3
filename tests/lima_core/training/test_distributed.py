"""Two processes against one: the same gradients, the same order, one writer, and errors that end both."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from lima_core.training.choice import Validation
from lima_core.training.distributed import World, buckets
from lima_core.training.loop import FitConfig, FitResult, fit
from lima_core.training.objective import Objective
from lima_core.training.optim import ConstantConfig, SGDConfig
from lima_core.types import Resources
from tests.lima_core.training.processes import together
from tests.lima_core.training.toy import CONFIG, Net, Ragged, Rows, train

ACCUMULATED = CONFIG.model_copy(update={"accumulate": 2})
UNSYNCHRONISED = CONFIG.model_copy(update={"sync_batch_norm": False})
LINEAR = FitConfig(steps=4, batch_size=5, accumulate=2, optimiser=SGDConfig(lr=0.1), schedule=ConstantConfig())
PLAIN_SGD = SGDConfig(lr=0.1, momentum=0, weight_decay=0)
FEW = FitConfig(steps=6, batch_size=4, accumulate=2, optimiser=PLAIN_SGD, schedule=ConstantConfig(), grad_clip=0.1)
Found = dict[str, Any]


def state(net: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}


def run(out: Path, resources: Resources, config: FitConfig = CONFIG, **source: Any) -> Found:
    """A whole training: its weights, what it asked for, its result."""
    net, samples = Net(), Ragged(**source)
    result = train(net, samples, out, config, resources=resources)
    return {"state": state(net), "asked": samples.asked, "result": result}


def stopped_and_continued(out: Path, first: Resources, second: Resources | None) -> Found:
    """Ended by force in the fourth step, then started again."""
    with pytest.raises(KeyboardInterrupt):
        train(Net(), Ragged(stop_at=3), out, resources=first, checkpoint_every_s=0.0)
    World.of(first).barrier()  # else one could read a state that the other has yet to write
    return run(out, second) if second else {}


def chosen(out: Path, resources: Resources) -> Found:
    net, scores = Net(), iter([0.3, 0.5, 0.5])
    seen: list[bool] = []

    def measure() -> dict[str, float]:
        seen.append(net.training)
        return {"score": next(scores), "weight": net.first.weight.sum().item()}

    result = train(net, Ragged(), out, resources=resources, validation=Validation(measure, 1, "score"))
    return {"state": state(net), "result": result, "seen": seen, "weight": net.first.weight.sum().item()}


def own_averages(out: Path, resources: Resources) -> list[float]:
    """What everyone sees of running statistics that are his own, and of which he keeps an average of his own."""
    net, seen = Net(), []

    def measure() -> dict[str, float]:
        seen.append(net.norm.norm.running_mean.sum().item())
        return {"score": seen[-1]}

    train(net, Ragged(), out, UNSYNCHRONISED, resources=resources, validation=Validation(measure, 1, "score"))
    return seen


def few_taught(out: Path, resources: Resources, config: FitConfig, connected: bool) -> Found:
    """Few rows are taught, often none of a process; its last layer then has no gradient, unless ``connected``."""
    net, counts = Net(), []
    if not connected:
        net.norm = nn.Identity()
        net.forward = lambda x: net.last(net.first(x).tanh())

    def loss(batch: Rows) -> Objective:
        taught = batch.x[:, 0] > 1
        counts.append(int(taught.sum()))
        sums = {"seen": torch.tensor(len(taught))}
        if not counts[-1] and not connected:
            return Objective(0 * net.first(batch.x).sum(), 0, {"two": 2.0}, sums)
        error = (net(batch.x) - batch.y)[taught]
        return Objective(error.square().sum() / max(1, counts[-1]), counts[-1], {"two": 2.0}, sums)

    fit(net, loss, Ragged(), config, out, resources, 5, "few")
    return {"state": state(net), "counts": counts}


def error_of(job: Callable[[], Any]) -> str:
    try:
        job()
    except ValueError as error:
        return str(error)
    return "no error"


def plain_norm(out: Path, resources: Resources) -> None:
    net = Net()
    net.norm = nn.BatchNorm1d(8)
    train(net, Ragged(), out, resources=resources)


def all_cases(rank: int, size: int, root: Path) -> Found:
    two, one = partial(Resources, rank=rank, world_size=size), Resources()
    found = {
        "plain": run(root / "plain", two(workers=1)),
        "accumulated": run(root / "accumulated", two(), ACCUMULATED),
        "continued": stopped_and_continued(root / "continued", two(), two(workers=2)),
        "stopped": stopped_and_continued(root / "stopped", two(), None),
        "chosen": chosen(root / "chosen", two()),
        "own averages": own_averages(root / "own averages", two()),
        "few taught": few_taught(root / "few taught", two(), FEW, True),
        "no gradient": few_taught(root / "no gradient", two(), FEW, False),
        "rows": [rows.numpy() for rows in World(rank, size).rows(torch.full((3 * rank, 2), rank + 0.5))],
        "no rows": [rows.numpy() for rows in World(rank, size).rows(torch.zeros(0, 2))],
        "own norms": run(root / "own norms", two(), UNSYNCHRONISED),
        "texts": World(rank, size).texts("ä" * rank),
        "poisoned": error_of(lambda: run(root / "poisoned", two(), ACCUMULATED, poisoned=7)),
        "few": error_of(lambda: run(root / "few", two(), num_samples=1)),
        "other": error_of(lambda: World(rank, size).same("the answer", 41 + rank)),
        "plain norm": error_of(lambda: plain_norm(root / "plain norm", two())),
    }
    if rank == 0:
        found["alone again"] = run(root / "stopped", one)
        found["left"] = error_of(lambda: run(root / "left", two()))  # the other one has gone home
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def found(root: Path) -> list[Found]:
    answers = together(all_cases, 2, root / "meet", root)
    assert all(isinstance(answer, dict) for answer in answers), "\n".join(map(str, answers))
    return answers


def same(found: Found, expected: Found, exactly: bool = False) -> bool:
    pairs = [(found["state"][name], value) for name, value in expected["state"].items()]
    return all(np.array_equal(a, b) if exactly else np.allclose(a, b, rtol=1e-9, atol=1e-11) for a, b in pairs)


@pytest.mark.parametrize(("name", "config"), [("plain", CONFIG), ("accumulated", ACCUMULATED)])
def test_two_processes_are_one(name: str, config: FitConfig, found: list[Found], root: Path, tmp_path: Path) -> None:
    expected = run(tmp_path, Resources(), config)
    assert same(found[0][name], expected)
    assert same(found[1][name], found[0][name], exactly=True) and found[0][name]["result"].processes == 2
    curves = [pq.read_table(path / "curve.parquet").to_pydict() for path in (root / name, tmp_path)]
    assert all(np.allclose(curves[0][column], values, rtol=1e-9) for column, values in curves[1].items())
    assert curves[0].keys() == curves[1].keys() and len(set(curves[0]["taught"])) > 1


def test_accumulation_equals_the_large_batch_for_samples_of_any_size(tmp_path: Path) -> None:
    states = []
    for accumulate in (1, 2, 5):
        net = Net()
        net.norm = nn.Identity()  # BatchNorm sees micro-batches
        net.forward = lambda x, net=net: net.last(net.first(x).tanh())
        train(net, Ragged(), tmp_path / str(accumulate), LINEAR.model_copy(update={"accumulate": accumulate}))
        states.append({"state": state(net)})
    assert same(states[1], states[0]) and same(states[2], states[0])


def test_the_order_is_that_of_one_process(found: list[Found], tmp_path: Path) -> None:
    alone = run(tmp_path, Resources())["asked"]
    halves = zip(found[0]["plain"]["asked"], found[1]["plain"]["asked"], strict=True)
    assert [first + second for first, second in halves] == alone
    alone = run(tmp_path / "accumulated", Resources(), ACCUMULATED)["asked"]
    halves = zip(found[0]["accumulated"]["asked"], found[1]["accumulated"]["asked"], strict=True)
    assert [first + second for first, second in halves] == alone


def test_stopped_and_continued_are_the_same_bits(found: list[Found], root: Path) -> None:
    for rank in (0, 1):
        assert same(found[rank]["continued"], found[rank]["plain"], exactly=True)
        assert len(found[rank]["continued"]["asked"]) == 3
    curves = [(root / name / "curve.parquet").read_bytes() for name in ("plain", "continued")]
    assert curves[0] == curves[1]


def test_continued_by_fewer_processes_the_order_stays(found: list[Found]) -> None:
    again = found[0]["alone again"]
    assert same(again, found[0]["plain"])
    halves = zip(found[0]["plain"]["asked"][3:], found[1]["plain"]["asked"][3:], strict=True)
    assert again["asked"] == [first + second for first, second in halves]


def test_only_the_first_writes_and_logs(found: list[Found], root: Path) -> None:
    lines = (root / "plain" / "logs" / "train.log").read_text().splitlines()
    assert len([line for line in lines if line.startswith("toy step=")]) == 6
    assert len(list((root / "plain" / "logs" / "tensorboard").iterdir())) == 1


def test_all_agree_on_the_chosen_weights(found: list[Found], root: Path) -> None:
    first, second = found[0]["chosen"], found[1]["chosen"]
    assert first["result"].chosen_step == second["result"].chosen_step == 4 and first["seen"] == [False] * 3
    assert same(second, first, exactly=True)
    curve = pq.read_table(root / "chosen" / "curve.parquet").to_pydict()
    assert curve["weight"][3] == first["weight"] != curve["weight"][5]
    assert np.isnan(curve["score"][0]) and curve["score"][1] == 0.3


def test_norms_of_their_own_are_another_training(found: list[Found]) -> None:
    assert not same(found[0]["own norms"], found[0]["plain"])
    assert same(found[1]["own norms"], found[0]["own norms"], exactly=True)


def test_norms_of_their_own_are_told_once(root: Path) -> None:
    for name, times in (("own norms", 1), ("plain", 0)):
        log = (root / name / "logs" / "train.log").read_text()
        line = "toy fit.sync_batch_norm is false: each of 2 processes normalises with its own part; another number"
        assert log.count(line) == log.count("sync_batch_norm") == times


def test_all_look_at_the_same_averages_of_norms_of_their_own(found: list[Found]) -> None:
    assert len(found[0]["own averages"]) == 3 and found[0]["own averages"] == found[1]["own averages"]


@pytest.mark.parametrize(("name", "connected"), [("few taught", True), ("no gradient", False)])
def test_a_process_that_is_taught_nothing(
    name: str, connected: bool, found: list[Found], root: Path, tmp_path: Path
) -> None:
    expected = few_taught(tmp_path, Resources(), FEW, connected)
    counts = list(zip(found[0][name]["counts"], found[1][name]["counts"], strict=True))
    assert [sum(both) for both in counts] == expected["counts"]
    assert {(first > 0, second > 0) for first, second in counts} >= {(True, False), (False, True)}
    assert same(found[0][name], expected) and same(found[1][name], found[0][name], exactly=True)
    curves = [pq.read_table(path / "curve.parquet").to_pydict() for path in (root / name, tmp_path)]
    assert curves[0]["seen"] == curves[1]["seen"] and min(curves[0]["seen"]) >= 8
    assert np.allclose(curves[0]["loss"], curves[1]["loss"], rtol=1e-9) and set(curves[0]["two"]) <= {0.0, 2.0}


def test_rows_of_everyone(found: list[Found]) -> None:
    for answer in found:
        assert [rows.tolist() for rows in answer["rows"]] == [[], [[1.5, 1.5]] * 3]
        assert [tuple(rows.shape) for rows in answer["no rows"]] == [(0, 2), (0, 2)]
    alone = torch.ones(2, 2)
    assert World().rows(alone)[0] is alone


def test_a_loss_that_is_not_finite_in_one_process_ends_both_with_its_frames(found: list[Found]) -> None:
    assert found[0]["poisoned"] == found[1]["poisoned"]
    names = found[0]["poisoned"].partition(":")[0].removeprefix("frames ").split(", ")
    assert "loss nan is not finite in step" in found[0]["poisoned"]
    # Synchronised BatchNorm spreads it over the micro-batch of all processes, here 2 or 3 of the 5 samples.
    assert "frame7" in names and 2 <= len(names) <= 3


def test_what_cannot_be_shared_is_refused(found: list[Found]) -> None:
    line = "fit.batch_size: 2 processes cannot share a micro-batch of 1 (batch 1, accumulate 1); start fewer"
    assert all(answer["few"].startswith(line) for answer in found)
    assert all(answer["plain norm"].startswith("norm: BatchNorm1d cannot be synchronised") for answer in found)


def test_processes_that_differ_are_told_apart(found: list[Found]) -> None:
    for answer in found:
        assert answer["other"].startswith("the answer differs: 41 in process 0, 42 in process 1; all processes need")
        assert answer["texts"] == ["", "ä"]


def test_a_process_that_is_gone_is_told_in_one_line(found: list[Found]) -> None:
    line = found[0]["left"]
    assert line.startswith("process 0 of 2: another process is gone or silent (") and len(line.splitlines()) == 1
    assert line.endswith("whether it was killed; what is finished is kept")


def test_buckets_keep_order_and_dtype_and_split_at_the_limit() -> None:
    tensors = [torch.zeros(n, dtype=d) for n, d in ((1, torch.float32), (2, torch.float32), (9, torch.float32))]
    tensors += [torch.zeros(1, dtype=torch.float64), torch.zeros(1)]
    assert [[len(t) for t in bucket] for bucket in buckets(tensors, 16)] == [[1, 2], [9], [1], [1]]
    assert list(buckets([])) == []


def test_alone_there_is_nothing_to_do(tmp_path: Path) -> None:
    result = run(tmp_path, Resources())["result"]
    assert isinstance(result, FitResult) and result.chosen_step == 6 and result.chosen_epoch == 3
    assert result.processes == 1
    assert World().texts("x") == ["x"] and World.of(Resources(rank=1, world_size=4)) == World(1, 4)
