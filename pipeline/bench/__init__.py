"""Benchmarks that anyone can repeat: ``lima bench``. A subject is one file with ``cases``; SUBJECTS lists them.

Contestants of a case run in turn, round by round, in one process (``harness``), beside the machine's own matrix product
and copy (``machine``), so that a busy minute hits all alike; what is reported are medians, quartiles and ratios of the
same rounds. ``record`` is what is written, with hardware, commit and date; ``text`` is what is printed.
"""

from importlib import import_module
from types import ModuleType

from lima_core.errors import ConfigError, did_you_mean

SUBJECTS = ("engines", "layers", "step", "loader", "projection", "bank")


def subject_module(name: str) -> ModuleType:
    """The file of a subject, with ``cases(options)``.

    Raises:
        ConfigError: an unknown subject.
    """
    if name not in SUBJECTS:
        raise ConfigError(f"unknown subject {name!r}", where="lima bench", remedy=did_you_mean(name, SUBJECTS))
    return import_module(f"pipeline.bench.{name}")
