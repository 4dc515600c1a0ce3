"""``lima viz``: figures from the artifacts of an experiment.  Nothing is built; what is missing is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from lima_core.datasets import dataset_config, open_dataset
from lima_core.errors import ConfigError, StoreError, did_you_mean
from lima_core.methods.student import load_student
from lima_core.storage import Location
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank
from lima_core.viz.figures import figure
from lima_core.viz.predicted import open_predictions
from lima_core.viz.recording import Recording, require_rerun, write_recording
from lima_core.viz.sheet import DPI, draw_sheet
from lima_core.viz.shown import Sources
from lima_core.viz.trainings import Training, shown_pair
from lima_core.whole import appears_whole
from pipeline.disk import told_in_one_line
from pipeline.node import Node, Source, topological
from pipeline.places import here, readable
from pipeline.planning import is_finished
from pipeline.runner import Say

TAUGHT = ("index", "extract-features", "build-memory")
READS = {
    "similarity": (*TAUGHT, "distill"),
    "features": (*TAUGHT, "distill"),
    "coverage": ("index", "build-memory"),
    "errors": ("index", "finetune"),
    "rerun": (*TAUGHT, "finetune"),
}
"""Stages whose artifacts a figure reads."""
WRITER = "lima viz"
RERUN_MAGIC = b"RRF"
OTHER_OUT = "give another file with --out"


@dataclass(frozen=True)
class Wish:
    """What is to be shown, and where it goes."""

    kind: str
    frame: str | None = None
    scene: str | None = None
    out: Path | None = None
    """None: ``figures/<kind>-<token>.png`` in the work folder."""

    def __post_init__(self) -> None:
        if self.kind not in READS:
            raise ConfigError(f"unknown figure {self.kind!r}", where="lima viz", remedy=did_you_mean(self.kind, READS))
        if self.frame and self.scene:
            raise ConfigError("--frame and --scene exclude each other", where="lima viz", remedy="give one")
        if self.kind == "rerun" and self.frame:
            raise ConfigError("a recording is of a scene", where="lima viz rerun", remedy="give --scene, not --frame")
        suffix = ".rrd" if self.kind == "rerun" else ".png"
        if self.out and self.out.suffix.lower() != suffix:
            raise ConfigError(
                f"--out {self.out} does not end in {suffix}", where=f"lima viz {self.kind}", remedy="rename it"
            )


def draw(wish: Wish, nodes: Sequence[Node], work: Location, given: str, say: Say) -> Path:
    """Draws the figure and returns where it is.

    Args:
        wish: what and where to.
        nodes: of the experiment.
        work: folder of all artifacts.
        given: flags with which a stage of this experiment is built, for messages.
        say: receives a line for everything that is left out.

    Raises:
        StoreError: an artifact that the figure reads is not there.
        ConfigError: a frame or scene that cannot be shown, a file in the way, or rerun is not installed.
    """
    if wish.kind == "rerun":
        require_rerun()
    kinds = READS[wish.kind]
    if wish.kind == "rerun" and not any(node.kind == "finetune" for node in nodes):
        say("this experiment trains nothing downstream: the recording is without predictions")
        kinds = TAUGHT
    paths = {kind: finished(nodes, kind, work, given, say) for kind in kinds}
    raw = _raw(nodes, work, given)
    index = FrameIndex.open(paths["index"][0])
    sources = Sources(
        index=index,
        dataset=open_dataset(dataset_config(index.dataset), raw),
        store=FeatureStore.open(paths["extract-features"][0]) if "extract-features" in paths else None,
        bank=MemoryBank.open(paths["build-memory"][0]) if "build-memory" in paths else None,
        student=load_student(paths["distill"][0]) if "distill" in paths else None,
    )
    trainings = [Training.open(path) for path in paths.get("finetune", ())]
    if wish.kind == "rerun":
        return _record(wish, sources, trainings, work, say)
    sheet, token = figure(wish.kind, sources, trainings, wish.frame, wish.scene)
    out = wish.out or default_out(work, wish.kind, token)
    _save_png(draw_sheet(sheet), out)
    return out


def finished(nodes: Sequence[Node], kind: str, work: Location, given: str, say: Say) -> list[Location]:
    """The artifacts of a stage that are there, in the order of the flow.

    Raises:
        StoreError: none is; says which command builds it.
        ConfigError: the experiment has no such stage.
    """
    wanted = [node for node in topological(nodes) if node.kind == kind]
    if not wanted:
        there = ", ".join(sorted({node.kind for node in topological(nodes)}))
        raise ConfigError(f"this experiment has no stage {kind!r}, which the figure reads", remedy=f"it has {there}")
    there = [node for node in wanted if is_finished(node, work)]
    if not there:
        remedy = f"build it with: lima stage {kind}{given}"
        raise StoreError(f"{wanted[0].path(work).name} is not there", where=work, remedy=remedy)
    if missing := [node.path(work).name for node in wanted if node not in there]:
        say(f"not there and left out: {', '.join(missing)}")
    return [readable(node, work, say) for node in there]


def _raw(nodes: Sequence[Node], work: Location, given: str) -> Path:
    """Folder of the recordings, or of the synthetic world."""
    raw = next(node for node in topological(nodes) if node.kind == "index").inputs["raw"]
    if isinstance(raw, Source):
        return raw.root
    return finished([raw], raw.kind, work, given, lambda _: None)[0]


def default_out(work: Location, kind: str, shown: str, suffix: str = ".png") -> Path:
    """``work/figures/<kind>-<token>.png``, on this machine; a token that is a path becomes a name."""
    return here(work) / "figures" / f"{kind}-{shown.replace('/', '_')}{suffix}"


def _save_png(picture: Image.Image, out: Path) -> None:
    facts = PngImagePlugin.PngInfo()
    facts.add_text("Software", WRITER)
    with told_in_one_line(out.parent, OTHER_OUT):
        _refuse_foreign(out, _is_our_png)
    with told_in_one_line(out.parent, OTHER_OUT), appears_whole(out) as partial:
        picture.save(partial, "PNG", dpi=(DPI, DPI), pnginfo=facts)


def _record(wish: Wish, sources: Sources, trainings: Sequence[Training], work: Location, say: Say) -> Path:
    scene = wish.scene or (sources.index.scenes("val") or sources.index.scenes())[0]
    out = wish.out or default_out(work, "rerun", scene, ".rrd")
    with told_in_one_line(out.parent, OTHER_OUT):
        _refuse_foreign(out, lambda path: path.read_bytes()[:3] == RERUN_MAGIC)
    recording = Recording(sources, scene, open_predictions(shown_pair(trainings)))
    with told_in_one_line(out.parent, OTHER_OUT), appears_whole(out) as partial:
        names = write_recording(recording, partial)
    say(f"scene {scene}, coloured by: {', '.join(names)}")
    say(f"look at it with: rerun {out}")
    return out


def _refuse_foreign(out: Path, is_ours: Callable[[Path], bool]) -> None:
    if out.exists() and not (out.is_file() and is_ours(out)):
        raise ConfigError("is there and was not written by lima viz", where=out, remedy=OTHER_OUT)
    out.parent.mkdir(parents=True, exist_ok=True)


def _is_our_png(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == WRITER
    except (UnidentifiedImageError, OSError):
        return False
