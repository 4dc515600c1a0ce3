"""A small drive with everything a training reads, made for the benchmarks: synthetic world, random features.

Scans have the size of nuScenes' (32 beams, 1085 firings); images are small, for nobody looks at them. Features are
random numbers in the shape of DINOv2 ViT-S at 224 x 392: what they say changes no time.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lima_core.datasets.nuscenes import NuScenesConfig
from lima_core.seeds import numpy_rng
from lima_core.stores.feature_store import FeatureFacts, create_store, finish_store
from lima_core.stores.feature_writer import write_scene
from lima_core.stores.frame_index import FrameIndex
from lima_core.synthetic.config import CameraConfig, LidarConfig
from lima_core.types import Resources
from stages import build_memory, distill, index, synth

VERSION = "v1.0-mini"
GRID, PATCH_PX = (16, 28), 14


@dataclass(frozen=True)
class Drive:
    """Where everything lies."""

    root: Path

    @property
    def inputs(self) -> distill.Inputs:
        """What distill reads."""
        return distill.Inputs(*(self.root / name for name in ("raw", "index", "features", "memory")))

    @property
    def index(self) -> FrameIndex:
        """Its frames."""
        return FrameIndex.open(self.root / "index")


@contextmanager
def made_drive(tiny: bool) -> Iterator[Drive]:
    """Two scenes of eight key frames, or of two with a coarse LiDAR, in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="lima-bench-") as folder:
        drive = Drive(Path(folder))
        for name in ("raw", "index", "memory"):
            (drive.root / name).mkdir()
        config = synth.Config(
            num_train_scenes=2,
            num_val_scenes=0,
            frames_per_scene=2 if tiny else 8,
            truth=False,
            lidar=LidarConfig(num_beams=8, num_azimuths=90) if tiny else LidarConfig(),
            camera=CameraConfig(image_size_px=(56, 104)),
        )
        synth.run(config, synth.Inputs(), drive.root / "raw", Resources())
        dataset = NuScenesConfig(version=VERSION)
        index.run(index.Config(dataset=dataset), index.Inputs(drive.root / "raw"), drive.root / "index", Resources())
        write_features(drive, channels=8 if tiny else 384)
        memory = build_memory.Inputs(drive.root / "raw", drive.root / "index")
        build_memory.run(build_memory.Config(), memory, drive.root / "memory", Resources())
        yield drive


def write_features(drive: Drive, channels: int) -> None:
    """A FeatureStore of random numbers."""
    frames = drive.index
    size_px = (GRID[0] * PATCH_PX, GRID[1] * PATCH_PX)
    scenes, cameras = tuple(frames.scenes()), frames.facts.cameras
    facts = FeatureFacts(channels, PATCH_PX, size_px, GRID, "float16", "random numbers", cameras, scenes)
    create_store(drive.root / "features", facts)
    for scene in scenes:
        of_scene = frames.frames(scene)
        with write_scene(drive.root / "features", facts, scene) as writer:
            for frame in of_scene:
                shape = (len(cameras), *GRID, channels)
                values = numpy_rng(0, "features", frame.token).standard_normal(shape, dtype=np.float32)
                writer.append(values, np.array([camera is not None for camera in frame.cameras]))
    finish_store(drive.root / "features")
