import numpy as np
import pytest

from lima_core.synthetic.ego import Drive, ego_pose, make_drive
from lima_core.synthetic.plan import make_plan
from lima_core.synthetic.terrain import make_hills

PLAN, HILLS = make_plan(1, 3), make_hills(1)


@pytest.fixture(params=["scene-0061", "scene-0553", "scene-0103"])
def drive(request: pytest.FixtureRequest) -> Drive:
    return make_drive(PLAN, 7, request.param, turn=True)


def test_path_has_no_jumps_and_stays_in_town(drive: Drive) -> None:
    steps = np.linalg.norm(np.diff(drive.path, axis=0), axis=1)
    assert steps.max() < 0.11
    assert (drive.path > -1e-6).all()
    assert (drive.path < np.asarray(PLAN.size_m) + 1e-6).all()


def test_ego_turns_by_a_right_angle(drive: Drive) -> None:
    late = len(drive.path) * 0.1 / drive.speed_m_s - 3
    change = np.rad2deg(drive.position(late)[2] - drive.position(0.0)[2]) % 360
    assert min(abs(change - 90), abs(change - 270)) < 0.5


def test_pose_is_rigid_upright_and_on_the_ground(drive: Drive) -> None:
    for seconds in (0.0, 2.2, 4.9):
        pose = ego_pose(drive, HILLS, seconds)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        assert pose[2, 3] == pytest.approx(float(HILLS.height(*pose[:2, 3])))
        ahead = pose @ [1, 0, 0, 1]
        assert ahead[2] == pytest.approx(float(HILLS.height(*ahead[:2])), abs=5e-3)


def test_ego_moves_forward_along_its_own_x(drive: Drive) -> None:
    for seconds in (0.5, 3.0):
        before, after = ego_pose(drive, HILLS, seconds - 0.05), ego_pose(drive, HILLS, seconds + 0.05)
        local = np.linalg.inv(before) @ after[:, 3]
        assert 0.1 < local[0] < 1.2
        assert abs(local[1]) < 0.1 * local[0]
