"""From references to targets: ONE weighted ``embedding_bag`` over the patch table of the window, on the device.

The target of a voxel is the mean over its frames of the mean over that frame's cameras of the unit-length patch
features that its references point at, read bilinearly in the patch grid; then unit length. Reading bilinearly in the
grid equals upsampling the grid by the patch size with ``align_corners`` and reading the pixel, which is what SuperFlow
and ScaLR do, without ever making the upsampled map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lima_core.stores.memory_bank import FrameBank

CrossView = Literal["mean", "first"]
"""How the cameras of one frame share a voxel: equally; or only the first in rig order (cross-view aggregation switched
off)."""


@dataclass(frozen=True)
class References:
    """The references of one or more banks, as tensors; in the order of their target, then age, then camera.

    As small as they come: they go to the device as they are, and become numbers to reckon with there.
    """

    num_references: Tensor
    """(T,) int32 references of each target."""
    age: Tensor
    """(R,) uint8 key frames back."""
    camera: Tensor
    """(R,) uint8, rig order."""
    image: Tensor
    """(R,) int32 which image of the patch table: its first patch row is ``image * h * w``."""
    u: Tensor
    """(R,) uint16 column as a fraction of the image width, in units of 1 / 65535, pixel centres at half steps."""
    v: Tensor
    """(R,) uint16 row as a fraction of the image height, likewise."""


def bilinear_patches(u: Tensor, v: Tensor, grid: tuple[int, int], patch_px: int) -> tuple[Tensor, Tensor]:
    """The four patches around each image position, and their weights.

    Args:
        u: (R,) column as a fraction of the image width.
        v: (R,) row as a fraction of the image height.
        grid: (h, w) patches.
        patch_px: patch size at the teacher's input.

    Returns:
        (R, 4) int64 patch within the image, ``row * w + column``; (R, 4) float32 weights that sum to 1.
    """
    (row, row_next, row_part), (column, column_next, column_part) = (
        _grid_position(fraction, size, patch_px) for fraction, size in ((v, grid[0]), (u, grid[1]))
    )
    patches = [
        row * grid[1] + column,
        row * grid[1] + column_next,
        row_next * grid[1] + column,
        row_next * grid[1] + column_next,
    ]
    weights = [
        (1 - row_part) * (1 - column_part),
        (1 - row_part) * column_part,
        row_part * (1 - column_part),
        row_part * column_part,
    ]
    return torch.stack(patches, dim=1), torch.stack(weights, dim=1)


def _grid_position(fraction: Tensor, size: int, patch_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lower patch, upper patch and the way between them, for positions along one axis (``align_corners``)."""
    length_px = size * patch_px
    pixel = (fraction * length_px - 0.5).clamp(0, length_px - 1)
    position = pixel * ((size - 1) / (length_px - 1))
    lower = position.floor().clamp(max=max(size - 2, 0)).long()
    return lower, (lower + 1).clamp(max=size - 1), position - lower


def reference_weights(references: References, cross_view: CrossView = "mean") -> Tensor:
    """(R,) float32 weight of each reference in the mean of its target; the weights of a target sum to 1.

    Three nested means: over the references of a camera, over the cameras of a frame, over the frames of the window. No
    size depends on what a tensor holds, for the CPU would wait for the GPU to tell it.
    """
    num_references = len(references.age)
    target = torch.repeat_interleave(references.num_references, output_size=num_references)
    entry_of_reference = _consecutive(target, references.age)
    view_of_reference = _consecutive(entry_of_reference, references.camera)
    view_size = _group_sum(torch.ones_like(target, dtype=torch.float32), view_of_reference, num_references)
    first_of_view = torch.ones_like(view_of_reference, dtype=torch.bool)
    first_of_view[1:] = view_of_reference[1:] != view_of_reference[:-1]
    rank = view_of_reference - _group_min(view_of_reference, entry_of_reference, num_references)[entry_of_reference]
    num_views = _group_sum(first_of_view.float(), entry_of_reference, num_references)[entry_of_reference]
    of_view = 1 / num_views if cross_view == "mean" else (rank == 0).float()
    share = of_view / view_size[view_of_reference]
    frames_of_target = _group_sum(share, target, len(references.num_references))
    return share / frames_of_target[target]


def _consecutive(outer: Tensor, inner: Tensor) -> Tensor:
    """(R,) int64 number of the run of equal (outer, inner) that each row lies in; there are R of them at most."""
    change = torch.ones_like(outer, dtype=torch.int64)
    change[1:] = (outer[1:] != outer[:-1]) | (inner[1:] != inner[:-1])
    return change.cumsum(0) - 1


def _group_sum(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    return torch.zeros(num_groups, dtype=values.dtype, device=values.device).index_add_(0, group, values)


def _group_min(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    start = torch.full((num_groups,), torch.iinfo(values.dtype).max, dtype=values.dtype, device=values.device)
    return start.scatter_reduce_(0, group, values, reduce="amin")


def pool(
    patches: Tensor, references: References, grid: tuple[int, int], patch_px: int, cross_view: CrossView = "mean"
) -> Tensor:
    """Pooled targets, (T, C) float32 of unit length.

    Args:
        patches: (P, C) float32 features of all images in question, row order (image, row, column).
        references: into them.
        grid: (h, w) patches of one image.
        patch_px: patch size at the teacher's input.
        cross_view: how the cameras of one frame share a voxel.
    """
    u, v = references.u.float() / 65535, references.v.float() / 65535
    within_image, bilinear = bilinear_patches(u, v, grid, patch_px)
    rows = references.image[:, None] * (grid[0] * grid[1]) + within_image
    length = torch.linalg.vector_norm(patches, dim=1).clamp(min=1e-12)
    # A patch is scaled where it is read: making the whole table of unit length costs more than reading from it.
    weights = reference_weights(references, cross_view)[:, None] * bilinear / length[rows]
    starts = 4 * (references.num_references.cumsum(0) - references.num_references)
    mean = functional.embedding_bag(rows.flatten(), patches, starts, mode="sum", per_sample_weights=weights.flatten())
    return functional.normalize(mean, dim=1)


def to_references(banks: Sequence[FrameBank], frames_in_table: Sequence[int], num_cameras: int) -> References:
    """Joins the banks of a batch; their patch tables lie behind each other in the same order.

    Args:
        banks: one per memory of the batch.
        frames_in_table: frames of each memory's patch table, of which the last is the bank's own frame.
        num_cameras: images per frame.
    """
    newest = np.cumsum(frames_in_table) - 1
    image = [
        (frame - bank.age.astype(np.int32)) * num_cameras + bank.camera
        for bank, frame in zip(banks, newest.tolist(), strict=True)
    ]

    def joined(column: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(bank, column) for bank in banks]))

    return References(
        num_references=torch.from_numpy(np.concatenate([bank.num_references for bank in banks], dtype=np.int32)),
        age=joined("age"),
        camera=joined("camera"),
        image=torch.from_numpy(np.concatenate(image)),
        u=joined("u"),
        v=joined("v"),
    )
