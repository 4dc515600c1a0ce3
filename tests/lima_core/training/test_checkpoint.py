"""Weights on disk: round trip, and what the errors say."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lima_core.errors import CheckpointError
from lima_core.training.checkpoint import read_meta, read_weights, require_match, save_weights


def test_round_trip_with_buffers(tmp_path: Path) -> None:
    net, other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    net(torch.randn(5, 3))
    for _ in range(2):  # the second replaces the first
        save_weights(tmp_path / "model", net, {"kind": "backbone", "in_channels": 3})
    other.load_state_dict(read_weights(tmp_path / "model"))
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    assert read_meta(tmp_path / "model") == {"kind": "backbone", "in_channels": 3}
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model.json", "weights.safetensors"]


def test_another_architecture_is_named(tmp_path: Path) -> None:
    save_weights(tmp_path, nn.Linear(3, 4), {})
    with pytest.raises(CheckpointError, match=r"weight is \(4, 3\), not \(4, 5\).*backbone config"):
        require_match(read_weights(tmp_path), nn.Linear(5, 4).state_dict(), tmp_path)
    with pytest.raises(CheckpointError, match=r"0.weight is missing; 0.bias is missing; .*and 1 more"):
        require_match(read_weights(tmp_path), nn.Sequential(nn.Linear(3, 4)).state_dict(), tmp_path)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: no checkpoint here"):
        read_meta(tmp_path / "nowhere")
    save_weights(tmp_path / "model", nn.Linear(3, 4), {})
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"unreadable weights.safetensors"):
        read_weights(tmp_path / "model")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"[1, 2]", "model.json holds a list, not an object"),
        (b"{", "no checkpoint here"),
        (b"\xff\xfe{", "no checkpoint here"),
    ],
)
def test_a_json_that_is_no_description_is_one_line(content: bytes, line: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=line) as error:
        read_meta(tmp_path)
    assert "\n" not in str(error.value)
