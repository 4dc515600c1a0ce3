"""What a pre-training asks of whatever teaches it; ``lima_core.memory.targets`` has two that answer."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from lima_core.storage import Location


class FrameTargets(Protocol):
    """What teaches one frame, encoded."""

    @property
    def num_targets(self) -> int:
        """T."""
        ...

    def only(self, wanted: np.ndarray) -> "FrameTargets":
        """The same with the targets ``wanted``, (T,) bool, in their order."""
        ...


class BatchTargets(Protocol):
    """What teaches a batch, a dataclass of tensors on any device."""

    def features(self) -> Tensor:
        """(T, C) float32 of unit length, on that device."""
        ...


class TargetSource(Protocol):
    """Where targets come from; read from loader threads."""

    @property
    def path(self) -> Location:
        """For messages."""
        ...

    @property
    def scenes(self) -> frozenset[str]:
        """Those that have targets."""
        ...

    @property
    def teacher(self) -> str:
        """Identity of the teacher in whose space the targets lie."""
        ...

    @property
    def channels(self) -> int:
        """C."""
        ...

    @property
    def window(self) -> int:
        """Key frames whose memory a target is."""
        ...

    def read(self, scene: str, index: int) -> tuple[np.ndarray, FrameTargets]:
        """Target of each point of a frame, (N,) int32, -1 where nothing teaches it, and the targets."""
        ...

    def join(self, parts: Sequence[Any]) -> BatchTargets:
        """Those of several frames behind each other."""
        ...
