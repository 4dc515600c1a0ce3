"""Contract of every sparse engine: dense convolution is the oracle, forward and backward."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lima_core.errors import ConfigError
from lima_core.sparse import ENGINES, Engine, resolve_engine
from lima_core.sparse.convolution import strided, submanifold, transposed
from lima_core.sparse.layers import HALVING
from lima_core.sparse.tensor import SparseTensor

THREE = (3, 3, 3)
SIZE = 12
"""Voxels lie in [-6, 6) per axis, two samples."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.NAME)
def engine(request: pytest.FixtureRequest) -> Engine:
    if reason := request.param.missing():
        pytest.skip(reason)
    return request.param


def cloud(num: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    rows = torch.cat([torch.randint(0, 2, (num, 1), generator=rng), torch.randint(-6, 6, (num, 3), generator=rng)], 1)
    rows = torch.unique(rows, dim=0)
    return rows[torch.randperm(len(rows), generator=rng)].int()


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def cells(coords: Tensor, half: int) -> tuple[Tensor, ...]:
    batch, x, y, z = coords.long().unbind(1)
    return batch, x + half, y + half, z + half


def to_dense(features: Tensor, coords: Tensor, half: int) -> Tensor:
    """(2, C, 2 half, 2 half, 2 half), zero where no voxel is; differentiable."""
    batch, x, y, z = cells(coords, half)
    dense = features.new_zeros(2, 2 * half, 2 * half, 2 * half, features.shape[1])
    return dense.index_put((batch, x, y, z), features).permute(0, 4, 1, 2, 3)


def at_voxels(dense: Tensor, coords: Tensor, half: int) -> Tensor:
    batch, x, y, z = cells(coords, half)
    return dense[batch, :, x, y, z]


def as_dense_weight(weight: Tensor, kernel: int) -> Tensor:
    """(C_out, C_in, k, k, k) of torch.nn.functional.conv3d from the documented (K, C_in, C_out)."""
    return weight.view(kernel, kernel, kernel, *weight.shape[1:]).permute(4, 3, 0, 1, 2)


def check_against_dense(
    sparse: Callable[[Tensor, Tensor], Tensor],
    dense: Callable[[Tensor, Tensor], Tensor],
    features: Tensor,
    weight: Tensor,
) -> None:
    """Outputs and both gradients of the two functions agree, relative to the largest value."""
    results = []
    for function in (sparse, dense):
        leaves = features.clone().requires_grad_(), weight.clone().requires_grad_()
        out = function(*leaves)
        out.backward(normal(*out.shape, dtype=out.dtype, seed=9))
        results.append((out.detach(), leaves[0].grad, leaves[1].grad))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        assert float((ours - theirs).abs().max()) <= TOLERANCE[features.dtype] * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_submanifold_is_dense_convolution_read_at_the_voxels(engine: Engine, kernel: int, dtype: torch.dtype) -> None:
    coords = cloud(300)
    check_against_dense(
        lambda f, w: submanifold(SparseTensor(f, coords), w, (kernel,) * 3, engine.NAME).features,
        lambda f, w: at_voxels(
            functional.conv3d(to_dense(f, coords, 6), as_dense_weight(w, kernel), padding=kernel // 2), coords, 6
        ),
        normal(len(coords), 4, dtype=dtype),
        normal(kernel**3, 4, 5, dtype=dtype, seed=1),
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_down_is_dense_convolution_with_stride_2(engine: Engine, dtype: torch.dtype) -> None:
    coords = cloud(300)
    check_against_dense(
        lambda f, w: strided(SparseTensor(f, coords), w, HALVING, engine.NAME).features,
        lambda f, w: at_voxels(
            functional.conv3d(to_dense(f, coords, 6), as_dense_weight(w, 2), stride=2), coarse_of(coords), 3
        ),
        normal(len(coords), 4, dtype=dtype),
        normal(8, 4, 5, dtype=dtype, seed=1),
    )


def coarse_of(coords: Tensor) -> Tensor:
    """Coarse voxels, sorted by batch, x, y, z."""
    rows = coords.clone()
    rows[:, 1:] = torch.div(coords[:, 1:], 2, rounding_mode="floor")
    return torch.unique(rows, dim=0)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_up_is_dense_transposed_convolution_read_at_the_fine_voxels(engine: Engine, dtype: torch.dtype) -> None:
    coords = cloud(300)
    coarse = coarse_of(coords)

    def sparse(features: Tensor, weight: Tensor) -> Tensor:
        below, _ = SparseTensor(torch.zeros(len(coords), 1, dtype=dtype), coords).coarser(HALVING)
        assert torch.equal(below.coords, coarse) and below.stride == (2, 2, 2)
        above = transposed(below.replace(features), weight, HALVING, engine.NAME)
        assert torch.equal(above.coords, coords) and above.stride == (1, 1, 1)
        return above.features

    def dense(features: Tensor, weight: Tensor) -> Tensor:
        as_transposed = as_dense_weight(weight, 2).transpose(0, 1)
        return at_voxels(functional.conv_transpose3d(to_dense(features, coarse, 3), as_transposed, stride=2), coords, 6)

    check_against_dense(sparse, dense, normal(len(coarse), 4, dtype=dtype), normal(8, 4, 5, dtype=dtype, seed=1))


def small_net(engine: Engine, x: SparseTensor, weights: list[Tensor]) -> Tensor:
    """A U-Net of two levels with a skip connection, without norms."""
    fine = submanifold(x, weights[0], THREE, engine.NAME)
    fine = fine.replace(fine.features.relu())
    coarse = submanifold(strided(fine, weights[1], HALVING, engine.NAME), weights[2], THREE, engine.NAME)
    back = transposed(coarse.replace(coarse.features.relu()), weights[3], HALVING, engine.NAME)
    return submanifold(
        back.replace(torch.cat([back.features, fine.features], 1)), weights[4], THREE, engine.NAME
    ).features


def net_weights(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = [(27, 3, 4), (8, 4, 5), (27, 5, 5), (8, 5, 4), (27, 8, 2)]
    return [0.3 * normal(*shape, dtype=dtype, seed=seed) for seed, shape in enumerate(shapes)]


def test_a_small_u_net_is_its_dense_masked_equivalent(engine: Engine) -> None:
    coords = cloud(300)
    coarse, weights, features = coarse_of(coords), net_weights(), normal(len(coords), 3)
    dense_weights = [as_dense_weight(w, 2 if len(w) == 8 else 3) for w in weights]

    def masked(dense: Tensor, rows: Tensor, half: int) -> Tensor:
        return to_dense(at_voxels(dense, rows, half), rows, half)

    fine = masked(functional.conv3d(to_dense(features, coords, 6), dense_weights[0], padding=1), coords, 6).relu()
    below = masked(functional.conv3d(fine, dense_weights[1], stride=2), coarse, 3)
    below = masked(functional.conv3d(below, dense_weights[2], padding=1), coarse, 3).relu()
    back = masked(functional.conv_transpose3d(below, dense_weights[3].transpose(0, 1), stride=2), coords, 6)
    expected = at_voxels(functional.conv3d(torch.cat([back, fine], 1), dense_weights[4], padding=1), coords, 6)
    torch.testing.assert_close(small_net(engine, SparseTensor(features, coords), weights), expected, rtol=0, atol=1e-10)


def test_gradients_of_a_small_u_net(engine: Engine) -> None:
    coords = cloud(12)
    features = normal(len(coords), 3).requires_grad_()
    weights = [weight.requires_grad_() for weight in net_weights()]
    assert torch.autograd.gradcheck(
        lambda f, *w: small_net(engine, SparseTensor(f, coords), list(w)), (features, *weights), fast_mode=True
    )


def test_rows_may_come_in_any_order(engine: Engine) -> None:
    coords = cloud(200)
    features, shuffle = normal(len(coords), 3), torch.randperm(len(coords), generator=torch.Generator().manual_seed(3))
    straight = small_net(engine, SparseTensor(features, coords), net_weights())
    shuffled = small_net(engine, SparseTensor(features[shuffle], coords[shuffle]), net_weights())
    torch.testing.assert_close(shuffled, straight[shuffle], rtol=0, atol=1e-12)


def test_samples_of_a_batch_do_not_meet(engine: Engine) -> None:
    coords = cloud(200)
    features = normal(len(coords), 3)
    together = small_net(engine, SparseTensor(features, coords), net_weights())
    for sample in (0, 1):
        rows = coords[:, 0] == sample
        alone = small_net(engine, SparseTensor(features[rows], coords[rows]), net_weights())
        torch.testing.assert_close(together[rows], alone, rtol=0, atol=1e-12)


def test_even_shifts_of_the_whole_scan_change_nothing(engine: Engine) -> None:
    coords = cloud(200)
    shift = torch.tensor([0, 1000, -2000, 400], dtype=torch.int32)
    results = [small_net(engine, SparseTensor(normal(len(c), 3), c), net_weights()) for c in (coords, coords + shift)]
    assert torch.equal(*results)


@pytest.mark.parametrize("num", [0, 1])
def test_no_voxel_and_one_voxel(engine: Engine, num: int) -> None:
    coords = torch.tensor([[0, -3, 4, -1]], dtype=torch.int32)[:num]
    features, weights = normal(num, 3).requires_grad_(), [w.requires_grad_() for w in net_weights()]
    out = small_net(engine, SparseTensor(features, coords), weights)
    out.sum().backward()
    assert out.shape == (num, 2) and features.grad.shape == (num, 3)
    if num == 1:  # only the centre weights, and the one fine-to-coarse weight of parity (1, 0, 1), ever act
        hidden = (features @ weights[0][13]).relu()
        back = ((hidden @ weights[1][5]) @ weights[2][13]).relu() @ weights[3][5]
        torch.testing.assert_close(out, torch.cat([back, hidden], 1) @ weights[4][13])


def test_same_input_gives_the_same_bits(engine: Engine) -> None:
    coords, runs = cloud(300), []
    for _ in range(3):
        features = normal(len(coords), 3, dtype=torch.float32).requires_grad_()
        weights = [weight.requires_grad_() for weight in net_weights(torch.float32)]
        out = small_net(engine, SparseTensor(features, coords), weights)
        out.square().sum().backward()
        runs.append([out.detach(), features.grad, *[weight.grad for weight in weights]])
    for again in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


def autocast_run(engine: Engine, *, enabled: bool, device: str = "cpu") -> list[Tensor]:
    coords = cloud(300).to(device)
    features = normal(len(coords), 3, dtype=torch.float32).to(device).requires_grad_()
    weights = [weight.to(device).requires_grad_() for weight in net_weights(torch.float32)]
    with torch.autocast(device, dtype=torch.bfloat16, enabled=enabled):
        out = small_net(engine, SparseTensor(features, coords), weights)
    assert out.dtype == (torch.bfloat16 if enabled else torch.float32)
    out.float().square().mean().backward()
    return [out.detach().float(), features.grad, *[weight.grad for weight in weights]]


def check_autocast(engine: Engine, device: str) -> None:
    runs = [autocast_run(engine, enabled=enabled, device=device) for enabled in (False, True)]
    for exact, rounded in zip(*runs, strict=True):
        assert exact.dtype == rounded.dtype == torch.float32
        assert float(functional.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0)) > 0.999
        assert float((exact - rounded).norm() / exact.norm()) < 0.03


def test_autocast_bf16_is_close_and_gradients_stay_float32(engine: Engine) -> None:
    check_autocast(engine, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_cpu_and_autocast_works_there(engine: Engine) -> None:
    check_autocast(engine, "cuda")
    coords, weights = cloud(300), net_weights()
    features = normal(len(coords), 3)
    here = small_net(engine, SparseTensor(features, coords), weights)
    there = small_net(engine, SparseTensor(features, coords).to("cuda"), [weight.cuda() for weight in weights])
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-10)


def test_up_needs_the_way_down(engine: Engine) -> None:
    coords = cloud(10)
    with pytest.raises(AssertionError, match="does not undo"):
        transposed(SparseTensor(normal(len(coords), 3), coords), normal(8, 3, 3), HALVING, engine.NAME)


def test_engines_resolve_by_name_and_auto_runs_here() -> None:
    assert resolve_engine("native") == "native"
    assert resolve_engine("auto") in [engine.NAME for engine in ENGINES if not engine.missing()]
    with pytest.raises(ConfigError, match="did you mean 'native'"):
        resolve_engine("nativ")


def test_an_engine_that_cannot_run_is_refused_with_its_remedy_and_skipped_by_auto() -> None:
    absent = SimpleNamespace(NAME="absent", missing=lambda: "package absent is not installed")
    assert resolve_engine("auto", (absent, *ENGINES)) == resolve_engine("auto")
    with pytest.raises(ConfigError, match="package absent is not installed; or use engine 'auto'"):
        resolve_engine("absent", (absent, *ENGINES))
