import numpy as np
import torch

from lima_core.viz.shown import ShownFrame, Sources


def test_targets_are_pooled_from_the_patches_that_the_bank_names(shown: ShownFrame) -> None:
    """One target by hand: the naive mean over frames of the mean over cameras of bilinear reads."""
    bank, targets = shown.targets()
    facts = shown.sources.store.facts
    assert targets.shape == (len(bank.num_references), facts.channels)
    np.testing.assert_allclose(np.linalg.norm(targets, axis=1), 1, atol=1e-5)
    target = int(np.flatnonzero(bank.num_references == 1)[0])
    row = int(np.flatnonzero(bank.target_of_reference == target)[0])
    frame = shown.sources.index.frames(shown.frame.scene)[shown.frame.index - int(bank.age[row])]
    patches = ShownFrame(shown.sources, frame).patches[bank.camera[row]]
    unit = torch.nn.functional.normalize(torch.from_numpy(patches), dim=2).permute(2, 0, 1)[None]
    size = [facts.patch_px * n for n in facts.grid]
    x, y = ((fraction / 65535 * n - 0.5) for fraction, n in ((bank.u[row], size[1]), (bank.v[row], size[0])))
    place = torch.tensor([2 * max(x, 0) / (size[1] - 1) - 1, 2 * max(y, 0) / (size[0] - 1) - 1], dtype=torch.float32)
    read = torch.nn.functional.grid_sample(unit, place[None, None, None], align_corners=True).flatten()
    np.testing.assert_allclose(targets[target], (read / read.norm()).numpy(), atol=1e-4)


def test_a_shorter_window_is_the_banks(shown: ShownFrame) -> None:
    bank, targets = shown.targets(1)
    assert (bank.age == 0).all() and len(targets) == len(bank.num_references) < len(shown.targets()[1])


def test_the_camera_ahead_is_one_with_an_image(sources: Sources) -> None:
    for frame in sources.index.frames("a"):
        assert sources.index.facts.cameras[ShownFrame(sources, frame).ahead] == "front"


def test_student_features_lie_in_the_teachers_space(shown: ShownFrame) -> None:
    assert shown.student.shape == (len(shown.points), shown.sources.store.facts.channels)
    assert np.isfinite(shown.student).all()
