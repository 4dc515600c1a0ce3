import torch

from lima_core.sparse.engine_torchsparse import TILE, tile_rows


def test_rows_are_turned_and_filled_up_to_whole_tiles() -> None:
    rows = torch.arange(3 * (TILE + 2), dtype=torch.int32).view(3, -1)
    tiled = tile_rows(rows)
    assert tiled.shape == (2 * TILE, 3) and tiled.is_contiguous()
    assert torch.equal(tiled[: TILE + 2], rows.T)
    assert bool((tiled[TILE + 2 :] == -1).all())
    assert tile_rows(rows[:, :TILE]).shape == (TILE, 3)
