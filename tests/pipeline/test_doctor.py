from pathlib import Path

import pytest

from pipeline import doctor


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
