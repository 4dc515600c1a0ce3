"""Contract of every sparse engine: dense convolution is the oracle, forward and backward.

On the CPU spconv takes part where it is installed, though it is no engine there: on one thread it is right.
"""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lima_core.errors import ConfigError
from lima_core.sparse import ENGINES, Engine, engine_native, engine_spconv, resolve_engine
from lima_core.sparse.convolution import strided, submanifold, transposed
from lima_core.sparse.kernel_map import ConvShape, KernelMap
from lima_core.sparse.layers import HALVING
from lima_core.sparse.tensor import SparseTensor
from tests.lima_core.sparse.dense import at_voxels, cloud, cube, dense_weight, normal, to_dense, with_gradients

THREE = (3, 3, 3)
SIZE = 12
"""Voxels lie in [-6, 6) per axis, two samples."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.NAME)
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param is engine_spconv:
        pytest.importorskip("spconv", reason="package spconv is not installed")
    elif reason := request.param.missing("cpu"):
        pytest.skip(reason)
    return request.param


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.NAME)
def cuda_engine(request: pytest.FixtureRequest) -> Engine:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if reason := request.param.missing("cuda"):
        pytest.skip(reason)
    return request.param


def finest(engine: Engine, device: str = "cpu") -> torch.dtype:
    """float64, or float32 where the engine refuses that."""
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    itself = KernelMap(nothing, nothing, (0,), num_source=1, num_target=1, centre=0)
    try:
        engine.convolve(
            torch.ones(1, 4, dtype=torch.float64, device=device), torch.ones(1, 4, 4, device=device), itself
        )
    except ConfigError as error:
        assert "float64" in str(error)
        return torch.float32
    return torch.float64


def skip_if_too_fine(engine: Engine, dtype: torch.dtype) -> None:
    if dtype == torch.float64 and finest(engine) != dtype:
        pytest.skip(f"{engine.NAME} has no float64")


def check_against_dense(
    sparse: Callable[[Tensor, Tensor], Tensor],
    dense: Callable[[Tensor, Tensor], Tensor],
    features: Tensor,
    weight: Tensor,
) -> None:
    """Outputs and both gradients of the two functions agree, relative to the largest value."""
    results = [with_gradients(function, features, weight) for function in (sparse, dense)]
    for ours, theirs in zip(*results, strict=True):
        check_close(ours, theirs)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_submanifold_is_dense_convolution_read_at_the_voxels(engine: Engine, kernel: int, dtype: torch.dtype) -> None:
    skip_if_too_fine(engine, dtype)
    coords = cloud(300)
    check_against_dense(
        lambda f, w: submanifold(SparseTensor(f, coords), w, (kernel,) * 3, engine.NAME).features,
        lambda f, w: at_voxels(
            functional.conv3d(to_dense(f, coords, *cube(6)), dense_weight(w, (kernel,) * 3), padding=kernel // 2),
            coords,
            (-6,) * 3,
        ),
        normal(len(coords), 4, dtype=dtype),
        normal(kernel**3, 4, 5, dtype=dtype, seed=1),
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_down_is_dense_convolution_with_stride_2(engine: Engine, dtype: torch.dtype) -> None:
    skip_if_too_fine(engine, dtype)
    coords = cloud(300)
    check_against_dense(
        lambda f, w: strided(SparseTensor(f, coords), w, HALVING, engine.NAME).features,
        lambda f, w: at_voxels(
            functional.conv3d(to_dense(f, coords, *cube(6)), dense_weight(w, (2,) * 3), stride=2),
            coarse_of(coords),
            (-3,) * 3,
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
    skip_if_too_fine(engine, dtype)
    coords = cloud(300)
    coarse = coarse_of(coords)

    def sparse(features: Tensor, weight: Tensor) -> Tensor:
        below, _ = SparseTensor(torch.zeros(len(coords), 1, dtype=dtype), coords).coarser(HALVING)
        assert torch.equal(below.coords, coarse) and below.stride == (2, 2, 2)
        above = transposed(below.replace(features), weight, HALVING, engine.NAME)
        assert torch.equal(above.coords, coords) and above.stride == (1, 1, 1)
        return above.features

    def dense(features: Tensor, weight: Tensor) -> Tensor:
        as_transposed = dense_weight(weight, (2,) * 3).transpose(0, 1)
        return at_voxels(
            functional.conv_transpose3d(to_dense(features, coarse, *cube(3)), as_transposed, stride=2),
            coords,
            (-6,) * 3,
        )

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
    dtype = finest(engine)
    coords = cloud(300)
    coarse, weights, features = coarse_of(coords), net_weights(dtype), normal(len(coords), 3, dtype=dtype)
    dense_weights = [dense_weight(w, ((2 if len(w) == 8 else 3),) * 3) for w in weights]

    def masked(dense: Tensor, rows: Tensor, half: int) -> Tensor:
        return to_dense(at_voxels(dense, rows, cube(half)[0]), rows, *cube(half))

    fine = masked(
        functional.conv3d(to_dense(features, coords, *cube(6)), dense_weights[0], padding=1), coords, 6
    ).relu()
    below = masked(functional.conv3d(fine, dense_weights[1], stride=2), coarse, 3)
    below = masked(functional.conv3d(below, dense_weights[2], padding=1), coarse, 3).relu()
    back = masked(functional.conv_transpose3d(below, dense_weights[3].transpose(0, 1), stride=2), coords, 6)
    expected = at_voxels(functional.conv3d(torch.cat([back, fine], 1), dense_weights[4], padding=1), coords, (-6,) * 3)
    check_close(small_net(engine, SparseTensor(features, coords), weights), expected)


def check_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.dtype == theirs.dtype
    assert float((ours - theirs).abs().max()) <= TOLERANCE[ours.dtype] * max(1.0, float(theirs.abs().max()))


def test_gradients_of_a_small_u_net(engine: Engine) -> None:
    skip_if_too_fine(engine, torch.float64)
    coords = cloud(12)
    features = normal(len(coords), 3).requires_grad_()
    weights = [weight.requires_grad_() for weight in net_weights()]
    assert torch.autograd.gradcheck(
        lambda f, *w: small_net(engine, SparseTensor(f, coords), list(w)), (features, *weights), fast_mode=True
    )


def test_rows_may_come_in_any_order(engine: Engine) -> None:
    coords, dtype = cloud(200), finest(engine)
    shuffle = torch.randperm(len(coords), generator=torch.Generator().manual_seed(3))
    features, weights = normal(len(coords), 3, dtype=dtype), net_weights(dtype)
    straight = small_net(engine, SparseTensor(features, coords), weights)
    shuffled = small_net(engine, SparseTensor(features[shuffle], coords[shuffle]), weights)
    check_close(shuffled, straight[shuffle])


def test_samples_of_a_batch_do_not_meet(engine: Engine) -> None:
    coords, dtype = cloud(200), finest(engine)
    features, weights = normal(len(coords), 3, dtype=dtype), net_weights(dtype)
    together = small_net(engine, SparseTensor(features, coords), weights)
    for sample in (0, 1):
        rows = coords[:, 0] == sample
        alone = small_net(engine, SparseTensor(features[rows], coords[rows]), weights)
        check_close(together[rows], alone)


def test_even_shifts_of_the_whole_scan_change_nothing(engine: Engine) -> None:
    coords, dtype = cloud(200), finest(engine)
    shift = torch.tensor([0, 1000, -2000, 400], dtype=torch.int32)
    features, weights = normal(len(coords), 3, dtype=dtype), net_weights(dtype)
    results = [small_net(engine, SparseTensor(features, c), weights) for c in (coords, coords + shift)]
    assert torch.equal(*results)


@pytest.mark.parametrize("num", [0, 1])
def test_no_voxel_and_one_voxel(engine: Engine, num: int) -> None:
    coords = torch.tensor([[0, -3, 4, -1]], dtype=torch.int32)[:num]
    dtype = finest(engine)
    features, weights = normal(num, 3, dtype=dtype).requires_grad_(), [w.requires_grad_() for w in net_weights(dtype)]
    out = small_net(engine, SparseTensor(features, coords), weights)
    out.sum().backward()
    out = out.detach()
    assert out.shape == (num, 2) and features.grad.shape == (num, 3)
    if num == 1:  # only the centre weights, and the one fine-to-coarse weight of parity (1, 0, 1), ever act
        features, weights = features.detach(), [weight.detach() for weight in weights]
        hidden = (features @ weights[0][13]).relu()
        back = ((hidden @ weights[1][5]) @ weights[2][13]).relu() @ weights[3][5]
        check_close(out, torch.cat([back, hidden], 1) @ weights[4][13])


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


def some_maps(device: str = "cpu") -> dict[str, KernelMap]:
    """Every kind of map, among them one that takes as many voxels to as many, but not each to itself."""
    coords = cloud(300).to(device)
    coords[:, 1:] += 6
    seam = SparseTensor(torch.zeros(len(coords), 0, device=device), coords, wrap=(0, 12, 0))
    pair = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.int32, device=device)
    odd = SparseTensor(torch.zeros(2, 0, device=device), pair).coarser(ConvShape((3, 1, 1), (2, 1, 1)))[1]
    assert odd.num_source == odd.num_target and odd.counts[1] == 1
    alone = SparseTensor(torch.zeros(1, 0, device=device), pair[:1])
    overlapping = seam.coarser(ConvShape(THREE, (2, 2, 1), (1, 1, 1)))[1]
    return {
        "27 offsets": seam.neighbours(THREE),
        "125 offsets": seam.neighbours((5, 5, 5)),
        "halving": seam.coarser(HALVING)[1],
        "doubling": seam.coarser(HALVING)[1].inverse(),
        "overlapping": overlapping,
        "overlapping, back": overlapping.inverse(),
        "two to two": odd,
        "a voxel alone": alone.neighbours(THREE),
    }


def check_against_native(engine: Engine, pairs: KernelMap, channels: tuple[int, int], device: str = "cpu") -> None:
    dtype = finest(engine, device)
    features = normal(pairs.num_source, channels[0], dtype=dtype).to(device)
    weight = normal(len(pairs.counts), *channels, dtype=dtype, seed=1).to(device)
    check_against_dense(
        lambda f, w: engine.convolve(f, w, pairs), lambda f, w: engine_native.convolve(f, w, pairs), features, weight
    )


@pytest.mark.parametrize("kind", some_maps())
def test_every_kind_of_map_is_convolved_as_natively(engine: Engine, kind: str) -> None:
    check_against_native(engine, some_maps()[kind], (4, 5))


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [(4, 5), (4, 32), (16, 16), (32, 64), (96, 48)])
def test_every_kind_of_map_is_convolved_as_natively_on_cuda(cuda_engine: Engine, channels: tuple[int, int]) -> None:
    for pairs in some_maps("cuda").values():
        check_against_native(cuda_engine, pairs, channels, "cuda")


@pytest.mark.gpu
def test_cuda_agrees_with_cpu_and_autocast_works_there(cuda_engine: Engine) -> None:
    check_autocast(cuda_engine, "cuda")
    coords, dtype = cloud(300), finest(cuda_engine, "cuda")
    features, weights = normal(len(coords), 3, dtype=dtype), net_weights(dtype)
    here = small_net(engine_native, SparseTensor(features, coords), weights)
    there = small_net(cuda_engine, SparseTensor(features, coords).to("cuda"), [weight.to("cuda") for weight in weights])
    check_close(there.cpu(), here)


def test_spconv_on_the_cpu_is_refused_with_two_threads() -> None:
    pytest.importorskip("spconv", reason="package spconv is not installed")
    torch.set_num_threads(2)
    try:
        with pytest.raises(ConfigError, match=r"data race.*call torch\.set_num_threads\(1\)"):
            engine_spconv.convolve(torch.ones(1, 4), torch.ones(1, 4, 4), some_maps()["halving"])
    finally:
        torch.set_num_threads(1)


def test_up_needs_the_way_down(engine: Engine) -> None:
    coords = cloud(10)
    with pytest.raises(AssertionError, match="does not undo"):
        transposed(SparseTensor(normal(len(coords), 3), coords), normal(8, 3, 3), HALVING, engine.NAME)


def test_on_the_cpu_auto_is_the_native_engine() -> None:
    assert resolve_engine("auto", "cpu") == ("native", "always taken on the CPU")
    assert resolve_engine("native", "cpu")[0] == "native"


def test_on_a_gpu_auto_is_the_first_that_runs_there_and_says_why() -> None:
    absent = SimpleNamespace(NAME="absent", missing=lambda device: f"absent has no {device}")
    name, why = resolve_engine("auto", "cuda:1", (absent, engine_native))
    assert (name, why) == ("native", "the first of the list that runs here; not absent, absent has no cuda")
    name, _ = resolve_engine("auto", "cuda")
    assert name == next(engine.NAME for engine in ENGINES if not engine.missing("cuda"))


def test_an_engine_that_cannot_run_is_refused_with_its_remedy() -> None:
    absent = SimpleNamespace(NAME="absent", missing=lambda device: "package absent is not installed")
    with pytest.raises(ConfigError, match="package absent is not installed; or use engine 'auto'"):
        resolve_engine("absent", "cpu", (absent, *ENGINES))
    with pytest.raises(ConfigError, match=r"'spconv' cannot run here: .*data race.*native engine"):
        resolve_engine("spconv", "cpu")


def test_an_unknown_engine_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'native'"):
        resolve_engine("nativ", "cpu")
