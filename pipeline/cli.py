"""The command line.  Everything heavy is imported inside the commands, so that help and doctor answer at once."""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lima_core.errors import ConfigError, StoreError, UserError, did_you_mean

if TYPE_CHECKING:
    from lima_core.cost import Cost
    from lima_core.storage import Location
    from lima_core.types import Resources
    from pipeline.ablation import Study
    from pipeline.node import Node
    from pipeline.planning import Step
    from pipeline.ranks import Ranks
    from pipeline.verify import Verified

DEMO = Path(__file__).parent / "demo.yaml"
NO_CONFIG = "no config given: using the synthetic world (configs/demo.yaml)"
INTERRUPTED = 130

app = typer.Typer(
    help="LiMA: staged image-to-LiDAR distillation.  Without a config, everything runs on a synthetic world.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ConfigArgument = Annotated[Path | None, typer.Argument(help="An experiment, a YAML file.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="An experiment, a YAML file.")]


def _location(text: "str | Location") -> "Location":
    from lima_core.storage import location

    return location(text)


Work = Annotated[Any, typer.Option(parser=_location, metavar="PATH|URL", help="Folder of all artifacts, or s3://...")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Sets a config field; may be repeated.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<n>.")]
Engine = Annotated[str, typer.Option(help="Sparse engine: auto, native, spconv, torchsparse.")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Processes over scenes and loader threads; 0 works in this process. Default: the cores."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Of a Dask scheduler whose workers do the work over scenes: tcp://node1:8786."
    ),
]
Recompute = Annotated[
    bool,
    typer.Option("--checkpoint-activations", help="Training computes activations twice: less memory, the same bits."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for another run that builds the same artifact.")]
Seed = Annotated[int | None, typer.Option(help="Sets seeds to this one.")]
Force = Annotated[bool, typer.Option("--force", help="Start even if the disk is too small for what is planned.")]


def main(words: Sequence[str] | None = None) -> None:
    """Entry point: 0 done, 2 the user's error in one line, 130 interrupted, 1 a bug of ours with its traceback."""
    from pipeline.ranks import Ranks, quiet_unless_first, refuse_alone

    ranks = Ranks()
    try:
        ranks = _ranks()
        refuse_alone(ranks, list(sys.argv[1:] if words is None else words))
        with quiet_unless_first(ranks):
            app(args=words)
    except UserError as error:
        if ranks.fails_first():
            for line in str(error).splitlines():
                print(f"lima: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception:
        if ranks.fails_first():
            raise
        sys.exit(1)


@app.command("stage")
def stage_command(
    name: Annotated[str, typer.Argument(help="The stage, e.g. extract-features; what it needs is built first.")],
    config: ConfigOption = None,
    overrides: Set = None,
    work: Work = Path("work"),
    device: Device = "auto",
    engine: Engine = "auto",
    workers: Workers = None,
    scheduler: Scheduler = None,
    wait: Wait = False,
    recompute: Recompute = False,
    force: Force = False,
    seed: Seed = None,
    frames: Annotated[int | None, typer.Option(help="Window of the memory bank, key frames.")] = None,
    materialize: Annotated[
        bool, typer.Option("--materialize", help="Pool the bank's targets once, into features: docs/streaming.md.")
    ] = False,
    method: Annotated[str | None, typer.Option(help="Distillation method.")] = None,
    task: Annotated[str | None, typer.Option(help="Downstream task: seg.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Share of labels, e.g. 0.01.")] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Train the head alone on a frozen backbone.")] = False,
    init: Annotated[str | None, typer.Option(help="pretrained (default) or random.")] = None,
) -> None:
    """Build one stage, and whatever upstream of it is missing."""
    from pipeline.config import load
    from pipeline.shorthands import assignments, section

    _prepare_process()
    flow = _flow()
    if name not in flow.STAGES:
        raise ConfigError(f"unknown stage {name!r}", where="lima stage", remedy=did_you_mean(name, flow.STAGES))
    flags = {"frames": frames, "method": method, "task": task, "ratio": ratio, "probe": probe or None, "init": init}
    words = [*assignments(name, seed=seed, **flags), *(overrides or [])]
    if materialize or name == "materialize":
        words = [*section("materialize", load(config or DEMO, flow.Experiment).materialize), *words]
    targets = _targets(_nodes(flow, config, words), "materialize" if name == "build-memory" and materialize else name)
    _build(targets, work, device, engine, workers, wait, recompute, force, scheduler)
    _print_scores(targets, work)


@app.command("run")
def run_command(
    config: ConfigArgument = None,
    overrides: Set = None,
    work: Work = Path("work"),
    device: Device = "auto",
    engine: Engine = "auto",
    workers: Workers = None,
    scheduler: Scheduler = None,
    wait: Wait = False,
    recompute: Recompute = False,
    force: Force = False,
    seed: Seed = None,
) -> None:
    """Build everything of an experiment, up to the report."""
    from pipeline.shorthands import assignments

    _prepare_process()
    nodes = _nodes(_flow(), config, [*assignments(None, seed=seed), *(overrides or [])])
    _build(nodes, work, device, engine, workers, wait, recompute, force, scheduler)
    _print_scores(nodes, work)
    _print_report(nodes, work)


@app.command("report")
def report_command(
    config: ConfigArgument = None,
    overrides: Set = None,
    work: Work = Path("work"),
    device: Device = "auto",
    engine: Engine = "auto",
    workers: Workers = None,
    scheduler: Scheduler = None,
    wait: Wait = False,
    force: Force = False,
) -> None:
    """Build the report, and whatever upstream of it is missing."""
    _prepare_process()
    targets = _targets(_nodes(_flow(), config, overrides or []), "report")
    _build(targets, work, device, engine, workers, wait, force=force, scheduler=scheduler)
    _print_report(targets, work)


@app.command("ablate")
def ablate_command(
    config: Annotated[Path, typer.Argument(help="An ablation, a YAML file: see configs/ablation.yaml.")],
    overrides: Set = None,
    work: Work = Path("work"),
    device: Device = "auto",
    engine: Engine = "auto",
    workers: Workers = None,
    scheduler: Scheduler = None,
    wait: Wait = False,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; may be repeated.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Artifacts at a time. Default: the cores, as memory allows; GPU: 1.")
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Say what would be built and shared; build nothing.")
    ] = False,
    force: Force = False,
) -> None:
    """Train and score all arms of an ablation over several seeds, and compare them with the reference."""
    from pipeline.disk import told_in_one_line

    # One thread a job: then the number of jobs changes no bit, and small networks are no slower.
    _prepare_process(None if jobs == 1 else 1)
    from pipeline import ablation
    from pipeline.estimate import estimates
    from pipeline.hardware import resources
    from pipeline.plan_text import plan_text, require_room, total_text
    from pipeline.planning import plan
    from stages import ablation as stage

    study = ablation.study(_flow(), stage, config, overrides or [], seed)
    print(ablation.sharing_text(study), flush=True)
    whole = replace(resources(device, engine, workers, _say), scheduler=scheduler)
    work = work if plan_only else _as_workers_see(work, study.targets, whole)
    with told_in_one_line(work):
        steps = plan(study.targets, work)
        costs = estimates(steps, work, whole)
    if plan_only:
        print(plan_text(steps, costs, work, study.arms_of()))
        return
    _say(total_text(steps, costs, work))
    if not force:
        require_room(steps, costs, work)
    _ablate(study, steps, costs, work, whole, jobs, wait)


@app.command("plan")
def plan_command(
    config: ConfigArgument = None,
    overrides: Set = None,
    work: Work = Path("work"),
    device: Device = "auto",
    engine: Engine = "auto",
    workers: Workers = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine first, on a few frames: minutes.")
    ] = False,
) -> None:
    """Say what a run would do and why, and what it would cost; build nothing."""
    from pipeline import calibration
    from pipeline.disk import told_in_one_line
    from pipeline.estimate import RULE, estimates
    from pipeline.hardware import resources
    from pipeline.plan_text import plan_text
    from pipeline.planning import plan

    _prepare_process()
    nodes, whole = _nodes(_flow(), config, overrides or []), resources(device, engine, workers, lambda _: None)
    with told_in_one_line(work):
        steps = plan(nodes, work)
        if calibrate:
            calibration.calibrate(steps, work, whole, _say)
        costs = estimates(steps, work, whole)
    print(plan_text(steps, costs, work))
    if any(cost and cost.source == RULE for cost in costs) and not calibrate:
        print("rules of thumb were made on other machines; lima plan --calibrate measures this one")


@app.command("show")
def show_command(
    artifact: Annotated[str, typer.Argument(help="A path, a folder's name or its beginning, or a node's name.")],
    work: Work = Path("work"),
) -> None:
    """Print what an artifact is, what came out and where it comes from."""
    from pipeline import manifest
    from pipeline.text import manifest_text

    path = _find_artifact(artifact, work)
    print(manifest_text(path, manifest.read(path)))


@app.command("viz")
def viz_command(
    kind: Annotated[str, typer.Argument(help="similarity, features, coverage, errors or rerun (needs rerun-sdk).")],
    config: ConfigArgument = None,
    overrides: Set = None,
    work: Work = Path("work"),
    frame: Annotated[str | None, typer.Option(help="Token of the frame; default: one is chosen.")] = None,
    scene: Annotated[str | None, typer.Option(help="Name of the scene to choose from, or to record.")] = None,
    out: Annotated[Path | None, typer.Option(help="File; default: WORK/figures/KIND-TOKEN.png (.rrd).")] = None,
) -> None:
    """Draw a figure from the artifacts of an experiment; build nothing."""
    from pipeline.shorthands import flags
    from pipeline.viz import Wish, draw

    _prepare_process()
    wish = Wish(kind, frame, scene, out)
    print(draw(wish, _nodes(_flow(), config, overrides or []), work, flags(config, overrides or [], work), _say))


@app.command("doctor")
def doctor_command(work: Work = Path("work")) -> None:
    """Say what this machine has, what is missing, and how to get it."""
    from pipeline.doctor import report

    lines, healthy = report(work, os.environ)
    print("\n".join(lines))
    if not healthy:
        raise typer.Exit(2)


@app.command("bench")
def bench_command(
    subject: Annotated[
        str, typer.Argument(help="engines, layers, step, loader, projection or bank; all: every one.")
    ] = "engines",
    quick: Annotated[bool, typer.Option("--quick", help="One size, three rounds.")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file; of all subjects a folder.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    device: Device = "auto",
    only: Annotated[list[str] | None, typer.Option(help="Contestants whose names begin so; may be repeated.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="Module with a further contestant; may be repeated.")] = None,
    minutes: Annotated[float, typer.Option(help="Begin no case after so long.")] = math.inf,
    commit: Annotated[str, typer.Option(help="Commit of the code, where it is no git checkout.")] = "",
    tiny: Annotated[bool, typer.Option("--tiny", hidden=True)] = False,
) -> None:
    """Measure this machine: contestants in turn, medians, ratios, and the machine's own rates beside them."""
    _prepare_process()
    from pipeline import bench
    from pipeline.bench import text
    from pipeline.bench.harness import Options
    from pipeline.bench.record import run
    from pipeline.hardware import resolve_device

    size = "tiny" if tiny else "quick" if quick else "full"
    options = Options(resolve_device(device), size, tuple(only or ()), tuple(peer or ()), 60 * minutes)
    subjects = bench.SUBJECTS if subject == "all" else (subject,)
    modules = [bench.subject_module(name) for name in subjects]
    for name, module in zip(subjects, modules, strict=True):
        file = out / f"{name}.json" if out and subject == "all" else out
        record = run(name, module, options, file, _say_aside, commit)
        print((text.as_markdown if markdown else text.as_text)(record), end="\n\n", flush=True)


@app.command("export")
def export_command(
    artifact: Annotated[str, typer.Argument(help="Of distill or finetune: a path, a folder's name or its beginning.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    form: Annotated[
        str | None,
        typer.Option("--format", help="slidr, superflow, mmdet3d, mmdet3d-spconv, mmdet3d-minkowski or pointcept."),
    ] = None,
    intensity_divisor: Annotated[float, typer.Option(help="What that project divides intensities by.")] = 1.0,
    work: Work = Path("work"),
) -> None:
    """Write weights with all that is known about them to a folder, or in another project's names and layout."""
    _prepare_process()
    from pipeline.places import fetched
    from pipeline.weights import export_weights, is_model

    source = Path(artifact) if is_model(Path(artifact)) else fetched(_find_artifact(artifact, work), _say)
    print("\n".join(export_weights(source, out, form, intensity_divisor, work)))


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="A .pth, .pt, .ckpt or .safetensors file.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    overrides: Set = None,
) -> None:
    """Read a MinkUNet of SLidR, SuperFlow, LiMoE, mmdetection3d or Pointcept: docs/weights.md."""
    _prepare_process()
    from pipeline.weights import import_weights

    print("\n".join(import_weights(file, out, overrides or [])))


@app.command("verify")
def verify_command(
    config: ConfigArgument = None,
    overrides: Set = None,
    work: Work = Path("work"),
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is none of this experiment's; without a config always.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Sizes only, no checksums.")] = False,
    mend: Annotated[bool, typer.Option("--repair", help="Rebuild what is damaged, and only that.")] = False,
    device: Device = "auto",
    engine: Engine = "auto",
    workers: Workers = None,
    wait: Wait = False,
) -> None:
    """Check every file of the artifacts against its checksum; code 2 where something is wrong: docs/integrity.md."""
    from pipeline.disk import told_in_one_line
    from pipeline.verify import verify

    if quick and mend:
        raise ConfigError("--repair needs the checksums", where="lima verify", remedy="leave out --quick")
    nodes = [] if config is None and not mend else _nodes_or_arms(config, overrides or [])
    with told_in_one_line(work):
        found = verify(nodes, work, everything or config is None, quick, _say)
        _say(found.summary())
        if not mend and found.problems:
            raise typer.Exit(2)
        if mend and found.to_repair:
            _prepare_process()
            _repair(found, nodes, work, (device, engine, workers), wait)


@app.command("clean")
def clean_command(
    config: ConfigArgument = None,
    overrides: Set = None,
    work: Work = Path("work"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed.")] = False,
) -> None:
    """List artifacts and half-built ones that are not this experiment's, and remove them with --yes."""
    from pipeline import disk
    from pipeline.cleaning import leftovers, removed

    found = leftovers(_nodes(_flow(), config, overrides or []), work)
    freed = 0
    for leftover in found:
        word = leftover.kind
        if yes:
            word = "removed" if removed(leftover) else "in use, kept"
            freed += leftover.num_bytes if word == "removed" else 0
        print(f"{word:<12}  {disk.size(leftover.num_bytes):>8}  {leftover.path.name}")
    if not found:
        print(f"nothing to clean in {work}")
    elif yes:
        print(f"{disk.size(freed)} freed")
    else:
        print(f"{disk.size(sum(item.num_bytes for item in found))} in {len(found)} folders; --yes removes them")


def _repair(
    found: "Verified", nodes: "Sequence[Node]", work: "Location", wanted: tuple[str, str, int | None], wait: bool
) -> None:
    """Rebuilds what ``found`` says is damaged, and checks it again."""
    from pipeline.checks import check
    from pipeline.hardware import resources
    from pipeline.node import topological
    from pipeline.repair import Place
    from pipeline.verify import repair_all

    whole = resources(*wanted, _say)
    able = {node.path(work).name: Place(node, work, whole, wait, _say) for node in topological(nodes)}
    if left := repair_all(found, able, _say):
        remedy = "give the config that they were built with"
        raise StoreError(f"not of this experiment and not repaired: {', '.join(left)}", where=work, remedy=remedy)
    paths = {able[name].path for name in found.to_repair if name in able and able[name].path.exists()}
    if again := [problem for checked in check(sorted(paths), quick=False) for problem in checked.problems]:
        raise StoreError(f"still damaged after the repair: {again[0]}", remedy="check the disk")
    _say(f"all repaired: {', '.join(found.to_repair)}")


def _nodes_or_arms(path: Path | None, overrides: Sequence[str]) -> "list[Node]":
    """The nodes of an experiment, or of all arms of an ablation."""
    from pipeline.config import read_yaml

    if path is None or "experiment" not in read_yaml(path):
        return _nodes(_flow(), path, overrides)
    from pipeline import ablation
    from stages import ablation as stage

    return list(ablation.study(_flow(), stage, path, overrides, None).targets)


@cache
def _ranks() -> "Ranks":
    """Who this process is among those that torchrun started."""
    from pipeline.ranks import join

    return join(os.environ)


def _flow() -> ModuleType:
    from pipeline import graph

    return graph


def _nodes(flow: ModuleType, path: Path | None, overrides: Sequence[str]) -> "list[Node]":
    """The nodes of an experiment file, or of the demo, which is said."""
    from pipeline.config import load

    if path is None:
        print(NO_CONFIG, flush=True)
    return list(flow.build(load(path or DEMO, flow.Experiment, overrides)))


def _targets(nodes: "Sequence[Node]", stage: str) -> "list[Node]":
    """The nodes of a stage; for finetune the evaluations of what it trains, for a score is what one wants to see."""
    chosen = [node for node in nodes if node.kind == stage]
    if not chosen:
        known = did_you_mean(stage, {node.kind for node in nodes})
        raise ConfigError(f"this experiment has no stage {stage!r}", where="lima stage", remedy=known)
    if stage != "finetune":
        return chosen
    return [
        node for node in nodes if node.kind == "evaluate" and any(read in chosen for read in node.upstream)
    ] or chosen


def _build(
    targets: "Sequence[Node]",
    work: "Location",
    device: str,
    engine: str,
    workers: int | None,
    wait: bool,
    recompute: bool = False,
    force: bool = False,
    scheduler: str | None = None,
) -> None:
    """Builds the targets; of several processes the first does, and the others end here, when all is done."""
    from pipeline.hardware import resources
    from pipeline.ranks import leave, shared
    from pipeline.runner import follow, run

    ranks = _ranks()
    if ranks.leads:
        _print_missing(targets, work)
    try:
        whole = shared(lambda device, workers: resources(device, engine, workers, _say), ranks, device, workers)
        whole = replace(whole, checkpoint_activations=recompute, scheduler=scheduler)
        if ranks.leads:
            work = _as_workers_see(work, targets, whole)
            if index := _tell_cost(targets, work, whole, force):
                run(index, work, whole, wait=wait, say=_say)
                _tell_cost(targets, work, whole, force)
            run(targets, work, whole, wait=wait, say=_say, announce=ranks.announce)
        else:
            follow(targets, work, whole, ranks.announced())
        leave(ranks)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if not ranks.leads:
        raise typer.Exit


def _print_missing(targets: "Sequence[Node]", work: "Location") -> None:
    from pipeline.disk import told_in_one_line
    from pipeline.planning import plan

    with told_in_one_line(work):
        missing = [step.node for step in plan(targets, work) if step.state != "cached" and step.node not in targets]
    if missing:
        print(f"upstream to build first: {', '.join(node.name for node in missing)}", flush=True)


def _as_workers_see(work: "Location", targets: "Sequence[Node]", resources: "Resources") -> Path:
    """The work folder by a path that holds elsewhere, after the workers of a scheduler have shown that they see it."""
    if resources.scheduler is None:
        return work
    from pipeline.cluster import check
    from pipeline.disk import told_in_one_line

    with told_in_one_line(work):
        _say(check(resources.scheduler, work.absolute(), targets))
    return work.absolute()


def _tell_cost(targets: "Sequence[Node]", work: "Location", resources: "Resources", force: bool) -> "list[Node]":
    """Says what a run will take before it starts, and refuses one that the disk cannot hold.

    Returns:
        The index, where it must be built before the rest can be told; else nothing.
    """
    from pipeline.disk import told_in_one_line
    from pipeline.estimate import estimates
    from pipeline.plan_text import require_room, total_text
    from pipeline.planning import plan

    with told_in_one_line(work):
        steps = plan(targets, work)
        waiting = [step.node for step in steps if step.state != "cached"]
        if not waiting:
            return []
        costs = estimates(steps, work, resources)
        _say(total_text(steps, costs, work))
    if not force:
        require_room(steps, costs, work)
    index = [node for node in waiting if node.kind == "index"]
    told = sum(cost is not None for cost in costs)
    return index if told < len(waiting) and waiting != index else []


def _ablate(
    study: "Study",
    steps: "Sequence[Step]",
    costs: "Sequence[Cost | None]",
    work: "Location",
    whole: "Resources",
    jobs: int | None,
    wait: bool,
) -> None:
    """Builds the steps; prints the table after every seed that is complete, and where the page is."""
    from pipeline import jobs as side_by_side
    from pipeline.ablation_text import Progress, result_text
    from pipeline.hardware import default_jobs

    jobs = jobs or default_jobs(whole.device, [cost.memory_bytes for cost in costs if cost and cost.memory_bytes])
    _say(f"{jobs} artifact{'s' * (jobs != 1)} at a time, {os.environ.get('OMP_NUM_THREADS')} threads each")
    progress = Progress(study, work, _say)
    try:
        side_by_side.run(
            steps,
            work,
            side_by_side.share(whole, jobs),
            jobs,
            wait=wait,
            say=_say,
            after=progress.finished,
            marks=study.arms_of(),
        )
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    _say(result_text(study, study.seeds, work))
    page = study.result(study.seeds).path(work)
    _say(f"numbers: {page / 'ablation.parquet'}\nmarkdown: {page / 'ablation.md'}\npage: {page / 'ablation.html'}")


def _say(line: str) -> None:
    print(line, flush=True)


def _say_aside(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_scores(nodes: "Sequence[Node]", work: "Location") -> None:
    """The results as a table, means over seeds, and what they say in one sentence."""
    scored = [node for node in nodes if node.kind == "evaluate"]
    if not scored:
        return
    from lima_core.stores.scores import concat_scores
    from lima_core.viz.scores import HARD_SPACE, HEADER, compare, evaluators, reading, score_rows
    from pipeline.text import table

    scores = concat_scores([node.path(work) for node in scored])
    comparisons = compare(scores)
    lines = ["", table(HEADER, score_rows(comparisons)), f"evaluators: {evaluators(scores)}"]
    if any(comparison.difference is not None for comparison in comparisons):
        lines.append(reading(comparisons))
    print("\n".join(lines).replace(HARD_SPACE, " "))


def _print_report(nodes: "Sequence[Node]", work: "Location") -> None:
    from pipeline.places import readable

    for node in nodes:
        if node.kind == "report":
            print(f"report: {readable(node, work, _say) / 'report.html'}")


def _find_artifact(text: str, work: "Location") -> "Location":
    """The artifact that ``text`` means; of several the newest."""
    from pipeline.planning import artifacts

    if (Path(text) / "manifest.json").is_file() or "/" in text:
        return _location(text)
    found: list[tuple[Location, Any]] = artifacts(work)
    matching = [item for item in found if item[1].name == text] or [i for i in found if i[0].name.startswith(text)]
    if not matching:
        names = {record.name for _, record in found}
        remedy = did_you_mean(text, names) if names else "nothing is built there yet: lima run, or give --work"
        raise StoreError(f"no artifact {text!r}", where=work, remedy=remedy)
    return max(matching, key=lambda item: item[1].created)[0]


def _prepare_process(threads: int | None = None) -> None:
    from pipeline.process import keep_freed_memory, set_threads

    set_threads(threads)
    keep_freed_memory()


if __name__ == "__main__":
    main()
