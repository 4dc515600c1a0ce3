"""One frame's targets from the memory bank: reading references, reading patches, pooling; window of six frames.

Against other ways to make the same targets: ``python -m benchmarks.bench_bank_cost``.
"""

from collections.abc import Callable, Iterator

from torch import Tensor

from lima_core.memory.pooling import pool, to_references
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.memory_bank import FrameBank, MemoryBank
from lima_core.types import Frame
from pipeline.bench.drive import made_drive
from pipeline.bench.harness import Case, Contestant, Options

WINDOW = 6


def cases(options: Options) -> Iterator[Case]:
    """One case: the last key frame of a small drive, warm files."""
    with made_drive(options.size == "tiny") as drive:
        frame = drive.index.frames()[-1]
        maker = Maker(
            frame, MemoryBank.open(drive.inputs.build_memory), FeatureStore.open(drive.inputs.extract_features)
        )
        bank, patches = maker.bank(), maker.patches()
        targets = maker.pooled(bank, patches)
        facts = {
            "points": len(bank.point_target),
            "taught": int((bank.point_target >= 0).sum()),
            "targets": len(targets),
            "references": len(bank.age),
            "channels": targets.shape[1],
        }
        whole = "bank to targets"
        parts = {
            whole: lambda: maker.pooled(maker.bank(), maker.patches()),
            "read the references": maker.bank,
            "read and decode the patches": maker.patches,
            "pool": lambda: maker.pooled(bank, patches),
        }
        yield Case("one key frame", facts, [Contestant(name, _ready(work), items=1) for name, work in parts.items()])


def _ready(work: Callable[[], object]) -> Callable[[], Callable[[], object]]:
    return lambda: work


class Maker:
    """The steps from disk to targets for one frame."""

    def __init__(self, frame: Frame, banks: MemoryBank, store: FeatureStore) -> None:
        self.frame, self.banks, self.store = frame, banks, store
        self.oldest = max(0, frame.index + 1 - WINDOW)

    def bank(self) -> FrameBank:
        """References of the window."""
        return self.banks.frame(self.frame.scene, self.frame.index, WINDOW)

    def patches(self) -> Tensor:
        """(P, C) float32 of the window's frames."""
        return self.store.read(self.frame.scene, self.oldest, self.frame.index + 1).table()

    def pooled(self, bank: FrameBank, patches: Tensor) -> Tensor:
        """(T, C) float32."""
        references = to_references([bank], [self.frame.index + 1 - self.oldest], len(self.frame.cameras))
        return pool(patches, references, self.store.facts.grid, self.store.facts.patch_px)
