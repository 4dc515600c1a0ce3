"""nuscenes-devkit, unmodified, is the oracle."""

from pathlib import Path

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from PIL import Image

from lima_core.synthetic import nuscenes_writer as writer
from lima_core.synthetic.capture import Capture
from lima_core.synthetic.categories import RAW_NAMES
from lima_core.synthetic.world import Stage, scene_info


@pytest.fixture(scope="module")
def root(stage: Stage, captured: tuple[Capture, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nuscenes")
    town = "synthetic-north"
    writer.write_scene(root, scene_info(stage, town), captured, 3, truth=True)
    writer.finish(root, [writer.read_fragment(root, stage.name)], {town: stage.town.site.plan})
    return root


@pytest.fixture(scope="module")
def devkit(root: Path) -> NuScenes:
    return NuScenes("v1.0-mini", str(root), verbose=False)


def test_points_images_and_labels_come_back(devkit: NuScenes, root: Path, captured: tuple[Capture, ...]) -> None:
    for sample, taken in zip(devkit.sample, captured, strict=True):
        token = sample["data"]["LIDAR_TOP"]
        points = LidarPointCloud.from_file(devkit.get_sample_data_path(token)).points
        np.testing.assert_array_equal(points.T, taken.scan.points[:, :4])
        labels = np.fromfile(root / devkit.get("lidarseg", token)["filename"], np.uint8)
        np.testing.assert_array_equal(labels, taken.scan.raw_class)
        for image in taken.images:
            path, _, matrix = devkit.get_sample_data(sample["data"][image.channel])
            stored = np.asarray(Image.open(path)).astype(float)
            assert np.abs(stored - image.pixels).mean() < 8
            assert matrix.shape == (3, 3)
            truth = Path(path.replace("/samples/", "/truth/"))
            depth = np.asarray(Image.open(truth.with_name(truth.stem + "_depth.png")))
            np.testing.assert_allclose(depth / 100, image.depth_m, atol=0.0051)
            classes = np.asarray(Image.open(truth.with_name(truth.stem + "_class.png")))
            np.testing.assert_array_equal(classes, image.raw_class)


def test_moving_points_are_those_on_the_boxes_that_move(
    devkit: NuScenes, root: Path, captured: tuple[Capture, ...]
) -> None:
    sample, taken = devkit.sample[1], captured[1]
    path, boxes, _ = devkit.get_sample_data(sample["data"]["LIDAR_TOP"])
    points = LidarPointCloud.from_file(path).points[:3]
    fast = [float(np.linalg.norm(box.velocity_m_s)) > 0.1 for box in taken.boxes]
    inside = np.any([points_in_box(box, points, wlh_factor=1.05) for box, f in zip(boxes, fast, strict=True) if f], 0)
    stored = np.fromfile(root / "truth/LIDAR_TOP" / Path(path).name.replace(".pcd.bin", "_moving.bin"), bool)
    assert stored.sum() > 100
    assert (stored & inside).sum() > 0.97 * stored.sum()
    assert set(taken.scan.raw_class[stored]) <= {2, 3, 4, 6, 14, 15, 16, 17, 18, 21, 22, 23}


def test_category_index_is_that_of_lidarseg(devkit: NuScenes) -> None:
    assert [devkit.lidarseg_idx2name_mapping[i] for i in range(32)] == list(RAW_NAMES)


def test_num_lidar_pts_is_what_the_devkit_counts(devkit: NuScenes) -> None:
    token = devkit.sample[0]["data"]["LIDAR_TOP"]
    path, boxes, _ = devkit.get_sample_data(token)
    points = LidarPointCloud.from_file(path).points[:3]
    counts = [int(points_in_box(box, points).sum()) for box in boxes]
    stored = [devkit.get("sample_annotation", box.token)["num_lidar_pts"] for box in boxes]
    assert max(stored) > 30
    assert np.abs(np.array(counts) - stored).max() <= 2


def test_velocity_through_prev_and_next_is_the_actors(devkit: NuScenes, captured: tuple[Capture, ...]) -> None:
    checked = 0
    for sample, taken in zip(devkit.sample, captured, strict=True):
        for token, box in zip(sample["anns"], taken.boxes, strict=True):
            velocity = devkit.box_velocity(token)[:2]
            if not np.isnan(velocity).any():
                np.testing.assert_allclose(velocity, box.velocity_m_s, atol=1e-3)
                checked += np.linalg.norm(velocity) > 0.5
    assert checked > 5


def test_every_chain_is_closed(devkit: NuScenes) -> None:
    for table in ("sample", "sample_data", "sample_annotation"):
        for row in getattr(devkit, table):
            if row["next"]:
                assert devkit.get(table, row["next"])["prev"] == row["token"]
    for instance in devkit.instance:
        token, count = instance["first_annotation_token"], 1
        while following := devkit.get("sample_annotation", token)["next"]:
            token, count = following, count + 1
        assert (token, count) == (instance["last_annotation_token"], instance["nbr_annotations"])


def test_map_mask_is_road_where_the_ego_drives(devkit: NuScenes, captured: tuple[Capture, ...]) -> None:
    mask = devkit.map[0]["mask"]
    positions = np.array([taken.scan.global_from_ego[:2, 3] for taken in captured])
    assert mask.is_on_mask(positions[:, 0], positions[:, 1]).all()
    assert 0.02 < mask.mask().mean() / 255 < 0.5


def test_it_says_that_it_is_synthetic(devkit: NuScenes) -> None:
    assert devkit.log[0]["vehicle"] == "synthetic"
    assert "synthetic" in devkit.scene[0]["description"]
    assert all(Path(row["filename"]).name.startswith("synthetic-") for row in devkit.sample_data)
