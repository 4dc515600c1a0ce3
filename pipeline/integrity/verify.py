"""``lima verify``: checks the artifacts of a work folder, says what is wrong in one line each, and repairs it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lima_core.errors import StoreError
from lima_core.storage import Location, children, is_file, is_remote
from lima_core.whole import discard
from pipeline import lock
from pipeline.cleaning import ARTIFACT
from pipeline.disk import size
from pipeline.integrity import contents
from pipeline.integrity.checks import Check, Problem, check, scenes_of
from pipeline.integrity.contents import place_of
from pipeline.integrity.repair import Place, copy_here, pieces, repair
from pipeline.node import Node, topological
from pipeline.places import is_begun, is_there
from pipeline.planning import artifacts, reason

Say = Callable[[str], None]
REMEDY = "lima verify CONFIG --repair rebuilds what is damaged, and only that"


@dataclass(frozen=True)
class Verified:
    """What was found."""

    checks: list[Check]
    seconds: float
    num_bytes: int
    """That were read."""
    stale: list[str]
    """Names of artifacts that were built from other bytes than lie there now; they are not damaged."""

    @property
    def problems(self) -> list[Problem]:
        """All problems of all artifacts."""
        return [problem for found in self.checks for problem in found.problems]

    @property
    def to_repair(self) -> list[str]:
        """Names of artifacts that have problems, or a repair that was stopped."""
        wrong = [found for found in self.checks if found.problems or (found.is_half_built and _is_of_a_repair(found))]
        return list(dict.fromkeys(found.artifact.name.removesuffix(".partial") for found in wrong))

    def summary(self, mends: bool = False) -> str:
        """One line, with what to do about problems unless they are about to be mended."""
        whole = [found for found in self.checks if not found.is_half_built and not found.is_copy]
        amount = f"{sum(found.num_files for found in self.checks)} files, {size(sum(f.num_bytes for f in self.checks))}"
        rate = f", {size(round(self.num_bytes / self.seconds))}/s" if self.num_bytes else ", sizes only"
        read = f"{len(whole)} artifacts, {amount} in {self.seconds:.1f} s{rate}"
        if not self.problems:
            return f"no damage, but {len(self.stale)} stale: {read}" if self.stale else f"all well: {read}"
        damaged, scenes = len({problem.artifact for problem in self.problems}), scenes_of(self.problems)
        named = f", scenes affected: {', '.join(scenes[:10])}{f' and {len(scenes) - 10} more' * (len(scenes) > 10)}"
        also = f", and {len(self.stale)} stale" * bool(self.stale)
        found = f"{_count(len(self.problems), 'problem')} in {_count(damaged, 'folder')}"
        return f"{found}{named * bool(scenes)}{also}: {read}{f'; {REMEDY}' * (not mends)}"


def verify(nodes: Sequence[Node], work: Location, others: bool, quick: bool, say: Say) -> Verified:
    """Checks what is there of the nodes and all they read, upstream first.

    Args:
        nodes: of an experiment.
        work: folder of all artifacts.
        others: also what lies in the work folder and belongs to none of the nodes.
        quick: sizes only.
        say: receives a line for every artifact and every problem.

    Raises:
        StoreError: there is no such work folder.
    """
    started = time.monotonic()
    if not (children(work) if is_remote(work) else work.is_dir()):
        raise StoreError("there is no such work folder", where=work, remedy="give --work")
    _tell_absent(nodes, work, say)
    artifacts = [path for path in _there(nodes, work, others) if not _is_in_use(path, say)]
    checks = check(artifacts, quick)
    for found in checks:
        found.is_copy = is_remote(work) and not is_remote(found.artifact)
        _tell(found, say)
    stale = _tell_stale(checks, say)
    num_bytes = 0 if quick else sum(it.num_bytes for found in checks for it in found.to_sum.values())
    return Verified(checks, max(time.monotonic() - started, 1e-3), num_bytes, stale)


def repair_all(verified: Verified, able: Mapping[str, Place], say: Say) -> list[str]:
    """Repairs what has problems, upstream first; returns the names of what no node of ``able`` can build.

    Args:
        verified: what ``verify`` found with all checksums.
        able: by folder name, what can be built.
        say: receives a line about every step.

    Raises:
        UserError: whatever building raises.
    """
    left = []
    for found in verified.checks:
        place = able.get(found.artifact.name.removesuffix(".partial"))
        if found.problems and (found.is_copy or (found.is_half_built and place)):
            drop(found, place.wait if place else False, say)
        if place is None:
            left += [found.artifact.name] if found.problems and not found.is_copy else []
        elif (found.is_half_built and _is_of_a_repair(found)) or (found.problems and found.artifact == place.path):
            repair(place)
    return left


def drop(found: Check, wait: bool, say: Say) -> None:
    """Removes the damaged parts of what is half-built, or a damaged copy; the next run makes them again."""
    artifact = found.artifact.with_name(found.artifact.name.removesuffix(".partial"))
    with lock.held(artifact, wait, say):
        (again,) = check([found.artifact], quick=False)  # another process may have built or finished it meanwhile
        if again.is_half_built != found.is_half_built or not again.problems or not again.num_files:
            return
        again.is_copy, found = found.is_copy, again
        wanted = [""] if found.is_copy else pieces(found) or []
        for piece in wanted:
            discard(place_of(found.artifact, piece) if piece else found.artifact)
    what = "the copy on this machine" if found.is_copy else ", ".join(wanted)
    say(f"removed   {found.artifact.name}: {what}; the next run makes it again")


def _is_of_a_repair(found: Check) -> bool:
    return is_file(found.artifact / contents.FILE)


def _there(nodes: Iterable[Node], work: Location, others: bool) -> list[Location]:
    """Folders of artifacts and half-built ones, upstream first, and their copies on this machine."""
    there = {path.name: path for path in children(work) if ARTIFACT.match(path.name)}
    names = [node.path(work).name for node in topological(nodes)]
    wanted = [name for own in names for name in (own, f"{own}.partial")]
    wanted += [name for name in there if others and name not in wanted]
    found = [there[name] for name in wanted if name in there]
    return [path for artifact in found for path in (copy_here(artifact), artifact) if path is not None]


def _is_in_use(path: Location, say: Say) -> bool:
    """Whether another process builds or repairs it now."""
    artifact = path.with_name(path.name.removesuffix(".partial"))
    if (is_remote(path) and is_file(path / contents.MANIFEST)) or not lock.is_held(artifact, say):
        return False
    say(f"in use    {path.name}: is being built, so it is not checked")
    return True


def _tell_absent(nodes: Sequence[Node], work: Location, say: Say) -> None:
    """What is not there, and why: raw data that has changed, for example."""
    earlier = [record for _, record in artifacts(work)]
    for node in topological(nodes):
        if not is_there(node, work) and not is_begun(node, work):
            say(f"absent    {node.path(work).name} ({reason(node, earlier)})")


def _tell(found: Check, say: Say) -> None:
    name, amount = found.artifact.name, f"{_count(found.num_files, 'file')}, {size(found.num_bytes)}"
    for problem in found.problems:
        say(f"problem   {'copy on this machine: ' * found.is_copy}{problem}")
    if found.problems:
        return
    if found.is_half_built:
        parts = len(found.contents.parts) if found.contents else 0
        goes_on = "its repair was stopped, lima run or lima verify --repair goes on" if _is_of_a_repair(found) else ""
        say(f"half-built {name}: {_count(parts, 'finished scene')}, {amount}; {goes_on or 'lima run goes on'}")
    elif found.has_list:
        say(f"{'copy' if found.is_copy else 'ok':<9} {name}: {amount}")
    else:
        say(f"ok?       {name}: {amount}, made without a list of checksums; remove it and run again to have one")


def _tell_stale(checks: Iterable[Check], say: Say) -> list[str]:
    """Names of what was built from other bytes than its inputs have now."""
    stale = []
    records = {found.artifact.name: found.record for found in checks if found.record}
    for name, record in records.items():
        for read, content in record["inputs_content"].items():
            now = records.get(read, {}).get("content")
            if None not in (now, content) and now != content:
                remedy = "remove it and run again to build it from this one"
                say(f"stale     {name} was built from another {read}; {remedy}")
                stale.append(name)
    return list(dict.fromkeys(stale))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"
