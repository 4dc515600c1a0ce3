"""The sparse engines on this machine, as ``lima doctor`` tells them: from installed versions, without importing any."""

from collections.abc import Callable

Version = Callable[[str], str | None]
"""Installed version of a distribution, or None."""
SPCONV_CUDA = tuple(f"spconv-cu{number}" for number in (126, 124, 121, 120, 118, 117, 116, 114, 113))
RACE = "CPU build: a cross-check on one thread only; with more its scatter_add_cpu adds wrongly (a data race)"


def engine_lines(cuda: bool, version: Version) -> list[tuple[str, str, str]]:
    """Name, what is installed, and what is to be said about it, of every engine and of ``auto``.

    Args:
        cuda: whether torch can use a GPU here.
        version: looks up a distribution.
    """
    spconv, torchsparse = _spconv(cuda, version), _torchsparse(cuda, version)
    chosen = next(
        (name for name, (_, note) in (("spconv", spconv), ("torchsparse", torchsparse)) if not note), "native"
    )
    return [
        ("engine auto", chosen, ""),
        ("engine native", "runs everywhere", ""),
        ("engine spconv", *spconv),
        ("engine torchsparse", *torchsparse),
    ]


def _spconv(cuda: bool, version: Version) -> tuple[str, str]:
    """Packages found; a note, empty where the engine runs."""
    found = [name for name in ("spconv-triton", *SPCONV_CUDA, "spconv") if version(name)]
    listed = ", ".join(f"{name} {version(name)}" for name in found) or "not installed"
    on_gpu = [name for name in found if name != "spconv"]
    if not found:
        return listed, "optional, for a GPU: pip install 'lima-lidar[spconv]'"
    if not on_gpu:
        return listed, RACE
    if not cuda:
        return listed, f"needs a GPU{f'; {RACE}' if 'spconv' in found else ''}"
    if on_gpu == ["spconv-triton"] and not version("triton"):
        return listed, "triton is missing: it comes with a CUDA build of torch"
    return listed, ""


def _torchsparse(cuda: bool, version: Version) -> tuple[str, str]:
    installed = version("torchsparse")
    if installed is None:
        return "not installed", "optional, for a GPU, on no package index: docs/engines.md"
    if not installed.startswith("2.1"):
        return installed, "only 2.1 runs on a GPU; on the CPU 2.0 is right, and slower than native"
    return installed, "" if cuda else "needs a GPU, cannot even be imported without"
