"""Sums are those of CRC-32C; a part lists its files; a stamped file tells of every changed byte."""

import json
from pathlib import Path

import pytest
from upath import UPath

from lima_core import checksums
from lima_core.checksums import FileSum, bytes_sum, file_sum, files_of, is_sealed, is_stamped, seal, write_stamped
from lima_core.errors import StoreError


def slow_crc32c(data: bytes) -> int:
    """Bit by bit, polynomial 0x1EDC6F41 reflected (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("data", [b"", b"123456789", bytes(range(256)) * 5])
def test_sums_are_crc32c(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    expected = FileSum(len(data), f"{slow_crc32c(data):08x}")
    assert file_sum(tmp_path / "file") == bytes_sum(data) == expected
    assert slow_crc32c(b"123456789") == 0xE3069283


def test_blocks_change_no_sum_and_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = bytes(range(256)) * 41, []
    for place in (tmp_path / "file", UPath("memory://test-checksums/file")):
        place.write_bytes(data)
        monkeypatch.setattr(checksums, "BLOCK_BYTES", 1000)
        monkeypatch.setattr(checksums, "REQUEST_BYTES", 4000)
        assert file_sum(place, seen.append) == bytes_sum(data)
    assert seen == [1000] * 10 + [496] + [4000] * 2 + [2496]


def test_a_part_is_there_when_it_is_sealed_and_lists_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "codes" / "c").mkdir(parents=True)
    (tmp_path / "codes" / "c" / "0").write_bytes(b"abc")
    assert not is_sealed(tmp_path)
    seal(tmp_path, {"num_frames": 2})
    assert is_sealed(tmp_path)
    assert files_of(tmp_path) == {"codes/c/0": bytes_sum(b"abc")}
    seal(tmp_path, {"num_frames": 3})
    assert files_of(tmp_path).keys() == {"codes/c/0"}


def test_a_part_that_was_taken_away_is_not_sealed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        seal(tmp_path / "scene-1", {})
    assert list(tmp_path.iterdir()) == []


def test_unreadable_metadata_is_told(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text('{"attri')
    with pytest.raises(StoreError, match=r"zarr\.json: unreadable metadata; run lima verify --repair"):
        files_of(tmp_path)
    with pytest.raises(StoreError, match="is not there"):
        files_of(tmp_path / "absent")


def test_every_changed_byte_of_a_stamped_file_is_seen(tmp_path: Path) -> None:
    write_stamped(tmp_path / "a.json", {"name": "ä", "values": [1, 0.1], "crc32c_of": {"crc32c": "00000000"}})
    data = (tmp_path / "a.json").read_bytes()
    assert is_stamped(data) and json.loads(data)["values"] == [1, 0.1]
    for place in range(len(data)):
        for bit in (1, 16, 32, 128):
            assert not is_stamped(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
    for other in (b"", b"[]", b"3", data[:-1], data + b"\n", b'{"a": 1}\n', b"\xff"):
        assert not is_stamped(other)
