"""Held-out scenes: how many, always the same, and never all."""

from dataclasses import replace

import numpy as np
import pytest

from lima_core.errors import ConfigError, DataError
from lima_core.loading.heldout import hold_out, require_labelled, scenes_hash
from lima_core.loading.subsets import Subset
from lima_core.types import IGNORE, Frame


def subset(scenes: int, frames: int = 2) -> Subset:
    names = [(f"s{s}", i) for s in range(scenes) for i in range(frames)]
    made = [Frame(scene, i, f"{scene}-{i}", "train", 0, "p", "l", np.eye(4), ()) for scene, i in names]
    return Subset("every_nth_scene", 1.0, tuple(made))


@pytest.mark.parametrize(("scenes", "share", "held"), [(10, 0.2, 2), (10, 0.01, 1), (2, 0.9, 1), (700, 0.1, 70)])
def test_share_of_scenes(scenes: int, share: float, held: int) -> None:
    trained, out = hold_out(subset(scenes), share)
    assert len({frame.scene for frame in out}) == held and len(out) == 2 * held
    assert not {frame.scene for frame in out} & {frame.scene for frame in trained.frames}
    tokens = [frame.token for frame in subset(scenes).frames]
    gone = {frame.token for frame in out}
    assert [frame.token for frame in trained.frames] == [token for token in tokens if token not in gone]


def test_the_choice_depends_on_names_only() -> None:
    whole = subset(20)
    backwards = replace(whole, frames=whole.frames[::-1])
    assert scenes_hash(hold_out(whole, 0.3)[1]) == scenes_hash(hold_out(backwards, 0.3)[1])
    few = {frame.scene for frame in hold_out(whole, 0.1)[1]}
    assert few < {frame.scene for frame in hold_out(whole, 0.3)[1]}


def test_one_scene_cannot_be_both() -> None:
    with pytest.raises(ConfigError, match=r"of 1 training scene none can be held out; use selection\.rule: last"):
        hold_out(subset(1), 0.5)


def test_scenes_without_a_labelled_point_are_told_before_anything_is_trained() -> None:
    frames, read = subset(2).frames, []

    def labels(frame: Frame) -> np.ndarray:
        read.append(frame.token)
        return np.full(5, 3 if frame.token == "s0-1" else IGNORE, dtype=np.uint8)

    require_labelled(frames, labels)
    assert read == ["s0-0", "s0-1"]
    with pytest.raises(DataError, match=r"^selection: s1: no point of the held-out scenes has a class; use selection"):
        require_labelled(frames[2:], labels)
