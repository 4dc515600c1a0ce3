"""report: everything that an experiment made -> one HTML page that needs nothing else.

Whatever is missing (labels, a bank, scores) is said in a sentence where it would have stood; it is never an error.

Reads
    raw, index: images, points, labels.
    extract_features, build_memory: the teacher's features and the bank, if there are any.
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

import numpy as np
import torch

from lima_core.datasets import dataset_config, open_dataset
from lima_core.datasets.adapter import Dataset
from lima_core.geometry.camera import project
from lima_core.memory.pooling import pool, to_references
from lima_core.memory.quality import Quality
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import FrameBank, MemoryBank
from lima_core.stores.predictions import Predictions
from lima_core.stores.scores import concat_scores
from lima_core.training.checkpoint import read_meta
from lima_core.types import Config as BaseConfig
from lima_core.types import Frame, Resources
from lima_core.viz import html, provenance, scores
from lima_core.viz.bev import fit_view
from lima_core.viz.choose import forward_of, predicted_frame, taught_frame
from lima_core.viz.pca import PcaColours, fit_pca
from lima_core.viz.predicted import scan_pictures
from lima_core.viz.quality import quality_by_window
from lima_core.viz.taught import TaughtFrame, frame_pictures
from lima_core.viz.trainings import Training, curve_drawings, shown_pair
from lima_core.whole import appears_whole

VERSION = 1
FILE = "report.html"
BEV_PX = 640


class Config(BaseConfig):
    """What the page shows."""

    title: str = ""
    """Empty: made from the data set's name."""
    frame: str | None = None
    """Token of the frame whose memory is shown; null: the middle frame of the first scene with taught points."""
    scan: str | None = None
    """Token of the scan whose predictions are shown; null: the middle one of the first labelled validation scene."""


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

    @property
    def artifacts(self) -> list[tuple[str, Path]]:
        """Label and folder of everything that is there, in the order of the flow; recordings are no artifact."""
        single = {"raw": self.raw if (self.raw / "manifest.json").is_file() else None, "index": self.index}
        single |= {"extract-features": self.extract_features, "build-memory": self.build_memory}
        many = [*(self.distills or {}).items(), *(self.finetunes or {}).items(), *(self.evaluations or {}).items()]
        return [(name, path) for name, path in (*single.items(), *many) if path is not None]


@dataclass(frozen=True)
class Opened:
    """The inputs, opened."""

    index: FrameIndex
    dataset: Dataset
    store: FeatureStore | None
    bank: MemoryBank | None
    scores: list
    comparisons: list[scores.Comparison]
    inputs: Inputs


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Writes the page.

    Raises:
        ConfigError: the config names a frame that does not exist.
        StoreError: an artifact that cannot be read.
    """
    opened = open_inputs(inputs)
    title = page_title(config, opened)
    trainings = [Training.open(path) for path in (inputs.finetunes or {}).values()]
    body = [
        header(title, opened),
        results(opened),
        curves(opened, trainings),
        bank_quality(opened),
        memory_frame(config, opened),
        predicted_scan(config, opened, trainings),
        origins(inputs),
    ]
    text = html.page(title, body)
    with appears_whole(out / FILE) as partial:
        partial.write_text(text, encoding="utf-8")
    said = scores.reading(opened.comparisons).replace(scores.HARD_SPACE, " ")
    return {"reading": said, "page": FILE, "page_bytes": len(text.encode())}


def open_inputs(inputs: Inputs) -> Opened:
    """Opens what is there."""
    index = FrameIndex.open(inputs.index)
    found = concat_scores((inputs.evaluations or {}).values())
    return Opened(
        index=index,
        dataset=open_dataset(dataset_config(index.dataset), inputs.raw),
        store=FeatureStore.open(inputs.extract_features) if inputs.extract_features else None,
        bank=MemoryBank.open(inputs.build_memory) if inputs.build_memory else None,
        scores=found,
        comparisons=scores.compare(found),
        inputs=inputs,
    )


def page_title(config: Config, opened: Opened) -> str:
    """The title line; synthetic data are always called so in it."""
    title = config.title or f"Image-to-LiDAR distillation with LiMA on {opened.index.facts.name}"
    return f"{title} (synthetic data)" if opened.index.facts.synthetic else title


def header(title: str, opened: Opened) -> str:
    """What this is, in a few lines, and the result in one."""
    index, inputs = opened.index, opened.inputs
    frames = index.frames()
    splits = {split: sum(frame.split == split for frame in frames) for split in ("train", "val", "none")}
    origin = "synthetic, generated" if index.facts.synthetic else "recorded"
    poses = "" if index.facts.poses == "recorded" else f"; poses {index.facts.poses}"
    data = (
        f"{index.facts.name}: {origin}{poses}; {scores.counted(len(index.scenes()), 'scene')}, {len(frames)} key frames"
    )
    counts = ", ".join(f"{number} {split}" for split, number in splits.items() if number)
    metas = [read_meta(path / "backbone") for path in (inputs.distills or {}).values()]
    teachers = {meta["teacher"] for meta in metas} | ({opened.store.facts.teacher} if opened.store else set())
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
    """What the memory bank is worth, by window, and what it costs."""
    title = "The memory bank"
    if opened.bank is None:
        return html.section(title, html.note("There is no memory bank: none was given."))
    bank = opened.bank
    attributes = [bank.attributes(scene) for scene in bank.scenes()]
    quality = Quality.total([Quality.from_json(part["quality"]) for part in attributes], bank.frames)
    num_frames = max(sum(part["num_frames"] for part in attributes), 1)
    costs = provenance.facts(bank_costs(opened, quality, num_frames))
    return html.section(title, quality_by_window(quality.by_window()), costs)


def bank_costs(opened: Opened, quality: Quality, num_frames: int) -> dict[str, str]:
    """Bytes per frame of bank and features, and of the targets if they were kept as features."""
    bank_bytes = _folder_bytes(opened.bank.path) / num_frames
    costs = {"bank": f"{provenance.size(bank_bytes)} per frame; it holds references into images and no features"}
    if opened.store:
        facts = opened.store.facts
        frames = sum(opened.store.summary(scene).num_frames for scene in opened.store.scenes())
        features = _folder_bytes(opened.inputs.extract_features) / max(frames, 1)
        grid = f"{facts.grid[0]} x {facts.grid[1]} patches, {facts.channels} channels, {facts.codec}"
        costs["features"] = f"{provenance.size(features)} per frame ({len(facts.cameras)} cameras, {grid})"
        kept = quality.targets.sum() / num_frames * facts.channels * 2
        costs["instead of"] = f"{provenance.size(kept)} per frame, were each target kept as a float16 feature"
    return costs


def _folder_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and "logs" not in file.parts)


def memory_frame(config: Config, opened: Opened) -> str:
    """One frame of the bank: its images with their points, and what teaches the scan from above."""
    title = "One frame and its memory"
    frame = taught_frame(config.frame, opened.index, opened.bank) if opened.bank else None
    if frame is None:
        return html.section(title, html.note("There is no frame to show: no bank with a taught point was given."))
    points = opened.dataset.load_points(frame)
    bank = opened.bank.frame(frame.scene, frame.index)
    colours = feature_colours(opened, frame)
    shown = TaughtFrame(
        points=points,
        cameras=opened.index.facts.cameras,
        images=tuple(camera and opened.dataset.load_image(camera) for camera in frame.cameras),
        projection=project(frame, points[:, :3]),
        bank=bank,
        window=opened.bank.frames,
        patches=colours and colours(_patches(opened, frame, frame.index)[0]),
        targets=colours and target_colours(opened, frame, bank, colours),
    )
    pictures = frame_pictures(shown, fit_view(points, BEV_PX, forward_of(frame)))
    missing = "" if colours else html.note("The teacher's features are not shown: none were given for this scene.")
    return html.section(title, html.note(_named(frame)), *pictures, missing)


def _named(frame: Frame) -> str:
    return f"Scene {frame.scene}, frame {frame.index} of the {frame.split} split, token {frame.token}."


def feature_colours(opened: Opened, frame: Frame) -> PcaColours | None:
    """Colours of the teacher's features, fitted to this frame's images."""
    if opened.store is None or frame.scene not in opened.store.scenes():
        return None
    seen = _patches(opened, frame, frame.index)[0, [camera is not None for camera in frame.cameras]]
    return fit_pca(seen) if seen.size else None


def _patches(opened: Opened, frame: Frame, first: int) -> np.ndarray:
    """(F, cameras, h, w, C) float32 features of the frames from ``first`` to this one."""
    facts = opened.store.facts
    table = opened.store.read(frame.scene, first, frame.index + 1).table().numpy()
    return table.reshape(-1, len(facts.cameras), *facts.grid, facts.channels)


def target_colours(opened: Opened, frame: Frame, bank: FrameBank, colours: PcaColours) -> np.ndarray:
    """(T, 3) uint8 colours of the bank's targets, pooled as in training."""
    facts, oldest = opened.store.facts, max(0, frame.index - opened.bank.frames + 1)
    references = to_references([bank], [frame.index + 1 - oldest], len(facts.cameras))
    table = torch.from_numpy(_patches(opened, frame, oldest).reshape(-1, facts.channels))
    return colours(pool(table, references, facts.grid, facts.patch_px).numpy())


def predicted_scan(config: Config, opened: Opened, trainings: Sequence[Training]) -> str:
    """One scan from above: truth, both predictions, and where they differ."""
    title = "One scan and its predictions"
    chosen = shown_pair(trainings)
    if not chosen:
        return html.section(title, html.note("There are no predictions: no downstream training was given."))
    runs = {training.start: Predictions.open(training.path / "predictions") for training in chosen}
    first = next(iter(runs.values()))
    frame = predicted_frame(config.scan, opened.index, first)
    if frame is None:
        return html.section(title, html.note("There is no scan to show: no validation frame has a prediction."))
    points = opened.dataset.load_points(frame)
    labels = opened.dataset.load_labels(frame) if frame.labels else None
    predicted = {name: run.read(frame.token) for name, run in runs.items()}
    view = fit_view(points, BEV_PX, forward_of(frame))
    said = f"{_named(frame)} Predicted by: {chosen[0].title}, seed {chosen[0].facts['seed']}."
    return html.section(title, html.note(said), scan_pictures(points, labels, predicted, first.classes, view))


def origins(inputs: Inputs) -> str:
    """Every artifact with what made it."""
    found = [(label, read_manifest(path)) for label, path in inputs.artifacts]
    manifests = [(manifest["name"] if manifest else label, manifest) for label, manifest in found]
    return html.section("Where it comes from", provenance.provenance_table(manifests), provenance.records(manifests))


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest that the runner wrote into an artifact; None where a stage was called without it."""
    file = path / "manifest.json"
    return json.loads(file.read_text()) if file.is_file() else None
