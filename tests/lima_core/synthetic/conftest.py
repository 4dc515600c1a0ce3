"""A hamlet of two streets each way and one short scene in it, built once for all tests of the synthetic world."""

import pytest

from lima_core.synthetic.capture import Capture
from lima_core.synthetic.config import CameraConfig, LidarConfig, WorldConfig
from lima_core.synthetic.world import Stage, capture, set_stage

WORLD = WorldConfig(num_streets=2)
CAMERA = CameraConfig(image_size_px=(112, 200), noise=0.0)
EXACT = LidarConfig(num_azimuths=360, range_noise_m=0.0, dropout=0.0)


@pytest.fixture(scope="session")
def stage() -> Stage:
    return set_stage("scene-0061", 0, "synthetic-north", 3, WORLD, CAMERA, turn=True)


@pytest.fixture(scope="session")
def captured(stage: Stage) -> tuple[Capture, ...]:
    return tuple(capture(stage, index, WORLD, EXACT, CAMERA) for index in range(3))
