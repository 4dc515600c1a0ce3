"""What Dask loads first in every worker process of this machine; the name of the function is Dask's."""

import signal

from lima_core.cluster import silence


def dask_setup(worker: object) -> None:
    """No lines of Dask's own; Ctrl-C is the run's, which stops its workers itself."""
    silence()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
