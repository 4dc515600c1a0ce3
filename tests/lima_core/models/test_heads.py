import pytest
import torch
from pydantic import TypeAdapter

from lima_core.models.heads import HeadConfig, LinearHeadConfig, MlpHeadConfig, build_head

MEMBERS = [LinearHeadConfig(), MlpHeadConfig(hidden=7)]


@pytest.mark.parametrize("config", MEMBERS, ids=lambda config: config.name)
def test_heads_work_row_by_row_and_come_from_the_seed(config: HeadConfig) -> None:
    head = build_head(config, 5, 3, seed=1)
    rows = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    assert head(rows).shape == (6, 3) and head(rows[:0]).shape == (0, 3)
    assert torch.allclose(head(rows)[2:3], head(rows[2:3]), atol=1e-6)
    assert torch.equal(build_head(config, 5, 3, seed=1)(rows), head(rows))
    assert not torch.equal(build_head(config, 5, 3, seed=2)(rows), head(rows))
    assert TypeAdapter(HeadConfig).validate_json(config.model_dump_json()) == config


def test_parameter_counts() -> None:
    counts = [sum(p.numel() for p in build_head(config, 5, 3).parameters()) for config in MEMBERS]
    assert counts == [5 * 3 + 3, 5 * 7 + 7 + 7 * 3 + 3]
