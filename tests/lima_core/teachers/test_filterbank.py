import math

import pytest
import torch
from pydantic import ValidationError

from lima_core.seeds import torch_rng
from lima_core.teachers.filterbank import NOISE_ENERGY, Filterbank, FilterbankConfig


def noise_images(num: int, height: int = 32, width: int = 48) -> torch.Tensor:
    """Smooth and rough colour noise, (num, 3, height, width) in [0, 1]."""
    rough = torch.rand(num, 3, height, width, generator=torch_rng(0, "rough"))
    smooth = torch.nn.functional.interpolate(rough[:, :, ::8, ::8], size=(height, width), mode="bilinear")
    return 0.3 * rough + 0.7 * smooth


def stripes(angle_deg: float, wavelength_px: float = 4.0, size: int = 64) -> torch.Tensor:
    """(1, 3, size, size) grey sine grating; its waves travel along ``angle_deg`` (0: along x)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    angle = math.radians(angle_deg)
    wave = torch.sin((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / wavelength_px))
    return (0.5 + 0.2 * wave).expand(1, 3, size, size)


@pytest.fixture
def teacher() -> Filterbank:
    teacher = Filterbank(FilterbankConfig(channels=16))
    teacher.fit(list(noise_images(6)))
    return teacher


def test_says_what_it_is(teacher: Filterbank) -> None:
    assert "fixed filters, not a learned network" in teacher.identity


@pytest.mark.parametrize("patch_px", [4, 8, 16])
def test_grid_of_images_that_are_not_square(patch_px: int) -> None:
    teacher = Filterbank(FilterbankConfig(patch_px=patch_px, channels=5))
    images = noise_images(2, 32, 80)
    teacher.fit(list(images))
    features = teacher.encode(images)
    assert features.shape == (2, 32 // patch_px, 80 // patch_px, 5) and features.dtype == torch.float32


def test_whitening_of_the_fitted_sample(teacher: Filterbank) -> None:
    rows = teacher.encode(noise_images(6)).flatten(0, 2).double()
    assert rows.mean(0).abs().max() < 1e-4
    covariance = rows.T @ rows / len(rows)
    variance = covariance.diagonal()
    assert ((variance > 0) & (variance < 1)).all() and (variance.diff() < 1e-6).all()
    assert (covariance - variance.diag()).abs().max() < 1e-3


def test_full_whitening_has_unit_variance() -> None:
    teacher = Filterbank(FilterbankConfig(channels=8, softening=0.0))
    teacher.fit(list(noise_images(6)))
    rows = teacher.encode(noise_images(6)).flatten(0, 2).double()
    torch.testing.assert_close(rows.T @ rows / len(rows), torch.eye(8, dtype=torch.float64), atol=1e-2, rtol=0)


def test_same_images_same_bits(teacher: Filterbank) -> None:
    again = Filterbank(FilterbankConfig(channels=16))
    again.fit(list(noise_images(6)))
    assert torch.equal(teacher.encode(noise_images(2)), again.encode(noise_images(2)))


def test_state_carries_the_basis(teacher: Filterbank) -> None:
    other = Filterbank(FilterbankConfig(channels=16))
    other.load_state({name: value.clone() for name, value in teacher.state().items()})
    assert torch.equal(teacher.encode(noise_images(2)), other.encode(noise_images(2)))
    assert teacher.basis is not None and teacher.basis.is_contiguous()


@pytest.mark.parametrize(("angle_deg", "orientation"), [(0, 0), (30, 1), (60, 2), (90, 3), (120, 4), (150, 5)])
def test_stripes_answer_at_their_own_orientation_and_octave(angle_deg: float, orientation: int) -> None:
    teacher = Filterbank(FilterbankConfig())
    for octave in range(2):
        measured = teacher.measure(stripes(angle_deg, 4.0 * 2**octave))[0, 3, 3]
        energies = measured[6:27].reshape(3, 7)[:, :6]
        assert int(energies[octave].argmax()) == orientation
        assert int(energies[:, orientation].argmax()) == octave


def test_energy_does_not_see_where_the_stripes_begin() -> None:
    teacher = Filterbank(FilterbankConfig())
    image = stripes(0, 4.0)
    first, shifted = (teacher.measure(x)[0, 3, 3, 6:12] for x in (image, image.roll(1, dims=3)))
    torch.testing.assert_close(first[0], shifted[0], atol=0.1, rtol=0)  # one phase alone: above 5


def test_constant_image_has_colour_and_no_energy() -> None:
    teacher = Filterbank(FilterbankConfig())
    image = torch.tensor([0.6, 0.3, 0.3])[:, None, None].expand(1, 3, 32, 32)
    measured = teacher.measure(image)[0, 1, 1]
    light = 0.4 + 0.1
    torch.testing.assert_close(measured[:3], torch.tensor([0.4, 0.3 / light, -0.15 / light]), atol=1e-5, rtol=0)
    torch.testing.assert_close(measured[6:27], torch.full((21,), math.log(NOISE_ENERGY)), atol=1e-2, rtol=0)


def test_tells_red_from_green_and_rough_from_smooth() -> None:
    colours = torch.rand(8, 3, 1, 1, generator=torch_rng(0, "colours")).expand(8, 3, 32, 48)
    teacher = Filterbank(FilterbankConfig(channels=16))
    teacher.fit([*colours, *noise_images(6)])
    red = torch.tensor([0.6, 0.2, 0.2])[:, None, None].expand(3, 32, 32)
    green = torch.tensor([0.2, 0.6, 0.2])[:, None, None].expand(3, 32, 32)
    rough = red + 0.2 * (torch.rand(1, 32, 32, generator=torch_rng(0, "x")) - 0.5)
    features = torch.nn.functional.normalize(teacher.encode(torch.stack([red, green, rough])).flatten(1, 2), dim=2)
    within = (features[:, 0] * features[:, 5]).sum(1)
    between = torch.stack([(features[0] * features[k]).sum(1).mean() for k in (1, 2)])
    assert within.min() > between.max() + 0.2


def test_does_not_know_where_a_patch_lies(teacher: Filterbank) -> None:
    tile = noise_images(1, 8, 8)
    features = teacher.encode(tile.repeat(1, 1, 12, 12))[0]
    inner = features[5:7, 5:7].reshape(4, -1)
    torch.testing.assert_close(inner, inner[:1].expand(4, -1), atol=1e-3, rtol=1e-3)


def test_refuses_a_patch_that_octaves_do_not_divide() -> None:
    with pytest.raises(ValidationError, match="patch_px"):
        FilterbankConfig(patch_px=14)


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(teacher: Filterbank) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    other = Filterbank(FilterbankConfig(channels=16), "cuda")
    other.load_state(teacher.state())
    torch.testing.assert_close(other.encode(noise_images(2)).cpu(), teacher.encode(noise_images(2)), atol=1e-3, rtol=0)
