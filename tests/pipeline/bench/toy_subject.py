"""A subject whose one contestant needs 30 MB, after a preparation that keeps 50 MB and frees 60 MB."""

from collections.abc import Callable, Iterator

import numpy as np

from pipeline.bench.harness import Case, Contestant, Options


def cases(options: Options) -> Iterator[Case]:
    yield Case("first", {}, [])
    yield Case("second", {}, [Contestant("thirty", prepare, memory=True)])


def prepare() -> Callable[[], object]:
    kept = np.ones(50_000_000, dtype=np.uint8)
    np.ones(60_000_000, dtype=np.uint8)
    return lambda: float(np.ones(30_000_000, dtype=np.uint8).sum() + kept[0])
