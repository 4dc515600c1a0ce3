"""A peer is the same network as ours: with our weights it returns what ours returns."""

import importlib
from types import ModuleType

import pytest
import torch
from torch import Tensor

from benchmarks.peers import spconv_minkunet, spconv_repaired, torchsparse_minkunet
from benchmarks.peers.unet import PeerUNet, copy_weights
from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse import engine_spconv
from lima_core.sparse.tensor import SparseTensor

SMALL = MinkUNetConfig(
    stem=4, encoder_widths=(4, 6), encoder_blocks=(1, 2), decoder_widths=(6, 5), decoder_blocks=(1, 1)
)
PEERS = (spconv_minkunet, spconv_repaired, torchsparse_minkunet)


@pytest.fixture(params=PEERS, ids=lambda peer: peer.NAME)
def peer(request: pytest.FixtureRequest) -> ModuleType:
    if reason := request.param.missing("cpu"):
        pytest.skip(reason)
    return request.param


def scan() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    rows = torch.cat([torch.randint(0, 2, (300, 1), generator=rng), torch.randint(-9, 9, (300, 3), generator=rng)], 1)
    coords = torch.unique(rows, dim=0)
    coords = coords[torch.randperm(len(coords), generator=rng)].int()
    return coords, torch.randn(len(coords), 4, generator=rng)


def test_with_our_weights_a_peer_returns_what_we_return(peer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    coords, features = scan()
    ours = build_backbone(SMALL, in_channels=4).train()

    def with_our_weights(*args: object) -> PeerUNet:
        network = PeerUNet(*args)
        copy_weights(ours, network)
        return network

    module = importlib.import_module(peer.training_pass.__module__)
    for owner in {module, spconv_minkunet}:
        monkeypatch.setattr(owner, "PeerUNet", with_our_weights, raising=False)
    theirs = peer.training_pass(coords, features, SMALL)()
    expected = ours(SparseTensor(features, coords)).features.detach()
    torch.testing.assert_close(theirs, expected, rtol=1e-4, atol=1e-5)


def test_a_setting_ends_when_what_ran_with_it_fails() -> None:
    owner = ModuleType("owner")
    owner.name = before = object()
    with pytest.raises(ZeroDivisionError), engine_spconv.setting(owner, "name", "another"):
        assert owner.name == "another"
        raise ZeroDivisionError
    assert owner.name is before


def test_no_cell_is_negative_and_the_grid_is_of_whole_coarse_cells() -> None:
    coords = torch.tensor([[0, -9, 3, 16], [1, 7, 4, 31]], dtype=torch.int32)
    moved, size = spconv_minkunet.from_zero(coords, 16)
    assert moved.tolist() == [[0, 7, 3, 0], [1, 23, 4, 15]] and size == [32, 16, 16]
