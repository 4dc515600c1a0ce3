"""``lima export`` and ``lima import``: weights out of the work folder, and those of other projects into a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lima_core.geometry.voxels import VoxelGridConfig
from lima_core.models.described import described_network
from lima_core.models.folders import PARTS, Facts, export_folder, export_foreign, save_import
from lima_core.models.foreign.dialect import Dialect
from lima_core.models.foreign.exporting import find_dialect
from lima_core.models.foreign.importing import import_file
from lima_core.models.pretrained import file_sha256
from lima_core.storage import Location
from lima_core.training.checkpoint import META, read_meta
from lima_core.types import Config
from pipeline import manifest
from pipeline.config import override
from pipeline.disk import told_in_one_line
from pipeline.manifest import Manifest
from pipeline.planning import artifacts


class ImportConfig(Config):
    """What the file does not say; every field may be set by ``--set``."""

    voxels: VoxelGridConfig | None = None
    """The cells it was trained with; null: those of its project's own config."""
    method: str = "imported"
    """How it was pretrained, as scores will name it."""
    teacher: str = "not known"
    prefix: str | None = None
    """Where in the file the backbone is, if there are several."""
    intensity_divisor: float = Field(default=1.0, gt=0)
    """What it was trained to see intensities divided by: 255 for Pointcept on nuScenes."""


def import_weights(file: Path, out: Path, assignments: Sequence[str]) -> list[str]:
    """Reads a checkpoint of another project into the folder ``out``; lines that say what was found.

    Raises:
        CheckpointError: unreadable, or no network that can be had here.
        ConfigError: a wrong assignment, or ``out`` is already there.
        DataError: ``out`` cannot be written.
    """
    about_voxels = [text for text in assignments if text.startswith("voxels")]
    config = override(ImportConfig(), [text for text in assignments if text not in about_voxels])
    imported = import_file(file, config.prefix, config.intensity_divisor)
    voxels = override(ImportConfig(voxels=imported.voxels), about_voxels).voxels or imported.voxels
    source = {"file": file.name, "sha256": file_sha256(file), "intensity_divisor": config.intensity_divisor}
    with told_in_one_line(out.parent, "give another folder"):
        save_import(imported, out, Facts(voxels, config.method, config.teacher, source))
    assumed = "as set" if about_voxels else f"as in {imported.dialect}'s own config; set others with --set voxels..."
    sizes = ", ".join(f"{key} {value}" for key, value in voxels.model_dump(mode="json").items())
    return [*imported.report(), f"voxels: {sizes} ({assumed})", f"written: {out}"]


def export_weights(source: Path, out: Path, form: str | None, intensity_divisor: float, work: Location) -> list[str]:
    """Writes the model in ``source`` to the folder ``out``; lines that say what was written.

    Raises:
        CheckpointError: no model there.
        ConfigError: an unknown format, one that cannot say this network, or ``out`` is already there.
        DataError: ``out`` cannot be written.
    """
    extra = provenance(source, work)
    told = [_told(len(extra["scores"]))] if extra else []
    with told_in_one_line(out.parent, "give another folder"):
        if form is None:
            export_folder(source, out, extra)
            return [*told, f"written: {out}"]
        dialect = find_dialect(form)
        head = export_foreign(source, out, dialect, intensity_divisor, extra)
    told += _about_the_seam(source, dialect)
    return [*told, f"head: {head}", f"written: {out / (dialect.name + '.safetensors')}"]


def _told(num_scores: int) -> str:
    found = f"the scores of {num_scores} evaluation{'s' * (num_scores > 1)} are" if num_scores else "no score is"
    return f"model.json says where the weights come from; {found} in it"


def _about_the_seam(source: Path, dialect: Dialect) -> list[str]:
    """A warning, where the other project's code knows no neighbours across azimuth 0 and this network does."""
    folder = next(source / part for part in PARTS if (source / part / META).is_file())
    seams = [
        getattr(grid, "seam", None) for grid in (described_network(read_meta(folder), folder).voxels, dialect.voxels)
    ]
    if seams != ["closed", "cut"]:
        return []
    trained = "this network was trained with a closed seam, so it gives other features near it there"
    return [f"warning: {dialect.name} cuts the grid at azimuth 0; {trained}"]


def is_model(path: Path) -> bool:
    """Whether a folder holds weights of ours, artifact or not."""
    return any((path / part / "model.json").is_file() for part in PARTS)


def provenance(source: Path, work: Location) -> dict[str, Any]:
    """Recipe, commit, versions and scores of an artifact; not its command, which names folders of this machine.

    A folder that is no artifact has said all it knows in its JSON.
    """
    if not (source / manifest.FILE).is_file():
        return {}
    record = manifest.read(source)
    kept = {"artifact": source.name, "fingerprint": record.fingerprint, "recipe": record.recipe}
    kept |= {"created": record.created, "summary": record.summary, **record.provenance}
    kept.pop("command", None)
    return {"provenance": kept, "scores": scores(record, work)}


def scores(record: Manifest, work: Location) -> list[dict[str, Any]]:
    """What an artifact's model scored, and what models that started from it did, as evaluations in ``work`` say."""
    records = [found for _, found in artifacts(work)]
    own = {record.fingerprint}
    own |= {found.fingerprint for found in records if found.recipe["inputs"].get("checkpoint") in own}
    return [
        {"evaluation": found.name, "fingerprint": found.fingerprint, **found.summary}
        for found in records
        if found.recipe["stage"] == "evaluate" and found.recipe["inputs"].get("finetune") in own
    ]
