"""Operations on an object storage: tried again where that may help, and failing in one line where it does not.

What fails is told apart by the names of errors and by the codes that servers answer with, so that no package of any
object storage is needed here.
"""

import errno
import random
from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import TypeVar

from lima_core.errors import UnreachableError

Result = TypeVar("Result")

WAITS_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""Before each new try; all of them together bridge a restart of a server or a switch."""
ANSWERS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)
"""Told by the storage, not failures: asking again changes nothing."""
OURS = (TypeError, AttributeError, NameError, LookupError, AssertionError, NotImplementedError, MemoryError)
"""Mistakes of a program, or no room for the answer; nothing about the storage."""
HERE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)
"""Of the disk or the process on this machine: it does not pass, and the storage has nothing to do with it."""

_KEYS = "give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or in ~/.aws/credentials"
_RIGHTS = "give credentials that may read, write, list and delete there"
_DENIED = ("access is denied", _RIGHTS)
_WRONG_KEY = ("the credentials are not accepted", _KEYS)
CERTAIN = {
    "NoSuchBucket": ("there is no such bucket", "check the URL, or make the bucket"),
    "InvalidBucketName": ("this is no name of a bucket", "check the URL"),
    "ParamValidationError": ("this is no URL of a bucket", "check the URL"),
    "PermanentRedirect": ("the bucket is in another region", "set AWS_DEFAULT_REGION to the bucket's region"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "set AWS_DEFAULT_REGION to the bucket's"),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set the clock"),
    "NoCredentialsError": ("there are no credentials", _KEYS),
    "PartialCredentialsError": ("half of the credentials is missing", _KEYS),
    "ProfileNotFound": ("the profile of the credentials is not there", "check AWS_PROFILE"),
    "InvalidAccessKeyId": _WRONG_KEY,
    "SignatureDoesNotMatch": _WRONG_KEY,
    "InvalidToken": _WRONG_KEY,
    "ExpiredToken": ("the credentials have expired", _KEYS),
    "AccessDenied": _DENIED,
    "PermissionError": _DENIED,
    "403": _DENIED,
}
"""What and what to do, by the name of an error or a server's code: told at once."""


class WrongLengthError(OSError):
    """An answer cut short on its way."""


def patiently(operation: Callable[[], Result], where: object) -> Result:
    """``operation()``, tried again after each of ``WAITS_S`` where it fails.

    Raises:
        UnreachableError: it failed every time; says how often, for how long and why. At once where nothing but the user
            can help: credentials, rights, a bucket that is not there.
        OSError: one of ``ANSWERS``.
    """
    started = monotonic()
    for wait_s in (*WAITS_S, None):
        try:
            return operation()
        except (UnreachableError, *OURS):
            raise
        except Exception as error:
            if own := _of_this_machine(error):
                raise own from own.__cause__
            if found := _certain(error):
                raise UnreachableError(f"{found[0]} ({_reason(error)})", where=where, remedy=found[1]) from error
            if isinstance(error, ANSWERS):
                raise
            if wait_s is None:
                lasted = f"{len(WAITS_S) + 1} times in {monotonic() - started:.0f} s"
                remedy = "what is finished is kept: check network and server, then run again"
                what = f"cannot be reached, tried {lasted} ({_reason(error)})"
                raise UnreachableError(what, where=where, remedy=remedy) from error
            sleep(wait_s * random.uniform(0.5, 1.0))  # not all readers at the same moment
    raise AssertionError("unreachable")


def _certain(error: BaseException) -> tuple[str, str] | None:
    """What is known of the error by its first cause, which says most."""
    return next((CERTAIN[name] for name in reversed([*_names(error)]) if name in CERTAIN), None)


def _of_this_machine(error: BaseException | None) -> OSError | None:
    """The first of the error and its causes that is one of ``HERE``."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in HERE:
            return error
        error = error.__cause__
    return None


def _names(error: BaseException | None) -> Iterator[str]:
    """Class names and servers' codes of an error and of what caused it, the first cause last."""
    while error is not None:
        yield from (kind.__name__ for kind in type(error).__mro__)
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            yield str(response.get("Error", {}).get("Code"))
        error = error.__cause__


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
