import pytest

from lima_core.errors import ConfigError
from pipeline.hardware import resolve_device, resources


def test_cpu_is_cpu() -> None:
    assert resolve_device("cpu") == "cpu"


def test_auto_follows_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert resolve_device("auto") == "cpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cua", "--device: unknown device 'cua'; did you mean 'cuda'? known: auto, cpu, cuda"),
        ("cuda:x", "--device: unknown device 'cuda:x'; did you mean 'cuda'? known: auto, cpu, cuda"),
        ("cuda:2", "--device: 'cuda:2' is not there, torch sees 2 GPUs; use --device auto, and see lima doctor"),
    ],
)
def test_what_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str, line: str) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError) as caught:
        resolve_device(name)
    assert str(caught.value) == line


def test_auto_says_which_engine_it_took_and_a_named_one_is_taken_silently() -> None:
    said: list[str] = []
    assert resources("cpu", "auto", 0, said.append).engine == "native"
    assert said == ["sparse engine native on cpu: always taken on the CPU"]
    assert resources("cpu", "native", 0, said.append).engine == "native"
    assert len(said) == 1
