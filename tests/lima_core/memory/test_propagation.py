"""The window against brute force, and the promise that a long bank serves every shorter window."""

from collections import defaultdict

import numpy as np
import pytest

from lima_core.geometry.camera import project
from lima_core.memory.cross_view import Entries
from lima_core.memory.propagation import Window, fallback_levels
from lima_core.memory.voxel_keys import BITS_XYZ
from lima_core.stores.memory_bank import FrameBank
from tests.lima_core.memory.toy_drive import toy_drive


def brute_force(index: int, frames: int) -> set[tuple[int, int, int]]:
    """(voxel, age, camera) of everything that may teach frame ``index``."""
    drive = toy_drive()
    occupied = set(drive.voxels(index).tolist())
    found = set()
    for past in range(max(0, index - frames + 1), index + 1):
        visible = project(drive.frames[past], drive.points[past]).visible
        for camera, point in zip(*np.nonzero(visible), strict=True):
            key = int(drive.voxels(past)[point])
            if key in occupied:
                found.add((key, index - past, int(camera)))
    return found


@pytest.mark.parametrize(("index", "frames"), [(0, 3), (2, 1), (3, 3), (3, 9)])
def test_recall_equals_brute_force(index: int, frames: int) -> None:
    drive = toy_drive()
    bank = drive.bank(index, frames, "merged")
    key_of_target = {
        t: k for t, k in zip(bank.point_target.tolist(), drive.voxels(index).tolist(), strict=True) if t >= 0
    }
    found = [
        (key_of_target[target], age, camera)
        for target, age, camera in zip(bank.target_of_reference, bank.age.tolist(), bank.camera.tolist(), strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == brute_force(index, frames)
    assert found == sorted(found)


def test_points_outside_the_current_cameras_are_taught_by_the_past() -> None:
    drive = toy_drive()
    unseen_now = ~project(drive.frames[3], drive.points[3]).visible.any(axis=0)
    taught = {frames: (drive.bank(3, frames, "merged").point_target >= 0)[unseen_now].sum() for frames in (1, 4)}
    assert taught[4] > taught[1]


@pytest.mark.parametrize("references", ["merged", "points"])
def test_a_longer_bank_read_at_a_shorter_window_is_the_shorter_bank(references: str) -> None:
    drive = toy_drive()
    expected, found = drive.bank(3, 2, references), drive.bank(3, 4, references).within(2)
    for name in FrameBank.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype, name


FRAMES, CELLS = 5, 40


def key_of(cells: np.ndarray) -> np.ndarray:
    """(N,) int64 keys of cells (N, 3), as ``voxel_keys`` packs them."""
    x, y, z = cells.astype(np.int64).T
    return (x << (BITS_XYZ[1] + BITS_XYZ[2])) | (y << BITS_XYZ[2]) | z


class Past:
    """Random frames on a small grid, the current one last, with what is forgotten before each."""

    def __init__(self, seed: int, forgets: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.seen = []
        for _ in range(FRAMES):
            pairs = np.unique(np.c_[rng.integers(0, CELLS, (120, 2)), np.full(120, 7), rng.integers(0, 3, 120)], axis=0)
            self.seen.append(pairs)
        self.scan = np.c_[rng.integers(0, CELLS, (150, 2)), np.full(150, 7)]
        self.scan[100:] = self.scan[:50]
        self.level = rng.integers(0, 3, 150)
        num_forgotten = 500 if forgets else 0
        self.forgotten = [
            np.c_[rng.integers(0, CELLS, (num_forgotten, 2)), np.full(num_forgotten, 7)] for _ in range(FRAMES)
        ]

    def window(self, frames: int) -> Window:
        window = Window(frames)
        for number, (pairs, forgotten) in enumerate(zip(self.seen, self.forgotten, strict=True)):
            window.forget(np.unique(key_of(forgotten)))
            window.push(self.entries(number, pairs))
        return window

    def entries(self, number: int, pairs: np.ndarray) -> Entries:
        """Of one frame; the number of the frame and of the row say where a reference comes from."""
        rows = np.arange(len(pairs))
        return Entries(
            voxel=key_of(pairs[:, :3]),
            camera=pairs[:, 3].astype(np.uint8),
            u=np.full(len(pairs), number, dtype=np.uint16),
            v=rows.astype(np.uint16),
            truth={"points": (rows % 251).astype(np.uint8)},
        )

    def kept(self, frames: int) -> list[tuple[int, tuple[int, ...], int, int]]:
        """Age, cell, camera and row of every observation that is not forgotten."""
        found = []
        for number in range(FRAMES - frames, FRAMES):
            later = {tuple(cell) for cells in self.forgotten[number + 1 :] for cell in cells.tolist()}
            for row, pair in enumerate(self.seen[number].tolist()):
                if tuple(pair[:3]) not in later:
                    found.append((FRAMES - 1 - number, tuple(pair[:3]), pair[3], row))
        return found

    def taught(self, frames: int, level: np.ndarray) -> list[list[tuple[int, int, int]]]:
        """By point of the scan the (age, camera, row) of all observations in its voxel, each compared by itself."""
        kept = self.kept(frames)
        return [
            sorted((age, camera, row) for age, there, camera, row in kept if same_voxel(cell, there, edge))
            for cell, edge in zip(self.scan.tolist(), 2**level, strict=True)
        ]


def same_voxel(a: list[int], b: tuple[int, ...], edge: int) -> bool:
    return all(x // edge == y // edge for x, y in zip(a, b, strict=True))


def by_point(bank: FrameBank) -> list[list[tuple[int, int, int]]]:
    """By point its references (age, camera, row) in the order of the bank."""
    references = defaultdict(list)
    columns = (bank.age.tolist(), bank.camera.tolist(), bank.v.tolist())
    for target, *reference in zip(bank.target_of_reference.tolist(), *columns, strict=True):
        references[target].append(tuple(reference))
    return [references[target] if target >= 0 else [] for target in bank.point_target.tolist()]


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("frames", [1, 3, FRAMES])
def test_voxels_of_all_sizes_gather_every_entry_inside(frames: int, forgets: bool) -> None:
    past = Past(frames, forgets)
    bank, truths = past.window(frames).recall(key_of(past.scan), past.level)
    expected = past.taught(frames, past.level)
    assert by_point(bank) == expected
    assert 0 < sum(map(bool, expected)) < len(expected) or frames == FRAMES
    np.testing.assert_array_equal(FRAMES - 1 - bank.u, bank.age)
    np.testing.assert_array_equal(truths["points"], bank.v % 251)
    order = np.lexsort((bank.camera, bank.age, bank.target_of_reference))
    np.testing.assert_array_equal(order, np.arange(len(order)))


def test_points_share_a_target_if_and_only_if_voxel_and_level_are_the_same() -> None:
    past = Past(0)
    bank, _ = past.window(FRAMES).recall(key_of(past.scan), past.level)
    named = [(*(cell // 2**level), level) for cell, level in zip(past.scan, past.level, strict=True)]
    pairs = {(target, name) for target, name in zip(bank.point_target.tolist(), named, strict=True) if target >= 0}
    assert len(pairs) == len({target for target, _ in pairs}) == len({name for _, name in pairs})
    assert len(pairs) == len(bank.num_references)


def test_forgetting_drops_older_entries_only() -> None:
    plain, forgetting = Past(1), Past(1, forgets=True)
    counts = [len(past.window(FRAMES).recall(key_of(past.scan), past.level)[0].age) for past in (plain, forgetting)]
    assert 0 < counts[1] < counts[0]
    assert {age for age, *_ in forgetting.kept(FRAMES)} >= {0, 1}
    assert sum(age == 0 for age, *_ in forgetting.kept(FRAMES)) == len(forgetting.seen[-1])


@pytest.mark.parametrize("doublings", [0, 1, 3])
def test_fallback_takes_the_finest_voxel_whose_youngest_reference_is_that_of_the_coarsest(doublings: int) -> None:
    past = Past(2, forgets=True)
    found = fallback_levels(past.window(FRAMES), key_of(past.scan), past.level, doublings)
    youngest = [
        [min((age for age, *_ in references), default=FRAMES) for references in past.taught(FRAMES, past.level + more)]
        for more in range(doublings + 1)
    ]
    for point, ages in enumerate(zip(*youngest, strict=True)):
        assert found[point] - past.level[point] == ages.index(ages[-1])
    assert len(np.unique(found - past.level)) == min(doublings + 1, 4)


@pytest.mark.parametrize("doublings", [0, 2])
@pytest.mark.parametrize("frames", [1, 2, 4])
def test_a_longer_bank_is_every_shorter_one_with_all_switches_on(frames: int, doublings: int) -> None:
    past, banks = Past(3, forgets=True), []
    for built in (frames, FRAMES):
        window = past.window(built)
        level = fallback_levels(window, key_of(past.scan), past.level, doublings)
        banks.append(window.recall(key_of(past.scan), level)[0])
    expected, found = banks[0], banks[1].within(frames)
    assert len(expected.age) > 20
    for name in FrameBank.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_a_scan_without_points_recalls_nothing() -> None:
    past = Past(4)
    window, none = past.window(FRAMES), np.zeros(0, dtype=np.int64)
    bank, truths = window.recall(none, none)
    assert len(bank.point_target) == len(bank.age) == len(truths["points"]) == 0
    assert fallback_levels(window, none, none, 2).shape == (0,)
