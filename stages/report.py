"""report: everything that an experiment made -> one HTML page that needs nothing else.

Whatever is missing (labels, a bank, scores) is said in a sentence where it would have stood; it is never an error.

Reads
    raw, index: images, points, labels.
    extract_features, build_memory, materialize: the teacher's features and the banks, if there are any.
    distills, finetunes, evaluations: artifacts of those stages by a label that is unique, if there are any.
    manifest.json beside each of them, where the runner wrote one.
Writes
    report.html
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lima_core.cost import Cost, Scale
from lima_core.datasets import dataset_config, open_dataset
from lima_core.memory.quality import Quality
from lima_core.methods.student import load_student
from lima_core.storage import files_below, is_file, read_bytes
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.materialised_bank import MaterialisedBank
from lima_core.stores.memory_bank import MemoryBank
from lima_core.stores.scores import concat_scores
from lima_core.training.checkpoint import read_meta
from lima_core.types import Config as BaseConfig
from lima_core.types import Frame, Resources
from lima_core.viz import html, provenance, scores
from lima_core.viz.choose import taught_frame
from lima_core.viz.coverage import coverage_sheet
from lima_core.viz.features import features_sheet
from lima_core.viz.predicted import error_maps
from lima_core.viz.quality import quality_by_group, quality_by_window
from lima_core.viz.sheet import Sheet, draw_sheet
from lima_core.viz.shown import ShownFrame, Sources
from lima_core.viz.similarity import find_queries, similarity_sheet
from lima_core.viz.taught import frame_pictures
from lima_core.viz.trainings import Training, curve_drawings, shown_pair
from lima_core.whole import appears_whole

VERSION = 3
FILE = "report.html"


class Config(BaseConfig):
    """What the page shows."""

    title: str = ""
    """Empty: made from the data set's name."""
    frame: str | None = None
    """Token of the frame whose memory and features are shown; null: the middle one of the first taught scene."""
    scan: str | None = None
    """Token of the only scan whose errors are shown; null: three of the labelled validation split."""


@dataclass(frozen=True)
class Inputs:
    """What the stage reads; artifacts of one kind by label, the runner gives None for what there is not."""

    raw: Path
    index: Path
    extract_features: Path | None = None
    build_memory: Path | None = None
    distills: Mapping[str, Path] | None = None
    finetunes: Mapping[str, Path] | None = None
    evaluations: Mapping[str, Path] | None = None
    materialize: Path | None = None

    @property
    def artifacts(self) -> list[tuple[str, Path]]:
        """Label and folder of everything that is there, in the order of the flow; recordings are no artifact."""
        single = {"raw": self.raw if (self.raw / "manifest.json").is_file() else None, "index": self.index}
        single |= {"extract-features": self.extract_features, "build-memory": self.build_memory}
        single |= {"materialize": self.materialize}
        many = [*(self.distills or {}).items(), *(self.finetunes or {}).items(), *(self.evaluations or {}).items()]
        return [(name, path) for name, path in (*single.items(), *many) if path is not None]


@dataclass(frozen=True)
class Opened:
    """The inputs, opened."""

    sources: Sources
    scores: list
    comparisons: list[scores.Comparison]
    inputs: Inputs
    materialised: MaterialisedBank | None = None
    """Targets that were pooled before."""

    @property
    def index(self) -> FrameIndex:
        """All frames."""
        return self.sources.index

    @property
    def store(self) -> FeatureStore | None:
        """The teacher's features."""
        return self.sources.store

    @property
    def bank(self) -> MemoryBank | None:
        """What teaches which points."""
        return self.sources.bank


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Writes the page.

    Raises:
        ConfigError: the config names a frame that does not exist.
        StoreError: an artifact that cannot be read.
    """
    opened = open_inputs(inputs, resources)
    shown = frame_to_show(config, opened)
    title = page_title(config, opened)
    trainings = [Training.open(path) for path in (inputs.finetunes or {}).values()]
    body = [
        header(title, opened),
        results(opened),
        curves(opened, trainings),
        bank_quality(opened),
        memory_frame(opened, shown),
        learned(opened, shown),
        predicted_scans(config, opened, trainings),
        origins(inputs),
    ]
    text = html.page(title, body)
    with appears_whole(out / FILE) as partial:
        partial.write_text(text, encoding="utf-8")
    said = scores.reading(opened.comparisons).replace(scores.HARD_SPACE, " ")
    return {"reading": said, "page": FILE, "page_bytes": len(text.encode())}


def estimate(config: Config, scale: Scale, resources: Resources) -> Cost:
    """Disk, memory and time: a page of pictures of single frames, however many there are."""
    return Cost(1_500_000, 1_000_000_000, 10.0)


def open_inputs(inputs: Inputs, resources: Resources) -> Opened:
    """Opens what is there; of several students the first is shown."""
    index = FrameIndex.open(inputs.index)
    found = concat_scores((inputs.evaluations or {}).values())
    students = list((inputs.distills or {}).values())
    sources = Sources(
        index=index,
        dataset=open_dataset(dataset_config(index.dataset), inputs.raw),
        store=FeatureStore.open(inputs.extract_features) if inputs.extract_features else None,
        bank=MemoryBank.open(inputs.build_memory) if inputs.build_memory else None,
        student=load_student(students[0], resources.engine, resources.device) if students else None,
    )
    materialised = MaterialisedBank.open(inputs.materialize) if inputs.materialize else None
    return Opened(sources, found, scores.compare(found), inputs, materialised)


def frame_to_show(config: Config, opened: Opened) -> ShownFrame | None:
    """The frame whose memory and features are shown; None where nothing is taught.

    Raises:
        ConfigError: the config names a frame that does not exist or is not in the bank.
    """
    frame = taught_frame(config.frame, opened.index, opened.bank) if opened.bank else None
    return ShownFrame(opened.sources, frame) if frame else None


def page_title(config: Config, opened: Opened) -> str:
    """The title line; synthetic data are always called so in it."""
    title = config.title or f"Image-to-LiDAR distillation with LiMA on {opened.index.facts.name}"
    return f"{title} (synthetic data)" if opened.index.facts.synthetic else title


def header(title: str, opened: Opened) -> str:
    """What this is, in a few lines, and the result in one."""
    index, inputs = opened.index, opened.inputs
    splits = index.splits()
    num_frames = sum(splits.values())
    origin = "synthetic, generated" if index.facts.synthetic else "recorded"
    poses = "" if index.facts.poses == "recorded" else f"; poses {index.facts.poses}"
    data = (
        f"{index.facts.name}: {origin}{poses}; {scores.counted(len(index.scenes()), 'scene')}, {num_frames} key frames"
    )
    counts = ", ".join(f"{splits[split]} {split}" for split in ("train", "val", "none") if split in splits)
    metas = [read_meta(path / "backbone") for path in (inputs.distills or {}).values()]
    stores = [store for store in (opened.store, opened.materialised) if store]
    teachers = {meta["teacher"] for meta in metas} | {store.facts.teacher for store in stores}
    known = {
        "data": f"{data} ({counts})",
        "teacher": "; ".join(sorted(teachers)) or "not known: neither features nor a distilled student were given",
        "student": "; ".join(sorted({_student(meta) for meta in metas})) or "not distilled yet",
        "evaluators": scores.evaluators(opened.scores) or "none yet",
    }
    lead = "How much a LiDAR network gains from being taught by images before it sees a label."
    warning = "These numbers come from a synthetic world and say nothing about real recordings."
    mark = f'<p class="synthetic">{html.escape(warning)}</p>' if index.facts.synthetic else ""
    reading = f'<p class="reading">{html.escape(scores.reading(opened.comparisons))}</p>'
    return f'<h1>{html.escape(title)}</h1><p class="lead">{lead}</p>{mark}{reading}{provenance.facts(known)}'


def _student(meta: Mapping[str, Any]) -> str:
    return (
        f"{meta['backbone']['name']} on {meta['voxels']['name']} voxels, taught by {scores.method_name(meta['method'])}"
    )


def results(opened: Opened) -> str:
    """Random initialisation against pre-training."""
    title = "Results on the validation split"
    if not opened.comparisons:
        why = "the data set has no labels" if not opened.index.facts.classes else "no evaluation was given"
        return html.section(title, html.note(f"There are no scores: {why}."))
    explained = (
        "Mean and standard deviation over n seeds, per cent. Points: pre-trained less random. Training "
        "frames: how many, the rule that chose them, and the first digits of the hash of their list."
    )
    tables = scores.score_table(opened.comparisons) + html.note(explained)
    return html.section(title, tables, scores.class_tables(opened.comparisons))


def curves(opened: Opened, trainings: Sequence[Training]) -> str:
    """Loss against step of every training."""
    drawn = curve_drawings(list((opened.inputs.distills or {}).values()), trainings)
    if not drawn:
        return html.section("Training", html.note("There are no curves: no training was given."))
    return html.section("Training", html.drawings(drawn, "Loss against optimiser step; one line per seed."))


def bank_quality(opened: Opened) -> str:
    """What the memory bank is worth, by window and by group of points, and what it costs."""
    title = "The memory bank"
    if opened.bank is None:
        missing = html.note("There is no memory bank: none was given.")
        return html.section(title, missing, provenance.facts(materialised_costs(opened)))
    bank = opened.bank
    attributes = bank.attributes()
    quality = Quality.total([Quality.from_json(part["quality"]) for part in attributes], bank.frames)
    num_frames = max(sum(part["num_frames"] for part in attributes), 1)
    costs = provenance.facts(bank_costs(opened, quality, num_frames))
    by_group = quality_by_group(quality.by_group(quality.frames), quality.frames)
    return html.section(title, quality_by_window(quality.by_window()), by_group, costs)


def bank_costs(opened: Opened, quality: Quality, num_frames: int) -> dict[str, str]:
    """Bytes per frame of bank and features, and of the targets if they were kept as features."""
    bank_bytes = _folder_bytes(opened.bank.path) / num_frames
    costs = {"bank": f"{provenance.size(bank_bytes)} per frame; it holds references into images and no features"}
    if opened.store:
        facts = opened.store.facts
        frames = sum(scene.num_frames for scene in opened.store.summaries())
        features = _folder_bytes(opened.inputs.extract_features) / max(frames, 1)
        grid = f"{facts.grid[0]} x {facts.grid[1]} patches, {facts.channels} channels, {facts.codec}"
        costs["features"] = f"{provenance.size(features)} per frame ({len(facts.cameras)} cameras, {grid})"
        kept = quality.targets.sum() / num_frames * facts.channels * 2
        costs["instead of"] = f"{provenance.size(kept)} per frame, were each target kept as a float16 feature"
    return costs | materialised_costs(opened)


def materialised_costs(opened: Opened) -> dict[str, str]:
    """Bytes per frame and fidelity of the targets that were pooled before; nothing where there are none."""
    bank = opened.materialised
    if bank is None:
        return {}
    num_frames, fidelity = sum(scene.num_frames for scene in bank.summaries()), bank.fidelity()
    kept = provenance.size(_folder_bytes(bank.path) / max(num_frames, 1))
    how = f"{bank.facts.codec}, window {bank.facts.frames}, cosine {fidelity.mean_cosine:.4f}"
    return {"materialised": f"{kept} per frame ({how}); these targets are what the student was taught"}


def _folder_bytes(path: Path) -> int:
    return sum(size for name, size in files_below(path).items() if "logs" not in name.split("/"))


def memory_frame(opened: Opened, shown: ShownFrame | None) -> str:
    """One frame of the bank: its points in the camera that looks ahead, and what a longer window teaches."""
    title = "One frame and its memory"
    if shown is None:
        return html.section(title, html.note("There is no frame to show: no bank with a taught point was given."))
    drawn = sheets_html([("coverage", coverage_sheet(shown))], photo=False)
    return html.section(title, html.note(_named(shown.frame)), *frame_pictures(shown), drawn)


def learned(opened: Opened, shown: ShownFrame | None) -> str:
    """The same frame: features of teacher, bank and student, and the paper's figure of cosine similarity."""
    title = "What the student has learned"
    if shown is None or opened.sources.student is None:
        missing = "no frame of a bank" if shown is None else "no distilled student"
        return html.section(title, html.note(f"There are no pictures of features: {missing} was given."))
    if not shown.has_features:
        return html.section(title, html.note("There are no pictures of features: none were given for this scene."))
    sheets = [("features", features_sheet(shown))]
    queries = find_queries(shown)
    sheets += [("similarity", similarity_sheet(shown, queries))] if queries else []
    drawn = sheets_html(sheets, photo=True)
    missing = "" if queries else html.note("There is no picture of similarities: no taught point is seen well enough.")
    return html.section(title, drawn, missing)


def sheets_html(sheets: Sequence[tuple[str, Sheet]], photo: bool) -> str:
    """Figures below each other; the caption says how to draw them for other frames."""
    named = [
        (f"{sheet.title}. The same for other frames: lima viz {kind}.", draw_sheet(sheet), photo)
        for kind, sheet in sheets
    ]
    return html.pictures(named, 1)


def _named(frame: Frame) -> str:
    return f"Scene {frame.scene}, frame {frame.index} of the {frame.split} split, token {frame.token}."


def predicted_scans(config: Config, opened: Opened, trainings: Sequence[Training]) -> str:
    """Scans from above: truth, and where each start of the same training is wrong."""
    title = "Where predictions are wrong"
    chosen = shown_pair(trainings)
    if not chosen:
        return html.section(title, html.note("There are no predictions: no downstream training was given."))
    found = error_maps(opened.sources, chosen, config.scan)
    if found is None:
        return html.section(title, html.note("There are no error maps: no labelled validation frame has a prediction."))
    sheet, frames = found
    said = html.note(" ".join(_named(frame) for frame in frames))
    return html.section(title, said, sheets_html([("errors", sheet)], photo=False))


def origins(inputs: Inputs) -> str:
    """Every artifact with what made it."""
    found = [(label, read_manifest(path)) for label, path in inputs.artifacts]
    manifests = [(manifest["name"] if manifest else label, manifest) for label, manifest in found]
    return html.section("Where it comes from", provenance.provenance_table(manifests), provenance.records(manifests))


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest that the runner wrote into an artifact; None where a stage was called without it."""
    file = path / "manifest.json"
    return json.loads(read_bytes(file)) if is_file(file) else None
