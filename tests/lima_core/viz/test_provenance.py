import pytest

from lima_core.viz import provenance


def manifest(seconds: float = 12.5, **changed: object) -> dict:
    origin = {
        "commit": "0123456789abcdef", "dirty": True, "python": "3.11.7", "packages": {"torch": "2.13.0"},
        "cpu": "A & B processor", "num_cores": 2, "gpu": None, "command": "lima run <x>",
        "resources": {"device": "cpu", "workers": 2},
    }  # fmt: skip
    record = {
        "fingerprint": "ab" * 32, "created": "2026-01-02T03:04:05+00:00", "seconds": seconds, "num_bytes": 1500,
        "resumed": False, "provenance": origin, "summary": {"miou": 0.5}, "inputs": {"index": "index-1"},
        "recipe": {"stage": "distill", "version": 1, "config": {"frames": 6}, "inputs": {}},
    }  # fmt: skip
    return record | changed


def test_table_has_a_row_per_artifact_and_their_sum() -> None:
    text = provenance.provenance_table([("index", manifest()), ("distill", manifest(100.0))])
    assert text.count("abababab") == 2 and "0123456789 + edits" in text and "2026-01-02 03:04:05" in text
    total = text[text.index("all together") :]
    assert "112 s" in total and "3 kB" in total


def test_what_is_not_recorded_is_said() -> None:
    text = provenance.provenance_table([("index", None)])
    assert "not recorded" in text and "without the runner" in text and "all together" not in text
    assert provenance.records([("index", None)]) == ""


def test_resumed_and_no_checkout() -> None:
    text = provenance.provenance_table([("index", manifest(resumed=True, provenance={"commit": None}))])
    assert "12.5 s*" in text and "only the seconds of the session" in text and "unknown" in text


def test_records_hold_everything_escaped() -> None:
    text = provenance.records([("distill", manifest())])
    for part in (
        "lima run &lt;x&gt;",
        "A &amp; B processor, 2 cores, no GPU used; device cpu, workers 2",
        "torch 2.13.0",
        "python 3.11.7",
        "distill, version 1",
        "&quot;frames&quot;: 6",
        "&quot;miou&quot;: 0.5",
        "ab" * 32,
    ):
        assert part in text


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (26_600_000, "26.6 MB"), (3e12, "3 TB")]
)
def test_size(num_bytes: float, text: str) -> None:
    assert provenance.size(num_bytes) == text
