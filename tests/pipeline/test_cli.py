"""What people type: exit codes, the lines they read, and what is on disk afterwards; on a flow of toy stages."""

import errno
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lima_core.cost import Cost
from lima_core.types import Config, Resources
from pipeline import cli, hardware, manifest, wanted
from pipeline.node import Node
from pipeline.runner import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def toy_flow(toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line on two toy stages; the demo is an empty file."""

    class Experiment(Config):
        make_numbers: toys.make.Config = toys.make.Config()
        add_numbers: toys.add.Config = toys.add.Config()
        seeds: tuple[int, ...] = (0,)

    def build(experiment: Experiment) -> list[Node]:
        numbers = Node("numbers", toys.make, experiment.make_numbers, {})
        return [numbers, Node("total", toys.add, experiment.add_numbers, {"numbers": numbers})]

    flow = SimpleNamespace(Experiment=Experiment, build=build, STAGES=("make-numbers", "add-numbers"))
    monkeypatch.setattr(wanted, "flow", lambda: flow)
    monkeypatch.setattr(wanted, "DEMO", tmp_path / "demo.yaml")
    monkeypatch.setattr(hardware, "resources", lambda device, engine, workers, say: Resources(workers=workers))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "demo.yaml").write_text("")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lima(capsys: pytest.CaptureFixture[str]) -> object:
    def call(*words: str) -> SimpleNamespace:
        with pytest.raises(SystemExit) as exit_:
            cli.main(words)
        captured = capsys.readouterr()
        return SimpleNamespace(code=exit_.value.code or 0, out=captured.out.splitlines(), err=captured.err.splitlines())

    return call


def test_a_stage_builds_what_it_needs_and_says_so(lima: object) -> None:
    done = lima("stage", "add-numbers")
    assert done.code == 0
    assert done.out[0] == "no config given: using the synthetic world (configs/demo.yaml)"
    assert done.out[1] == "upstream to build first: numbers"
    assert done.out[2].startswith("2 of 2 to build: ")
    assert [line.split()[1] for line in done.out[3:]] == ["started", "finished", "started", "finished"]
    assert done.out[-1].endswith("sum=6")
    again = lima("stage", "add-numbers")
    assert [line.split()[1] for line in again.out[1:]] == ["cached", "cached"]


def test_a_config_and_set(lima: object, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("make_numbers: {scenes: 2}")
    done = lima("run", "x.yaml", "--set", "make_numbers.factor=5.0", "--set", "add_numbers.start=1")
    assert done.code == 0
    assert done.out[-1].endswith("sum=6")
    assert "no config given" not in done.out[0]


def test_plan_names_states_and_reasons(lima: object) -> None:
    lima("run")
    done = lima("plan", "--set", "make_numbers.factor=3.0")
    assert done.code == 0
    assert done.out[1].split()[:2] == ["artifact", "state"]
    assert done.out[2].split()[1] == "build"
    assert done.out[2].endswith("config.factor: 2.0 -> 3.0")
    assert done.out[3].endswith("upstream changed: numbers")
    assert done.out[4].startswith("2 of 2 to build: ")
    assert lima("plan").out[-1].startswith("0 of 2 to build: ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("stage", "add-nmbers"),
            "lima: lima stage: unknown stage 'add-nmbers'; did you mean 'add-numbers'? known: add-numbers, make-",
        ),
        (("run", "absent.yaml"), "lima: absent.yaml: cannot be read (No such file or directory); give the path of"),
        (("run", "--set", "make_numbers.scene=1"), "lima: --set: make_numbers.scene: unknown key; did you mean 'sc"),
        (("run", "--set", "make_numbers.fail=true"), "lima: toy: this toy was told to fail"),
        (("show", "nothing"), "lima: work: no artifact 'nothing'"),
        (("stage", "add-numbers", "--probe"), "lima: lima stage add-numbers: --probe belongs to lima stage finetune"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(lima: object, words: tuple[str, ...], line: str) -> None:
    done = lima(*words)
    assert done.code == 2
    assert len(done.err) == 1
    assert done.err[0].startswith(line)


def test_a_bug_keeps_its_traceback(toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> dict:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(toys.make, "run", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run"])


def test_an_interruption_is_130(lima: object, toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> dict:
        raise KeyboardInterrupt

    monkeypatch.setattr(toys.make, "run", interrupted)
    done = lima("run")
    assert done.code == 130
    assert "what is finished is kept; the same command goes on from there" in done.out[-1]


def test_show_takes_a_name_a_beginning_or_a_path(lima: object, tmp_path: Path) -> None:
    lima("run")
    (path,) = (tmp_path / "work").glob("numbers-*")
    shown = [lima("show", text) for text in ("numbers", path.name[:-3], str(path), f"work/{path.name}")]
    assert [done.code for done in shown] == [0] * 4
    assert {tuple(done.out[1:]) for done in shown} == {tuple(shown[0].out[1:])}
    assert shown[0].out[1] == "stage        make-numbers version 1"
    assert "  scenes: 3" in shown[0].out


def test_show_takes_the_newest_of_a_name(lima: object) -> None:
    lima("run")
    (old,) = Path("work").glob("numbers-*")
    file = old / manifest.FILE
    file.write_text(file.read_text().replace('"created": "20', '"created": "19'))
    lima("run", "--set", "make_numbers.scenes=4")
    assert "  scenes: 4" in lima("show", "numbers").out


def test_clean_lists_then_removes_what_is_not_needed(lima: object, toys: SimpleNamespace) -> None:
    lima("run")
    lima("run", "--set", "make_numbers.factor=3.0")
    other = Path("work/numbers-00000000.partial")
    other.mkdir()
    Path("work/mine").mkdir()
    needed = {node.path(Path("work")).name for node in wanted.flow().build(wanted.flow().Experiment())}
    listed = lima("clean")
    assert listed.code == 0
    assert len(listed.out) == 1 + 3 + 1
    assert other.exists()
    refused = lima("clean", "--yes")
    assert refused.code == 2 and "--yes needs the config whose artifacts stay" in refused.err[-1] and other.exists()
    removed = lima("clean", "demo.yaml", "--yes")
    assert [line.split()[0] for line in removed.out[:3]] == ["removed"] * 3
    assert {path.name for path in Path("work").iterdir()} == needed | {"mine", ".locks"}
    assert lima("clean").out[1:] == ["nothing to clean in work"]


def test_clean_leaves_alone_what_is_being_built(lima: object, toys: SimpleNamespace) -> None:
    node = Node("numbers", toys.make, toys.make.Config(scenes=9), {})
    run([node], Path("work"), Resources())
    code = "import sys; from pathlib import Path; from pipeline import lock\n"
    code += "with lock.held(Path(sys.argv[1]), False, print): print('held', flush=True); input()"
    path = str(node.path(Path("work")).absolute())
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT, **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        done = lima("clean", "demo.yaml", "--yes")
        holder.communicate("\n")
    line = "lima: work: a run is under way that may read the rest: numbers-[0-9a-f]{8} is being built; wait for it"
    assert done.code == 2 and re.fullmatch(line, done.err[-1])
    assert node.path(Path("work")).exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pipeline.cleaning.children", ["clean"]),
        ("pipeline.planning.children", ["show", "numbers"]),
        ("pipeline.planning.children", ["export", "numbers", "out"]),
        ("pipeline.viz.draw", ["viz", "coverage"]),
    ],
    ids=["clean", "show", "export", "viz"],
)
def test_commands_that_build_nothing_tell_disk_trouble_in_one_line(
    lima: object, monkeypatch: pytest.MonkeyPatch, name: str, words: list[str]
) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "work")

    monkeypatch.setattr(name, failing)
    done = lima(*words)
    assert done.code == 2 and done.err[-1].startswith("lima: work: the disk fails (Input/output error); check the disk")


def test_help_and_doctor_import_neither_torch_nor_dask() -> None:
    for words in (["--help"], ["doctor"]):
        code = "import sys; from pipeline import cli\ntry: cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
        code += "print([name for name in ('torch', 'dask', 'zarr', 'nuscenes') if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_a_wrong_flag_is_exit_code_2(lima: object) -> None:
    assert lima("run", "--workerz", "3").code == 2
    assert lima("run", "--workers", "-1").code == 2


def test_a_run_that_the_disk_cannot_hold_is_refused_and_forced(lima: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.plan_text.free_bytes", lambda path: 1000)
    monkeypatch.setattr("pipeline.cost_model.estimate.estimates", lambda steps, *_: [Cost(5000, 1, 1.0) for _ in steps])
    refused = lima("run")
    assert refused.code == 2
    assert refused.out[-1].startswith("2 of 2 to build: 10 kB disk (")
    assert refused.err == [
        "lima: work: 10.2 kB are needed and 1 kB free; most for numbers 5 kB, total 5 kB; make room (lima clean "
        "CONFIG), give another disk with --work, store less (extract_features.codec), or --force"
    ]
    assert not list(Path("work").glob("numbers-*"))
    assert refused.err[0].replace("lima", "a run would be refused", 1) in lima("plan").out
    assert lima("run", "--force").code == 0


def test_the_index_is_built_first_where_nothing_is_known_before(
    lima: object, toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known(steps: list, *_: object) -> list:
        told = all(step.state == "cached" for step in steps if step.node.kind == "index")
        return [Cost(5, 1, 1.0) if told and step.state != "cached" else None for step in steps]

    monkeypatch.setattr(toys.make, "__name__", "stages.index")
    monkeypatch.setattr("pipeline.cost_model.estimate.estimates", known)
    lines = lima("run").out
    told = [number for number, line in enumerate(lines) if " to build: " in line]
    (built,) = [number for number, line in enumerate(lines) if "finished" in line and "numbers" in line]
    assert len(told) == 2 and told[0] < built < told[1]
    assert "not known yet" in lines[told[0]] and "not known yet" not in lines[told[1]]
