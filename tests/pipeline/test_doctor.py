from pathlib import Path

import pytest

from pipeline import doctor
from pipeline.doctor_engines import engine_lines


def test_the_tested_versions_are_the_pins_of_pyproject() -> None:
    pins = doctor.tested_versions()
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert len(pins) > 10
    assert all(f'"{name}=={version}"' in text for name, version in pins.items())


def test_a_missing_package_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "package_version", lambda name: None if name == "zarr" else "0.0+cpu")
    lines, healthy = doctor.report(tmp_path, {})
    (zarr,) = [line for line in lines if line.startswith("zarr")]
    assert zarr.endswith(f"missing   <- pip install zarr=={doctor.tested_versions()['zarr']}")
    (numpy,) = [line for line in lines if line.startswith("numpy")]
    assert numpy.endswith(f"0.0+cpu   <- tested: {doctor.tested_versions()['numpy']}")
    assert not healthy


def test_a_gpu_that_this_torch_cannot_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "gpus", lambda: ["NVIDIA X, 80 GiB"])
    monkeypatch.setattr(doctor, "package_version", lambda name: "1.0+cpu")
    lines, _ = doctor.report(tmp_path, {})
    assert any(line.startswith("gpu") and "install a CUDA build" in line for line in lines)
    assert any(line.split() == ["device", "auto", "cpu"] for line in lines)


def test_the_hub_state_is_told(tmp_path: Path) -> None:
    (tmp_path / "hub" / "models--facebook--dinov2-small").mkdir(parents=True)
    lines, _ = doctor.report(tmp_path, {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    assert any(line.startswith("model hub") and "offline (HF_HUB_OFFLINE)" in line for line in lines)
    assert any(line.startswith("models here") and "facebook/dinov2-small" in line for line in lines)


def told(cuda: bool, **versions: str) -> dict[str, tuple[str, str]]:
    """What is said of every engine where these distributions are installed, dashes written as underscores."""
    installed = {name.replace("_", "-"): version for name, version in versions.items()}
    return {name: (value, note) for name, value, note in engine_lines(cuda, installed.get)}


def test_without_packages_the_engine_is_native_and_the_others_say_how_to_get_them() -> None:
    lines = told(True)
    assert lines["engine auto"] == ("native", "")
    assert lines["engine spconv"] == ("not installed", "optional, for a GPU: pip install 'lima-lidar[spconv]'")
    assert "docs/engines.md" in lines["engine torchsparse"][1]


def test_the_race_of_spconv_on_the_cpu_is_told() -> None:
    lines = told(False, spconv="2.3.8", cumm="0.7.11")
    assert lines["engine auto"] == ("native", "")
    assert lines["engine spconv"][0] == "spconv 2.3.8" and "one thread only" in lines["engine spconv"][1]
    assert told(True, spconv="2.3.8")["engine auto"] == ("native", "")


def test_spconv_triton_is_auto_on_a_gpu_with_triton_only() -> None:
    assert told(True, spconv_triton="1.0.0", triton="3.9.0")["engine auto"] == ("spconv", "")
    assert "triton is missing" in told(True, spconv_triton="1.0.0")["engine spconv"][1]
    assert told(False, spconv_triton="1.0.0", triton="3.9.0")["engine auto"] == ("native", "")


def test_a_cuda_build_of_spconv_is_auto_on_a_gpu() -> None:
    assert told(True, spconv_cu126="2.3.8")["engine auto"] == ("spconv", "")


def test_torchsparse_is_auto_on_a_gpu_from_2_1() -> None:
    assert told(True, torchsparse="2.1.0")["engine auto"] == ("torchsparse", "")
    assert told(True, torchsparse="2.0.0b0")["engine auto"] == ("native", "")
    assert told(False, torchsparse="2.1.0")["engine auto"] == ("native", "")
