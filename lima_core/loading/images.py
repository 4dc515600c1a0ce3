"""Images of a frame as a teacher takes them."""

import numpy as np
import torch
from PIL import Image

from lima_core.datasets.adapter import Dataset
from lima_core.errors import DataError, UserError
from lima_core.types import Camera, Frame


def load_images(dataset: Dataset, frame: Frame, size_px: tuple[int, int]) -> np.ndarray:
    """Images of the cameras that have one, (cameras, H, W, 3) uint8, in rig order."""
    images = [load_image(dataset, frame, camera, size_px) for camera in frame.cameras if camera]
    return np.stack(images) if images else np.empty((0, *size_px, 3), np.uint8)


def load_image(dataset: Dataset, frame: Frame, camera: Camera, size_px: tuple[int, int]) -> np.ndarray:
    """One image at the teacher's size, (H, W, 3) uint8; resized with a triangle filter as wide as the reduction.

    Raises:
        DataError: the image cannot be read; names file, frame and camera.
    """
    try:
        image = Image.fromarray(dataset.load_image(camera))
    except UserError as error:
        where = f"frame {frame.token} of scene {frame.scene}, camera {camera.name}"
        remedy = "or leave the frame out and rebuild the index"
        raise DataError(str(error), where=where, remedy=remedy) from error
    height, width = size_px
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """(B, 3, H, W) float32 in [0, 1] of (B, H, W, 3) uint8."""
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float().div_(255)
