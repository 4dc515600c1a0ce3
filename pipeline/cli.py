"""The command line.  Everything heavy is imported inside the commands, so that help and doctor answer at once."""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lima_core.errors import BusyError, ConfigError, UserError, did_you_mean
from pipeline import building, wanted
from pipeline.options import (
    ConfigArgument,
    ConfigOption,
    Device,
    Engine,
    Force,
    Recompute,
    Scheduler,
    Seed,
    Set,
    Wait,
    Work,
    Workers,
)

app = typer.Typer(
    help="LiMA: staged image-to-LiDAR distillation.  Without a config, everything runs on a synthetic world.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main(words: Sequence[str] | None = None) -> None:
    """Entry point: 0 done, 2 the user's error in one line, 130 interrupted, 1 a bug of ours with its traceback."""
    from pipeline.ranks import Ranks, quiet_unless_first, refuse_alone

    ranks = Ranks()
    try:
        ranks = building.own_ranks()
        refuse_alone(ranks, list(sys.argv[1:] if words is None else words))
        with quiet_unless_first(ranks):
            app(args=words)
    except UserError as error:
        if ranks.fails_first():
            for line in str(error).splitlines():
                print(f"lima: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(building.INTERRUPTED)
    except Exception as error:
        from pipeline.disk import one_line

        told = one_line(error) if isinstance(error, OSError) else None
        if told and ranks.fails_first():
            print(f"lima: {told}", file=sys.stderr)
        if told:
            sys.exit(2)
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

    building.prepare_process()
    flow = wanted.flow()
    if name not in flow.STAGES:
        raise ConfigError(f"unknown stage {name!r}", where="lima stage", remedy=did_you_mean(name, flow.STAGES))
    flags = {"frames": frames, "method": method, "task": task, "ratio": ratio, "probe": probe or None, "init": init}
    words = [*assignments(name, seed=seed, **flags), *(overrides or [])]
    if materialize or name == "materialize":
        words = [*section("materialize", load(config or wanted.DEMO, flow.Experiment).materialize), *words]
    built = "materialize" if name == "build-memory" and materialize else name
    targets = wanted.targets(wanted.nodes(config, words), built)
    building.build(targets, work, device, engine, workers, wait, recompute, force, scheduler)
    building.print_scores(targets, work)


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

    building.prepare_process()
    nodes = wanted.nodes(config, [*assignments(None, seed=seed), *(overrides or [])])
    building.build(nodes, work, device, engine, workers, wait, recompute, force, scheduler)
    building.print_scores(nodes, work)
    building.print_report(nodes, work)


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
    building.prepare_process()
    targets = wanted.targets(wanted.nodes(config, overrides), "report")
    building.build(targets, work, device, engine, workers, wait, force=force, scheduler=scheduler)
    building.print_report(targets, work)


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
    building.prepare_process(None if jobs == 1 else 1)
    from pipeline import ablation
    from pipeline.cost_model.estimate import estimates
    from pipeline.hardware import resources
    from pipeline.jobs import share
    from pipeline.plan_text import plan_text, refusal
    from pipeline.planning import plan
    from stages import ablation as stage

    study = ablation.study(wanted.flow(), stage, config, overrides or [], seed)
    print(ablation.sharing_text(study), flush=True)
    whole = replace(resources(device, engine, workers, building.say), scheduler=scheduler, on_cpus=device == "cpu")
    if not plan_only:
        building.ablate(study, building.as_workers_see(work, study.targets, whole), whole, jobs, wait, force)
        return
    with told_in_one_line(work):
        steps = plan(study.targets, work)
        costs = estimates(steps, work, whole)
        jobs = jobs or building.num_jobs(costs, whole)
        if jobs > 1:
            costs = estimates(steps, work, share(whole, jobs))
        print(plan_text(steps, costs, work, study.arms_of(), jobs))
        if refused := refusal(steps, costs, work, jobs):
            print(f"a run would be refused: {refused}")


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
    from pipeline.cost_model import calibration
    from pipeline.cost_model.estimate import RULE, estimates
    from pipeline.disk import told_in_one_line
    from pipeline.hardware import resources
    from pipeline.plan_text import plan_text, refusal
    from pipeline.planning import plan

    building.prepare_process()
    nodes = wanted.nodes(config, overrides)
    whole = resources(device, engine, workers, lambda _: None)
    with told_in_one_line(work):
        steps = plan(nodes, work)
        if calibrate:
            calibration.calibrate(steps, work, whole, building.say)
        costs = estimates(steps, work, whole)
        refused = refusal(steps, costs, work)
    print(plan_text(steps, costs, work))
    if refused:
        print(f"a run would be refused: {refused}")
    waiting = [cost for step, cost in zip(steps, costs, strict=True) if step.state != "cached"]
    if any(cost is None or cost.source == RULE for cost in waiting) and not calibrate:
        print("rules of thumb were made on other machines; lima plan --calibrate measures this one")


@app.command("show")
def show_command(
    artifact: Annotated[str, typer.Argument(help="A path, a folder's name or its beginning, or a node's name.")],
    work: Work = Path("work"),
) -> None:
    """Print what an artifact is, what came out and where it comes from."""
    from pipeline import manifest
    from pipeline.disk import told_in_one_line
    from pipeline.text import manifest_text

    with told_in_one_line(work):
        path = wanted.find_artifact(artifact, work)
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
    from pipeline.disk import told_in_one_line
    from pipeline.shorthands import flags
    from pipeline.viz import Wish, draw

    building.prepare_process()
    wish = Wish(kind, frame, scene, out)
    nodes = wanted.nodes(config, overrides)
    with told_in_one_line(work):
        print(draw(wish, nodes, work, flags(config, overrides or [], work), building.say))


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
    building.prepare_process()
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
        record = run(name, module, options, file, building.say_aside, commit)
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
    building.prepare_process()
    from pipeline.disk import told_in_one_line
    from pipeline.places import fetched
    from pipeline.weights import export_weights, is_model

    with told_in_one_line(work):
        is_path = is_model(Path(artifact))
        source = Path(artifact) if is_path else fetched(wanted.find_artifact(artifact, work), building.say)
        print("\n".join(export_weights(source, out, form, intensity_divisor, work)))


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="A .pth, .pt, .ckpt or .safetensors file.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    overrides: Set = None,
) -> None:
    """Read a MinkUNet of SLidR, SuperFlow, LiMoE, mmdetection3d or Pointcept: docs/weights.md."""
    building.prepare_process()
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
    scheduler: Scheduler = None,
    wait: Wait = False,
) -> None:
    """Check every file of the artifacts against its checksum; code 2 where something is wrong: docs/integrity.md."""
    from pipeline.disk import told_in_one_line
    from pipeline.integrity.verify import verify

    for flag, value, default in (
        ("--device", device, "auto"),
        ("--engine", engine, "auto"),
        ("--workers", workers, None),
        ("--scheduler", scheduler, None),
        ("--wait", wait, False),
    ):
        if value != default and not mend:
            raise ConfigError(f"{flag} is of --repair", where="lima verify", remedy="leave it out, or add --repair")
    if quick and mend:
        raise ConfigError("--repair needs the checksums", where="lima verify", remedy="leave out --quick")
    nodes = [] if config is None and not mend else wanted.nodes_or_arms(config, overrides)
    work = work.absolute() if scheduler else work  # as the workers will see it
    with told_in_one_line(work):
        found = verify(nodes, work, everything or config is None, quick, building.say)
        building.say(found.summary(mend))
        if not mend and found.problems:
            raise typer.Exit(2)
        if mend and found.to_repair:
            building.prepare_process()
            building.repair(found, nodes, work, (device, engine, workers), wait, scheduler)


@app.command("clean")
def clean_command(
    config: ConfigArgument = None,
    overrides: Set = None,
    work: Work = Path("work"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed.")] = False,
) -> None:
    """List artifacts and half-built ones that are not this experiment's (or ablation's), and remove them with --yes."""
    from pipeline import disk
    from pipeline.cleaning import leftovers, removed, under_way

    if yes and config is None:
        raise ConfigError("--yes needs the config whose artifacts stay", where="lima clean", remedy="give it first")
    nodes = wanted.nodes_or_arms(config, overrides)
    freed = 0
    with disk.told_in_one_line(work):
        if yes and (busy := under_way(work)):
            what, remedy = f"a run is under way that may read the rest: {busy[0]} is being built", "wait for it"
            raise BusyError(what, where=work, remedy=remedy)
        found = leftovers(nodes, work)
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


if __name__ == "__main__":
    main()
