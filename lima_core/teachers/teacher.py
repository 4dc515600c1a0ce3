"""What a teacher is: something that turns images into a grid of patch features, and says what it is."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Teacher(Protocol):
    """A frozen image encoder."""

    channels: int
    patch_px: int
    identity: str
    """For people: what it is, which weights; never a fixed filter bank under a network's name."""

    def fit(self, images: Sequence[Tensor]) -> None:
        """Finds what the teacher needs from a sample of images; a pretrained network does not look at them.

        Args:
            images: each (3, H, W) float32 RGB in [0, 1]; read one at a time, so the sequence may load them on access.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """What ``fit`` found; empty for a pretrained network."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes what ``state`` gave, instead of ``fit``."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Patch features (B, H / patch_px, W / patch_px, channels) float32, on the teacher's device, without gradient.

        Args:
            images: (B, 3, H, W) float32 RGB in [0, 1]; H and W multiples of ``patch_px``.
        """
        ...
