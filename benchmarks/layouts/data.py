"""The data that every layout holds: scenes of patch codes, token scales and the columns of a memory bank.

Codes are int8, encoded as the feature store does, of random tokens with the steep spectrum of a trained network; banks
are those of a synthetic drive with nuScenes' LiDAR, frame after frame, so their sizes and their patterns (what codecs
live on) are real ones. Every further scene has the same numbers in another order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.stores.codec import encode_int8, fit_channel_scale
from lima_core.stores.memory_bank import COLUMNS, FrameBank, MemoryBank
from pipeline.bench.drive import made_drive

WINDOW = 6
CAMERAS = 6
PATCHES = ("codes", "token_scale")
Sample = tuple[np.ndarray, ...]
"""codes (6, cameras, h, w, C) int8, token_scale (6, cameras, h, w) float32, the bank's columns of the last frame."""


@dataclass(frozen=True)
class Scene:
    """One scene in memory."""

    name: str
    patches: Mapping[str, np.ndarray]
    """codes (F, cameras, h, w, C) int8 and token_scale (F, cameras, h, w) float32."""
    bank: Mapping[str, np.ndarray]
    """Rows of all frames, by column."""
    starts: np.ndarray
    """(F + 1, columns) int64 where the rows of each frame begin."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that is read by rows."""
        return {**self.patches, **self.bank}

    @property
    def num_bytes(self) -> int:
        """Of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def frame_bank(self, frame: int) -> dict[str, np.ndarray]:
        """Rows of one frame, by column."""
        spans = zip(self.starts[frame], self.starts[frame + 1], strict=True)
        return {name: rows[slice(*span)] for (name, rows), span in zip(self.bank.items(), spans, strict=True)}

    def sample(self, frame: int) -> Sample:
        """The window that ends with ``frame``."""
        window = slice(frame + 1 - WINDOW, frame + 1)
        return (*(array[window] for array in self.patches.values()), *self.frame_bank(frame).values())


@dataclass(frozen=True)
class DataSet:
    """Scenes, made anew whenever they are asked for."""

    num_scenes: int
    codes: np.ndarray
    token_scale: np.ndarray
    banks: tuple[dict[str, np.ndarray], ...]

    @property
    def num_frames(self) -> int:
        """Of a scene."""
        return len(self.codes)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scenes."""
        return tuple(f"scene-{number:04d}" for number in range(self.num_scenes))

    def scene(self, number: int) -> Scene:
        """One of them."""
        codes, token_scale = (np.roll(array, 37 * number, axis=3) for array in (self.codes, self.token_scale))
        frames = [self.banks[(number + frame) % len(self.banks)] for frame in range(self.num_frames)]
        bank = {name: np.concatenate([frame[name] for frame in frames]) for name in COLUMNS}
        counts = [[len(frame[name]) for name in COLUMNS] for frame in frames]
        starts = np.concatenate([np.zeros((1, len(COLUMNS)), np.int64), np.cumsum(counts, axis=0)])
        return Scene(self.names[number], {"codes": codes, "token_scale": token_scale}, bank, starts)

    def scenes(self) -> Iterator[Scene]:
        """One after the other."""
        return map(self.scene, range(self.num_scenes))

    def windows(self, num_windows: int, purpose: str) -> list[tuple[int, int]]:
        """Scene and last frame of random windows, all different."""
        places = [(scene, frame) for scene in range(self.num_scenes) for frame in range(WINDOW - 1, self.num_frames)]
        chosen = numpy_rng(0, purpose).permutation(len(places))[:num_windows]
        return [places[place] for place in chosen]

    def window_bytes(self, windows: list[tuple[int, int]]) -> int:
        """Bytes of the arrays of these windows together."""
        patches = WINDOW * (self.codes[0].nbytes + self.token_scale[0].nbytes)
        banks = [self.banks[(scene + frame) % len(self.banks)] for scene, frame in windows]
        return sum(patches + sum(rows.nbytes for rows in bank.values()) for bank in banks)


def made_data(num_scenes: int, num_frames: int, grid: tuple[int, int], channels: int, tiny: bool) -> DataSet:
    """The data set."""
    codes, scales = zip(*_frames(num_frames, grid, channels), strict=True)
    with made_drive(tiny) as drive:
        bank = MemoryBank.open(drive.inputs.build_memory)
        of_scene = len(drive.index.frames()) // len(bank.scenes())
        banks = tuple(columns_of(bank.frame(scene, i)) for scene in bank.scenes() for i in range(of_scene))
    return DataSet(num_scenes, np.stack(codes), np.stack(scales), banks)


def columns_of(bank: FrameBank) -> dict[str, np.ndarray]:
    """A frame's bank as it lies on disk."""
    view, position = np.stack([bank.age, bank.camera], axis=1), np.stack([bank.u, bank.v], axis=1)
    return dict(zip(COLUMNS, (bank.point_target, bank.num_references, view, position), strict=True))


def _frames(num_frames: int, grid: tuple[int, int], channels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    deviation = np.arange(1, channels + 1, dtype=np.float32) ** -0.7
    deviation[numpy_rng(0, "outliers").permutation(channels)[:2]] *= 10
    scale = None
    for frame in range(num_frames):
        values = numpy_rng(0, "tokens", frame).standard_normal((CAMERAS, *grid, channels), dtype=np.float32)
        values *= deviation
        scale = fit_channel_scale(values) if scale is None else scale
        yield encode_int8(values, scale)
