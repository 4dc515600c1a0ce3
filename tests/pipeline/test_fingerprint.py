"""Canonical form refuses what has none; digests do not depend on order; differences name the field."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lima_core.errors import ConfigError
from lima_core.types import Config
from pipeline.fingerprint import canonical, difference, digest


class Inner(Config):
    size_m: tuple[float, float] = (0.1, 0.2)


class Outer(Config):
    inner: Inner = Inner()
    name: str | None = None


def test_digest_is_sha256_of_sorted_compact_json() -> None:
    assert digest({"b": [1, 2.5], "a": "x"}) == hashlib.sha256(b'{"a":"x","b":[1,2.5]}').hexdigest()


def test_a_config_becomes_plain_json() -> None:
    assert canonical(Outer()) == {"inner": {"size_m": [0.1, 0.2]}, "name": None}


@pytest.mark.parametrize(
    "value", [len, object(), Path("a"), {1, 2}, np.float64(1.5), np.zeros(2), b"x", float("nan"), float("inf"), {1: 2}]
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.config\.thing.*"):
        canonical({"config": {"thing": value}})


def test_difference_names_the_field_and_both_values() -> None:
    old = {"config": {"voxel_size_m": 0.1, "gone": 1, "grid": {"name": "a"}}, "version": 1}
    new = {"config": {"voxel_size_m": 0.2, "grid": {"name": "a"}, "added": [1]}, "version": 1}
    assert difference(old, new) == [
        "config.voxel_size_m: 0.1 -> 0.2",
        "config.gone: 1 -> (absent)",
        "config.added: (absent) -> [1]",
    ]


def test_true_is_not_one() -> None:
    assert difference({"a": True}, {"a": 1}) == ["a: true -> 1"]
    assert digest({"a": True}) != digest({"a": 1})
