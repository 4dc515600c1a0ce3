import hashlib
from pathlib import Path

import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import create_splits_scenes

from lima_core.errors import ConfigError
from lima_core.synthetic import nuscenes_writer
from lima_core.synthetic.config import CameraConfig, LidarConfig, WorldConfig
from lima_core.types import Resources
from stages import synth

TINY = synth.Config(
    num_train_scenes=2, num_val_scenes=0, frames_per_scene=2, world=WorldConfig(num_streets=2),
    lidar=LidarConfig(num_azimuths=180), camera=CameraConfig(image_size_px=(56, 100)),
)  # fmt: skip


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("undisturbed")
    return out, synth.run(TINY, synth.Inputs(), out, Resources())


def test_devkit_reads_it(made: tuple[Path, dict]) -> None:
    devkit = NuScenes("v1.0-mini", str(made[0]), verbose=False)
    assert [scene["name"] for scene in devkit.scene] == ["scene-0061", "scene-0553"]
    assert len(devkit.sample) == 4
    assert len(devkit.sample_data) == 4 * 7


def test_a_killed_run_continues_to_the_same_bytes(
    made: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fragment = nuscenes_writer.write_fragment

    def killed(path: Path, fragment: dict) -> None:
        if path.stem == "scene-0553":
            raise KeyboardInterrupt
        write_fragment(path, fragment)

    with monkeypatch.context() as patch:
        patch.setattr(nuscenes_writer, "write_fragment", killed)
        with pytest.raises(KeyboardInterrupt):
            synth.run(TINY, synth.Inputs(), tmp_path, Resources())
    finished = nuscenes_writer.fragment_path(tmp_path, "scene-0061")
    image = next((tmp_path / "samples/CAM_FRONT").glob("*scene-0061*"))
    before = finished.stat().st_mtime_ns, image.stat().st_mtime_ns
    half = next((tmp_path / "samples/CAM_FRONT").glob("*scene-0553*"))
    half.write_bytes(half.read_bytes()[:100])
    monkeypatch.setattr(nuscenes_writer.whole, "remove", lambda path: None)
    summary = synth.run(TINY, synth.Inputs(), tmp_path, Resources())
    assert (finished.stat().st_mtime_ns, image.stat().st_mtime_ns) == before
    monkeypatch.undo()
    nuscenes_writer.whole.remove(tmp_path / nuscenes_writer.FRAGMENTS)
    assert _digests(tmp_path) == _digests(made[0])
    assert summary["train"] == made[1]["train"]


def test_summary_counts_what_is_on_disk(made: tuple[Path, dict]) -> None:
    root, summary = made
    assert (summary["scenes"], summary["frames"], summary["synthetic"]) == (2, 4, True)
    assert summary["bytes"] == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in (root / "lidarseg/v1.0-mini").iterdir()]
    assert sum(summary["train"]["points"].values()) == sum(sizes)
    assert "val" not in summary


def test_scene_names_are_those_of_the_devkits_mini_splits() -> None:
    splits = create_splits_scenes()
    assert sorted(synth.TRAIN_SCENES) == sorted(splits["mini_train"])
    assert sorted(synth.VAL_SCENES) == sorted(splits["mini_val"])
    parts = synth.parts_of(synth.Config())
    assert {p.town for p in parts if p.name in synth.TRAIN_SCENES} == {"synthetic-north"}
    assert {p.town for p in parts if p.name in synth.VAL_SCENES} == {"synthetic-south"}


def test_a_world_without_scenes_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_train_scenes"):
        synth.parts_of(synth.Config(num_train_scenes=0, num_val_scenes=0))


@pytest.mark.slow
def test_default_world_shows_all_classes_in_both_splits(tmp_path: Path) -> None:
    config = synth.Config(camera=CameraConfig(image_size_px=(28, 50), shadows=False))
    summary = synth.run(config, synth.Inputs(), tmp_path, Resources(workers=2))
    assert 15_000 < summary["points_per_scan"] < 34_720
    for split in ("train", "val"):
        points = summary[split]["points"]
        assert min(points.values()) > 50, points
        assert {"car", "truck", "bus", "trailer", "construction_vehicle", "pedestrian", "motorcycle", "bicycle",
                "traffic_cone", "barrier"} <= set(summary[split]["boxes"])  # fmt: skip
