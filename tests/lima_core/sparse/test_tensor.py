import pytest
import torch

from lima_core.sparse.cache import Cache
from lima_core.sparse.tensor import SparseTensor, concatenate


def tensor(num: int = 3) -> SparseTensor:
    return SparseTensor(torch.ones(num, 2), torch.arange(4 * num, dtype=torch.int32).view(num, 4))


def test_shapes_and_dtypes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(2, 4\)"):
        SparseTensor(torch.ones(3, 2), torch.zeros(2, 4, dtype=torch.int32))
    with pytest.raises(ValueError, match="int32"):
        SparseTensor(torch.ones(3, 2), torch.zeros(3, 4))


def test_replace_shares_the_maps() -> None:
    x = tensor()
    y = x.replace(torch.zeros(3, 5))
    assert y.maps is x.maps and y.coords is x.coords and y.features.shape == (3, 5)


def test_concatenate_puts_the_first_channels_first_and_refuses_other_inputs() -> None:
    x = tensor()
    joined = concatenate(x, x.replace(torch.zeros(3, 1)))
    assert joined.features.tolist() == [[1, 1, 0]] * 3
    with pytest.raises(AssertionError):
        concatenate(x, tensor())


def test_cache_builds_once() -> None:
    cache, built = Cache(), []
    for _ in range(2):
        cache.get(("kind", 1), lambda: built.append(1))
    assert len(built) == 1
