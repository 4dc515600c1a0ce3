import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pyquaternion import Quaternion

from lima_core.datasets.nuscenes import CAMERAS, NuScenesConfig, NuScenesDataset
from lima_core.errors import DataError
from lima_core.geometry import se3
from lima_core.geometry.camera import project_to_camera
from lima_core.types import IGNORE, NO_SURFACE
from tests.lima_core.datasets.recordings import recording
from tests.lima_core.datasets.tiny_nuscenes import HEIGHT_PX, NUM_POINTS, WIDTH_PX, write_tiny_nuscenes

CONFIG = NuScenesConfig(version="v1.0-mini")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_nuscenes(tmp_path_factory.mktemp("nuscenes"))


@pytest.fixture(scope="module")
def dataset(root: Path) -> NuScenesDataset:
    return NuScenesDataset(CONFIG, root)


def edit_table(root: Path, name: str, records: list) -> None:
    (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(records))


def table(root: Path, name: str) -> dict[str, dict]:
    return {record["token"]: record for record in json.loads((root / "v1.0-mini" / f"{name}.json").read_text())}


def to_global(root: Path, token: str, xyz: np.ndarray) -> np.ndarray:
    """Sensor points in global coordinates step by step in float64, straight from the tables, by pyquaternion."""
    data = table(root, "sample_data")[token]
    for step in (
        table(root, "calibrated_sensor")[data["calibrated_sensor_token"]],
        table(root, "ego_pose")[data["ego_pose_token"]],
    ):
        xyz = xyz @ Quaternion(step["rotation"]).rotation_matrix.T + np.array(step["translation"])
    return xyz


def to_sensor(root: Path, token: str, xyz: np.ndarray) -> np.ndarray:
    data = table(root, "sample_data")[token]
    for step in (
        table(root, "ego_pose")[data["ego_pose_token"]],
        table(root, "calibrated_sensor")[data["calibrated_sensor_token"]],
    ):
        xyz = (xyz - np.array(step["translation"])) @ Quaternion(step["rotation"]).rotation_matrix
    return xyz


def test_facts(dataset: NuScenesDataset) -> None:
    facts = dataset.facts
    assert facts.name == "nuscenes" and facts.extra == {"version": "v1.0-mini"} and facts.intensity_max == 255
    assert len(facts.classes) == 16 and facts.classes[3] == "car"
    assert facts.cameras == (
        "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT",
    )  # fmt: skip
    assert not facts.synthetic


def test_every_sensor_has_the_pose_of_its_own_time(dataset: NuScenesDataset, root: Path) -> None:
    xyz = np.random.default_rng(1).normal(size=(10, 3)) * 30
    for frame in dataset.frames("scene-0061"):
        tokens = {"LIDAR_TOP": frame.global_from_lidar}
        tokens |= {camera.name: camera.global_from_camera for camera in frame.cameras if camera}
        for channel, global_from_sensor in tokens.items():
            expected = to_global(root, f"data-{frame.index}-{channel}", xyz)
            np.testing.assert_allclose(se3.transform(global_from_sensor, xyz), expected, atol=1e-10)


def test_key_frames_hold_key_recordings(dataset: NuScenesDataset) -> None:
    first, second = dataset.frames("scene-0061")
    assert first.token == "data-0-LIDAR_TOP" and first.labels == "lidarseg/v1.0-mini/data-0-LIDAR_TOP_lidarseg.bin"
    front = first.cameras[0]
    assert front.image.startswith("samples/CAM_FRONT/") and front.timestamp_us == first.timestamp_us - 30_000
    assert (front.width_px, front.height_px) == (WIDTH_PX, HEIGHT_PX)
    assert front.intrinsics.tolist() == [[40, 0, 31.5], [0, 41, 17.5], [0, 0, 1]]
    assert second.cameras[CAMERAS.index("CAM_BACK")] is None and None not in first.cameras


def test_raw_ids_become_train_ids(dataset: NuScenesDataset) -> None:
    labels = dataset.load_labels(dataset.frames("scene-0061")[0])
    per_raw_id = [IGNORE, IGNORE, 6, 6, 6, IGNORE, 6, IGNORE, IGNORE, 0, IGNORE, IGNORE, 7, IGNORE, 1, 2, 2, 3, 4,
                  IGNORE, IGNORE, 5, 8, 9, 10, 11, 12, 13, 14, IGNORE, 15, IGNORE]  # fmt: skip
    assert labels.tolist() == [per_raw_id[point % 32] for point in range(NUM_POINTS)]


def test_pixel_truth_is_mapped_like_labels_and_the_sky_has_no_surface(dataset: NuScenesDataset) -> None:
    truth = dataset.load_pixel_classes(dataset.frames("scene-0061")[0].cameras[0])
    assert truth[0, :33].tolist() == [*dataset.load_labels(dataset.frames("scene-0061")[0])[:32].tolist(), NO_SURFACE]


def test_points_are_read_without_the_devkit(
    root: Path, dataset: NuScenesDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = dataset.frames("scene-0061")[0]
    monkeypatch.setitem(sys.modules, "nuscenes", None)
    fresh = NuScenesDataset(CONFIG, root)
    assert len(fresh.load_points(frame)) == len(fresh.load_labels(frame)) == NUM_POINTS
    assert fresh.load_image(frame.cameras[0]).shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert fresh.facts.classes and fresh.digest()


def test_without_lidarseg_there_are_no_classes(tmp_path: Path) -> None:
    root = write_tiny_nuscenes(tmp_path)
    (root / "v1.0-mini" / "lidarseg.json").unlink()
    dataset = NuScenesDataset(CONFIG, root)
    frame = dataset.frames("scene-0061")[0]
    assert dataset.facts.classes == () and frame.labels is None
    with pytest.raises(DataError, match="frame data-0-LIDAR_TOP has no lidarseg labels"):
        dataset.load_labels(frame)


def test_moving_points_are_read_where_the_world_knows_them(dataset: NuScenesDataset) -> None:
    moving = dataset.load_moving(dataset.frames("scene-0061")[0])
    assert moving[:6].tolist() == [True, False, False, True, False, False]


def test_without_truth_folder_there_are_no_pixel_classes(tmp_path: Path, dataset: NuScenesDataset) -> None:
    (tmp_path / "v1.0-mini").mkdir()
    bare, frame = NuScenesDataset(CONFIG, tmp_path), dataset.frames("scene-0061")[0]
    assert bare.load_pixel_classes(frame.cameras[0]) is None and bare.load_moving(frame) is None


@pytest.mark.parametrize(("version", "split"), [("v1.0-mini", "val"), ("v1.0-trainval", "val"), ("v1.0-test", "none")])
def test_splits_are_the_devkits(tmp_path: Path, version: str, split: str) -> None:
    root = write_tiny_nuscenes(tmp_path)
    edit_table(root, "scene", [table(root, "scene")["scene"] | {"name": "scene-0103"}])
    (root / "v1.0-mini").rename(root / version)
    (root / "lidarseg" / "v1.0-mini").rename(root / "lidarseg" / version)
    dataset = NuScenesDataset(NuScenesConfig(version=version), root)
    assert [frame.split for frame in dataset.frames("scene-0103")] == [split] * 2


def test_training_scene(dataset: NuScenesDataset) -> None:
    assert {frame.split for frame in dataset.frames("scene-0061")} == {"train"}


def test_scenes_keep_the_order_of_the_file(tmp_path: Path) -> None:
    root = write_tiny_nuscenes(tmp_path)
    scene = table(root, "scene")["scene"]
    edit_table(root, "scene", [scene | {"token": "z", "name": "scene-0103"}, scene])
    assert NuScenesDataset(CONFIG, root).scenes() == ["scene-0103", "scene-0061"]


def test_a_world_says_that_it_is_synthetic(tmp_path: Path) -> None:
    root = write_tiny_nuscenes(tmp_path)
    edit_table(root, "log", [table(root, "log")["log"] | {"vehicle": "synthetic"}])
    assert NuScenesDataset(CONFIG, root).facts.synthetic
    edit_table(root, "log", [table(root, "log")["log"] | {"vehicle": "n015"}])
    assert not NuScenesDataset(CONFIG, root).facts.synthetic
    (root / "synthetic.json").write_text("{}")
    assert NuScenesDataset(CONFIG, root).facts.synthetic


def test_other_version_is_named(root: Path) -> None:
    with pytest.raises(DataError) as caught:
        NuScenesDataset(NuScenesConfig(version="v1.0-trainval"), root)
    assert str(caught.value) == f"{root}: no nuScenes v1.0-trainval here; found v1.0-mini"


def test_missing_table(tmp_path: Path) -> None:
    root = write_tiny_nuscenes(tmp_path)
    (root / "v1.0-mini" / "ego_pose.json").unlink()
    with pytest.raises(DataError) as caught:
        NuScenesDataset(CONFIG, root).scenes()
    path = root / "v1.0-mini" / "ego_pose.json"
    assert str(caught.value) == f"{path}: table cannot be read: No such file or directory"


def test_truncated_table(tmp_path: Path) -> None:
    path = write_tiny_nuscenes(tmp_path) / "v1.0-mini" / "sample_data.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(DataError, match=r"sample_data.json: is not JSON: .*; copy the file again"):
        NuScenesDataset(CONFIG, tmp_path).scenes()


def test_label_file_that_is_missing_is_the_devkits_complaint(tmp_path: Path) -> None:
    root = write_tiny_nuscenes(tmp_path)
    next((root / "lidarseg").rglob("*.bin")).unlink()
    with pytest.raises(DataError, match=r"devkit cannot load these tables: .*there are 1 label files but 2 lidarseg"):
        NuScenesDataset(CONFIG, root).scenes()


def test_sample_without_a_scan(tmp_path: Path) -> None:
    root = write_tiny_nuscenes(tmp_path, without=(1, "LIDAR_TOP"))
    with pytest.raises(DataError) as caught:
        NuScenesDataset(CONFIG, root).frames("scene-0061")
    assert str(caught.value) == f"{root / 'v1.0-mini'}: sample sample-1 of scene-0061 has no LIDAR_TOP key frame"


@pytest.mark.real
def test_real_key_frame_projects_as_the_devkit_does(real_data: Path) -> None:
    from nuscenes import NuScenes

    root = recording(real_data, "nuscenes")
    dataset = NuScenesDataset(CONFIG, root)
    (frame,) = dataset.frames("scene-0061")
    points = dataset.load_points(frame)
    assert points.shape == (34_688, 4) and points[:, 3].max() == 255
    devkit = NuScenes("v1.0-mini", str(root), verbose=False)
    sample = devkit.get("sample", devkit.get("sample_data", frame.token)["sample_token"])
    global_xyz = to_global(root, frame.token, points[:, :3].astype(np.float64))
    for camera in frame.cameras:
        token = sample["data"][camera.name]
        theirs, their_depth_m, image = devkit.explorer.map_pointcloud_to_image(frame.token, token, min_dist=1.0)
        image.close()
        uv_px, depth_m, visible = project_to_camera(camera, frame.global_from_lidar, points[:, :3])
        assert np.count_nonzero(visible) == theirs.shape[1] > 1000
        np.testing.assert_allclose(depth_m[visible], their_depth_m, atol=1e-3)
        np.testing.assert_allclose(uv_px[visible], theirs[:2].T, atol=0.05)

        exact = to_sensor(root, token, global_xyz)
        in_front = exact[:, 2] > 1
        exact_px = exact[:, :2] / exact[:, 2:] @ camera.intrinsics[:2, :2].T + camera.intrinsics[:2, 2]
        inside = in_front & (exact_px > 1).all(axis=1) & (exact_px < [1599, 899]).all(axis=1)
        np.testing.assert_array_equal(visible, inside)
        np.testing.assert_allclose(uv_px[visible], exact_px[visible], atol=1e-3)
        assert dataset.load_image(camera).shape == (900, 1600, 3)
