from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lima_core.viz.trainings import Training, curve_drawings, shown_pair
from lima_core.whole import write_json


def training(root: Path, init: str, protocol: str = "linear_probe", ratio: float = 1.0, seed: int = 0) -> Training:
    """An artifact of finetune as far as the page reads it."""
    path = root / f"{protocol}-{ratio}-{init}-{seed}"
    method = "none" if init == "random" else "lima"
    facts = {"init": init, "method": method, "protocol": protocol, "ratio": ratio, "seed": seed}
    write_json(path / "model" / "model.json", {"training": facts})
    write_curve(path)
    return Training.open(path)


def write_curve(path: Path) -> None:
    path.mkdir(exist_ok=True)
    pq.write_table(pa.table({"step": np.arange(1, 4, dtype=np.int32), "loss": [3.0, 2.0, 1.0]}), path / "curve.parquet")


def test_the_probe_with_most_labels_and_the_random_one_alike(tmp_path: Path) -> None:
    wanted = [training(tmp_path, init, seed=1) for init in ("pretrained", "random")]
    others = [
        training(tmp_path, "random", seed=2),
        training(tmp_path, "pretrained", "finetune", 1.0, 0),
        training(tmp_path, "pretrained", ratio=0.1),
        training(tmp_path, "random", ratio=0.1),
    ]
    assert shown_pair([*others, *reversed(wanted)]) == wanted


def test_pairs_that_are_not_whole(tmp_path: Path) -> None:
    random, taught = training(tmp_path, "random"), training(tmp_path, "pretrained", ratio=0.5)
    assert shown_pair([]) == []
    assert shown_pair([random]) == [random]
    assert shown_pair([random, taught]) == [taught]


def test_a_panel_for_each_protocol_and_share(tmp_path: Path) -> None:
    write_curve(tmp_path / "distilled")
    found = [training(tmp_path, init, "finetune", ratio) for init in ("random", "pretrained") for ratio in (0.1, 1.0)]
    assert len(curve_drawings([tmp_path / "distilled"], found)) == 3
    assert curve_drawings([], []) == []
    assert {item.start for item in found} == {"random", "LiMA"}
