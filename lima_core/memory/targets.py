"""What teaches the points of a frame, from either cache.

Either references and patches, which are pooled on the device, or targets that were pooled before (a materialised
bank). A trainer is given one of the two sources and cannot tell them apart.

Loader threads read and put together (``read``, ``only``, ``join``); decoding and pooling happen where the network is
(``features``). Targets are directions, so a patch counts with length 1 whatever its token scale says, which is
therefore never applied.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lima_core.errors import ConfigError
from lima_core.memory.pooling import CrossView, References, pool, to_references
from lima_core.storage import Location
from lima_core.stores.feature_store import FeatureStore, Patches
from lima_core.stores.materialised_bank import EncodedTargets, MaterialisedBank
from lima_core.stores.memory_bank import REFERENCES, FrameBank, MemoryBank


@dataclass(frozen=True)
class Codes:
    """Encoded features of one frame or window, up to their lengths."""

    codes: Tensor
    """(R, W) float16 or int8."""
    channel_scale: Tensor | None
    """(W,) float32 for int8 and PCA."""


def directions(parts: Sequence[Codes]) -> Tensor:
    """(all R, W) float32 on the device of the codes, of any length."""
    first = parts[0].codes
    table = torch.empty(sum(len(part.codes) for part in parts), first.shape[1], device=first.device)
    for rows, part in zip(table.split([len(part.codes) for part in parts]), parts, strict=True):
        rows.copy_(part.codes)
        if part.channel_scale is not None:
            rows.mul_(part.channel_scale)
    return table


def as_taught(features: Tensor, basis: Tensor | None) -> Tensor:
    """(T, C) float32 of unit length, of features (T, C) or of coefficients (T, D) along ``basis`` (D, C)."""
    if basis is None:
        return functional.normalize(features, dim=1)
    with torch.autocast(features.device.type, enabled=False):  # a student's bf16 must not round the teacher
        return functional.normalize(features @ basis, dim=1)


@dataclass(frozen=True)
class Memory:
    """The bank of one frame and the patches its references point into."""

    bank: FrameBank
    patches: Patches
    """Of the window's frames, the bank's own frame last."""

    @property
    def num_targets(self) -> int:
        """T."""
        return len(self.bank.num_references)

    def only(self, wanted: np.ndarray) -> "Memory":
        """The same with the targets ``wanted``, (T,) bool."""
        keep = np.repeat(wanted, self.bank.num_references)
        columns = {name: getattr(self.bank, name)[keep] for name in REFERENCES}
        renumbered = renumbering(wanted)[self.bank.point_target].astype(np.int32)
        return replace(self, bank=FrameBank(renumbered, self.bank.num_references[wanted], **columns))


@dataclass(frozen=True)
class Stored:
    """Targets of one frame that were pooled before."""

    targets: EncodedTargets

    @property
    def num_targets(self) -> int:
        """T."""
        return len(self.targets.codes)

    def only(self, wanted: np.ndarray) -> "Stored":
        """The same with the targets ``wanted``, (T,) bool."""
        renumbered = renumbering(wanted)[self.targets.point_target].astype(np.int32)
        return Stored(replace(self.targets, point_target=renumbered, codes=self.targets.codes[wanted]))


def renumbering(wanted: np.ndarray) -> np.ndarray:
    """(T + 1,) int64 new number of each target, -1 for those that go; the last is that of target -1."""
    return np.append(np.where(wanted, np.cumsum(wanted) - 1, -1), -1)


@dataclass(frozen=True)
class PooledTargets:
    """References and patches of a batch."""

    patches: tuple[Codes, ...]
    references: References
    basis: Tensor | None
    grid: tuple[int, int]
    patch_px: int
    cross_view: CrossView

    @torch.no_grad()
    def features(self) -> Tensor:
        """(T, C) float32 of unit length, on the device of the batch."""
        # The basis is orthonormal: lengths and means are those of the coefficients.
        pooled = pool(directions(self.patches), self.references, self.grid, self.patch_px, self.cross_view)
        return pooled if self.basis is None else as_taught(pooled, self.basis)


@dataclass(frozen=True)
class StoredTargets:
    """Targets of a batch, encoded."""

    codes: tuple[Codes, ...]
    basis: Tensor | None

    @torch.no_grad()
    def features(self) -> Tensor:
        """(T, C) float32 of unit length, on the device of the batch."""
        return as_taught(directions(self.codes), self.basis)


@dataclass(frozen=True)
class BankTargets:
    """Reads references and patches; the method's source of targets."""

    bank: MemoryBank
    store: FeatureStore
    window: int
    """Key frames, no more than the bank was built with."""
    cross_view: CrossView = "mean"

    @property
    def path(self) -> Location:
        """Of the bank, for messages."""
        return self.bank.path

    @cached_property
    def scenes(self) -> frozenset[str]:
        """Those that have both references and features."""
        return frozenset(self.bank.scenes()) & frozenset(self.store.scenes())

    @property
    def teacher(self) -> str:
        """The teacher's identity."""
        return self.store.facts.teacher

    @property
    def channels(self) -> int:
        """C."""
        return self.store.facts.channels

    def read(self, scene: str, index: int) -> tuple[np.ndarray, Memory]:
        """Target of each point, (N,) int32, and the targets of one frame."""
        bank = self.bank.frame(scene, index, self.window)
        patches = self.store.read(scene, max(0, index - self.window + 1), index + 1)
        return bank.point_target, Memory(bank, patches)

    def join(self, parts: Sequence[Memory]) -> PooledTargets:
        """Of several frames, behind each other."""
        facts = self.store.facts
        frames = [len(part.patches.codes) for part in parts]
        return PooledTargets(
            patches=tuple(_codes(part.patches.codes, part.patches.channel_scale) for part in parts),
            references=to_references([part.bank for part in parts], frames, len(facts.cameras)),
            basis=_tensor(self.store.basis),
            grid=facts.grid,
            patch_px=facts.patch_px,
            cross_view=self.cross_view,
        )


@dataclass(frozen=True)
class MaterialisedTargets:
    """Reads targets that were pooled before; the method's other source of targets."""

    bank: MaterialisedBank

    @property
    def path(self) -> Location:
        """Of the bank, for messages."""
        return self.bank.path

    @cached_property
    def scenes(self) -> frozenset[str]:
        """Those that it holds."""
        return frozenset(self.bank.scenes())

    @property
    def teacher(self) -> str:
        """The teacher's identity."""
        return self.bank.facts.teacher

    @property
    def channels(self) -> int:
        """C."""
        return self.bank.facts.channels

    @property
    def window(self) -> int:
        """Key frames."""
        return self.bank.facts.frames

    def read(self, scene: str, index: int) -> tuple[np.ndarray, Stored]:
        """Target of each point, (N,) int32, and the targets of one frame."""
        targets = self.bank.frame(scene, index)
        return targets.point_target, Stored(targets)

    def join(self, parts: Sequence[Stored]) -> StoredTargets:
        """Of several frames, behind each other."""
        codes = tuple(_codes(part.targets.codes, part.targets.channel_scale) for part in parts)
        return StoredTargets(codes, _tensor(self.bank.basis))


def materialised_targets(bank: MaterialisedBank, frames: int | None, cross_view: CrossView) -> MaterialisedTargets:
    """The source, where ``bank`` was pooled as the method wants it.

    Raises:
        ConfigError: it was pooled over another window, or its cameras share voxels in another way.
    """
    facts = bank.facts
    if frames not in (None, facts.frames):
        remedy = "set distill.method.frames or materialize.frames, or train from references (materialize: null)"
        what = f"targets were pooled over {facts.frames} frames, the method wants {frames}"
        raise ConfigError(what, where=bank.path, remedy=remedy)
    if cross_view != facts.cross_view:
        what = f"targets were pooled with cross_view {facts.cross_view}, the method wants {cross_view}"
        raise ConfigError(what, where=bank.path, remedy="set materialize.cross_view to distill.method.cross_view")
    return MaterialisedTargets(bank)


def _codes(codes: np.ndarray, channel_scale: np.ndarray | None) -> Codes:
    return Codes(torch.from_numpy(codes.reshape(-1, codes.shape[-1])), _tensor(channel_scale))


def _tensor(values: np.ndarray | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values)
