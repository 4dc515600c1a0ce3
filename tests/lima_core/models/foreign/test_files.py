"""Reading files that others wrote: what is read, and the line that is said of every file that is not."""

import os
import pickle
import sys
from collections import OrderedDict, defaultdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lima_core.errors import CheckpointError
from lima_core.models.foreign.files import read_tensors


def test_nested_containers_become_dotted_names(tmp_path: Path) -> None:
    content = {
        "state_dict": OrderedDict({"a.weight": torch.ones(2)}),
        "epoch": 3,
        "optimizer": {"state": {0: {"m": torch.zeros(1)}}},
    }
    torch.save(content, tmp_path / "x.ckpt")
    assert list(read_tensors(tmp_path / "x.ckpt")) == ["state_dict.a.weight", "optimizer.state.0.m"]


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.arange(3.0)}, tmp_path / "x.safetensors")
    assert read_tensors(tmp_path / "x.safetensors")["a"].tolist() == [0, 1, 2]


def test_bookkeeping_of_mmengine_is_passed_over_without_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "mmengine.logging.history_buffer"
    module = ModuleType(name)

    class HistoryBuffer:
        def __init__(self) -> None:
            self.values, self.last = np.arange(3.0), np.int64(3)

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = name, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer
    for part in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    monkeypatch.setitem(sys.modules, name, module)
    content = {
        "state_dict": {"a": torch.ones(2)},
        "meta": {"seed": np.int64(5), "score": np.float64(0.5)},
        "message_hub": {"log_scalars": OrderedDict(loss=HistoryBuffer())},
    }
    torch.save(content, tmp_path / "epoch_1.pth")
    for part in ("mmengine", "mmengine.logging", name):
        monkeypatch.delitem(sys.modules, part)
    assert list(read_tensors(tmp_path / "epoch_1.pth")) == ["state_dict.a"]


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "mmengine.config.config.ConfigDict",
    ],
)
@pytest.mark.parametrize("by_argument", [False, True])
def test_a_dict_of_another_class_is_read_as_a_plain_one(
    name: str, by_argument: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, kind = name.rpartition(".")

    class Named(dict):
        if by_argument:

            def __reduce_ex__(self, _: object) -> tuple:
                return type(self), (dict(self),)

    Named.__module__, Named.__qualname__ = module, kind
    parts = module.split(".")
    names = [".".join(parts[: i + 1]) for i in range(len(parts))]
    for part in names:
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    monkeypatch.setattr(sys.modules[module], kind, Named, raising=False)
    torch.save({"hyper_parameters": Named(lr=1.0, sizes=Named(a=torch.ones(2)))}, tmp_path / "last.ckpt")
    for part in names:
        monkeypatch.delitem(sys.modules, part)
    assert list(read_tensors(tmp_path / "last.ckpt")) == ["hyper_parameters.sizes.a"]


def test_a_dict_with_a_default_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "losses": defaultdict(list, {"x": [torch.zeros(1)]})}, tmp_path / "x.pth")
    assert list(read_tensors(tmp_path / "x.pth")) == ["a"]


def test_an_object_that_is_filled_in_is_refused_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lima_core.models.foreign.files.DICTS", ())
    monkeypatch.setattr("lima_core.models.foreign.files.BOOKKEEPING", ("collections.defaultdict", "builtins.list"))
    torch.save({"a": torch.ones(1), "losses": defaultdict(list, {"x": [1]})}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="holds an object that only running the file's own code can read"):
        read_tensors(tmp_path / "x.pth")


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_file_is_refused_and_runs_nothing(zipped: bool, tmp_path: Path) -> None:
    path, target = tmp_path / "model.pth", tmp_path / "ran"
    content = {"state_dict": {"a": torch.ones(1)}, "x": Hostile(target)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as error:
        read_tensors(path)
    assert not target.exists() and "\n" not in str(error.value)
    assert "(posix.system) that only running the file's own code can read, which is refused" in str(error.value)
    assert "save_file(state_dict" in str(error.value)


def test_a_bare_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path, target = tmp_path / "model.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Hostile(target)))
    with pytest.raises(CheckpointError, match=r"not written by torch\.save"):
        read_tensors(path)
    assert not target.exists()


def test_getattr_in_a_file_gets_nothing(tmp_path: Path) -> None:
    """``builtins.getattr`` is among the names that are passed over, so it must not do what it says."""
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(1), "method": "".join}, path)
    assert list(read_tensors(path)) == ["a"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.98])
def test_a_file_cut_short_says_so(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    tensors = {f"layer{i}.weight": torch.randn(50) for i in range(20)}
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="cut short or not") as error:
        read_tensors(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_other_files_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_tensors(tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match=r"cut short or not written by torch\.save"):
        read_tensors(tmp_path / "text.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_tensors(tmp_path / "empty.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_bytes_are_read_or_told_in_a_line(zipped: bool, tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"a": torch.ones(3), "b": torch.zeros(2)}}, tmp_path / "a", _use_new_zipfile_serialization=zipped
    )
    whole, rng = (tmp_path / "a").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "b").write_bytes(damaged)
        try:
            read_tensors(tmp_path / "b")
        except CheckpointError as error:
            refused += "\n" not in str(error)
    assert refused > 30
