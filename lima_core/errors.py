"""Errors that are the user's to mend: one line that says what is wrong, where, and what to do.

Anything else that escapes is a bug of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in input, config or environment, told in one line."""

    def __init__(self, what: str, *, where: object = "", remedy: str = "") -> None:
        """Joins the parts to one line: ``where: what; remedy``."""
        line = f"{where}: {what}" if str(where) else what
        super().__init__(f"{line}; {remedy}" if remedy else line)


class ConfigError(UserError):
    """A config file, flag or name that cannot be used."""


class DataError(UserError):
    """Raw data that is missing, truncated, of a wrong shape or not finite."""


class StoreError(UserError):
    """An artifact that is missing, incomplete or of another schema version."""


class VersionError(StoreError):
    """An artifact that another version of lima wrote; nothing is wrong with it."""


class CheckpointError(UserError):
    """Weights that do not fit the model they are loaded into."""


class UnreachableError(UserError):
    """An object storage that does not answer, or does not let us in; says nothing about what lies there."""


class BusyError(UserError):
    """Another process is building the same artifact."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Remedy line for an unknown name: the nearest known one, and all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(known)}"
