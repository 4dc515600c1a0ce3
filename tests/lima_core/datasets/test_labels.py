from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lima_core.datasets.labels import NUSCENES_CATEGORIES, NUSCENES_CLASSES, nuscenes_train_ids, to_train_ids
from lima_core.errors import DataError
from lima_core.types import IGNORE

INDICES = {name: raw for raw, (name, _) in enumerate(NUSCENES_CATEGORIES)}
FILE = Path("v1.0-mini/category.json")


def test_table_is_the_devkits_challenge_mapping() -> None:
    from nuscenes.eval.lidarseg.utils import LidarsegClassMapper

    mapper = LidarsegClassMapper(SimpleNamespace(lidarseg_name2idx_mapping=INDICES))
    theirs = {
        raw: IGNORE if coarse == 0 else coarse - 1 for raw, coarse in mapper.fine_idx_2_coarse_idx_mapping.items()
    }
    assert nuscenes_train_ids(INDICES, FILE) == theirs
    names = {coarse: name for name, coarse in mapper.coarse_name_2_coarse_idx_mapping.items()}
    assert tuple(names[train_id + 1] for train_id in range(16)) == NUSCENES_CLASSES


def test_table_is_the_one_of_the_public_loaders() -> None:
    """Robo3D's and SLidR's published 32 -> 16 table, challenge ids."""
    published = {9: 1, 14: 2, 15: 3, 16: 3, 17: 4, 18: 5, 21: 6, 2: 7, 3: 7, 4: 7, 6: 7, 12: 8, 22: 9, 23: 10, 24: 11,
                 25: 12, 26: 13, 27: 14, 28: 15, 30: 16}  # fmt: skip
    expected = {raw: published.get(raw, IGNORE + 1) - 1 for raw in range(32)}
    assert nuscenes_train_ids(INDICES, FILE) == expected


def test_annotator_numbering_is_refused() -> None:
    swapped = INDICES | {"flat.sidewalk": 25, "flat.terrain": 26, "flat.other": 27}
    with pytest.raises(DataError) as caught:
        nuscenes_train_ids(swapped, FILE)
    assert str(caught.value) == (
        "v1.0-mini/category.json: category 'flat.other' has index 27, the published data set has 25; "
        "use the category.json that ships with nuScenes-lidarseg"
    )


def test_category_file_without_indices_is_refused() -> None:
    with pytest.raises(DataError, match=r"no index for category 'noise' \(32 of 32 missing\)"):
        nuscenes_train_ids({}, FILE)


def test_unknown_category_is_refused() -> None:
    with pytest.raises(DataError, match=r"unknown category 'vehicle.cars'; did you mean 'vehicle.car'"):
        nuscenes_train_ids(INDICES | {"vehicle.cars": 32}, FILE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32])
def test_sparse_ids_of_any_type_are_mapped(dtype: type) -> None:
    raw = np.array([[3, 200], [7, 3]], dtype=dtype)
    got = to_train_ids(raw, {3: 0, 7: IGNORE, 200: 1}, "file")
    assert got.dtype == np.uint8
    assert got.tolist() == [[0, 1], [IGNORE, 0]]


def test_ids_without_a_class_are_told() -> None:
    with pytest.raises(DataError) as caught:
        to_train_ids(np.array([3, 43, 200, 41, 43], dtype=np.uint8), {3: 0, 7: 1}, "a.bin")
    assert str(caught.value) == "a.bin: 4 of 5 labels have ids without a class: 41, 43, 200; known ids: 3..7"
