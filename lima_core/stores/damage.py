"""Metadata that are not what they must be: told as damage, in one line, and never as a mistake of the program."""

from collections.abc import Iterator
from contextlib import contextmanager

from lima_core.errors import StoreError, UserError
from lima_core.storage import Location


@contextmanager
def damage_told(where: Location, remedy: str, what: str = "unreadable metadata") -> Iterator[None]:
    """Turns what damaged metadata raise where they are taken apart into one line about ``where``.

    Raises:
        StoreError: a key is missing, or a value is of another kind; says which.
    """
    try:
        yield
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else (str(error).splitlines() or ["damaged"])[0][:200]
        raise StoreError(f"{what} ({reason})", where=where, remedy=remedy) from error
