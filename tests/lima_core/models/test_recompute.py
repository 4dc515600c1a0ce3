"""Activations computed twice: the same bits, statistics moved once, and less kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lima_core.errors import ConfigError
from lima_core.models.minkunet import MinkUNet, MinkUNetConfig, build_minkunet
from lima_core.models.recompute import recompute_activations
from lima_core.sparse.tensor import SparseTensor
from lima_core.training.distributed import synchronise_norms
from tests.lima_core.training.processes import together

TINY = MinkUNetConfig(
    stem=4, encoder_widths=(4, 8), encoder_blocks=(2, 2), decoder_widths=(8, 6), decoder_blocks=(2, 1)
)


def scan(num: int = 300, seed: int = 0) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(0, 12, (num, 3), generator=generator, dtype=torch.int32).unique(dim=0)
    coords = torch.nn.functional.pad(coords, (1, 0))
    return SparseTensor(torch.randn(len(coords), 4, generator=generator), coords)


def two_steps(net: MinkUNet, precision: torch.dtype | None) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """State after two training steps, the last gradients, and bytes that autograd kept of the second."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(2):
        kept.clear()
        optimiser.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
                out = net(scan()).features
            loss = out.float().square().mean()
        loss.backward()
        optimiser.step()
    return dict(net.state_dict()), {name: p.grad for name, p in net.named_parameters()}, sum(kept.values())


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_same_bits_and_less_memory(precision: torch.dtype | None) -> None:
    plain, twice = build_minkunet(TINY, 4, "native", 0), build_minkunet(TINY, 4, "native", 0)
    recompute_activations(twice)
    state, gradients, kept = two_steps(plain, precision)
    state_twice, gradients_twice, kept_twice = two_steps(twice, precision)
    assert all(torch.equal(state[name], state_twice[name]) for name in state)
    assert all(torch.equal(gradients[name], gradients_twice[name]) for name in gradients)
    assert state["stem.0.1.norm.num_batches_tracked"] == 2
    assert kept_twice < 0.6 * kept


def gradients(net: MinkUNet, scans: list[int]) -> dict[str, np.ndarray]:
    """Of the sum of squares of the output for these scans, in float64, and the state afterwards."""
    parts = [scan(200 + 50 * seed, seed) for seed in scans]
    coords = torch.cat([part.coords + torch.tensor([i, 0, 0, 0]).int() for i, part in enumerate(parts)])
    x = SparseTensor(torch.cat([part.features for part in parts]).double(), coords)
    net.double()(x).features.square().sum().backward()
    found = {name: parameter.grad for name, parameter in net.named_parameters()}
    return {name: value.detach().numpy() for name, value in (found | net.state_dict(prefix="state.")).items()}


def one_of_two(rank: int, size: int) -> list[dict[str, np.ndarray]]:
    found = []
    for twice in (False, True):
        net = build_minkunet(TINY, 4, "native", 0)
        synchronise_norms(net, True)
        if twice:
            recompute_activations(net)
        found.append(gradients(net, [rank]))
    return found


def test_two_processes_with_synchronised_norms_are_one_with_both_scans(tmp_path: Path) -> None:
    (first, first_twice), (second, second_twice) = together(one_of_two, 2, tmp_path / "meet")
    expected = gradients(build_minkunet(TINY, 4, "native", 0), [0, 1])
    for name, value in expected.items():
        whole = first[name] if name.startswith("state.") else first[name] + second[name]
        assert np.allclose(whole, value, rtol=1e-7, atol=1e-9 * np.abs(value).max()), name
        assert np.array_equal(first_twice[name], first[name]) and np.array_equal(second_twice[name], second[name]), name


def test_a_network_that_cannot_is_told() -> None:
    with pytest.raises(ConfigError, match=r"Linear cannot compute its activations again; leave out"):
        recompute_activations(nn.Linear(2, 2))
