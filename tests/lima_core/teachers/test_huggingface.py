from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pytest
import torch
import transformers
from pydantic import ValidationError
from torch import Tensor

from lima_core.errors import ConfigError, DataError
from lima_core.seeds import torch_rng
from lima_core.teachers import build_teacher
from lima_core.teachers.huggingface import IMAGENET_MEAN, IMAGENET_STD, HuggingFaceConfig, HuggingFaceTeacher

SHAPE = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
CONFIGS = {
    "dinov2": transformers.Dinov2Config(**SHAPE, patch_size=14, image_size=70),
    "dinov2-with-registers": transformers.Dinov2WithRegistersConfig(
        **SHAPE, patch_size=14, image_size=70, num_register_tokens=3
    ),
    "dinov3": transformers.DINOv3ViTConfig(**SHAPE, patch_size=16, intermediate_size=48, num_register_tokens=4),
    "vit": transformers.ViTConfig(**SHAPE, patch_size=16, image_size=64, intermediate_size=48),
}
PREFIX = {"dinov2": 1, "dinov2-with-registers": 4, "dinov3": 5, "vit": 1}
IMAGES = torch.rand(2, 3, 112, 224, generator=torch_rng(0, "images"))


@pytest.fixture(params=CONFIGS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A local folder of tiny weights; the network itself lies in ``network``."""
    path = tmp_path / request.param
    save_network(CONFIGS[request.param], path)
    yield path


def save_network(config: transformers.PretrainedConfig, path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = transformers.AutoModel.from_config(config)
        for parameter in network.parameters():  # norms away from identity, registers away from zero
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    network.save_pretrained(path)


def reference(folder: Path, mean: tuple[float, ...] = IMAGENET_MEAN) -> tuple[Tensor, Tensor, torch.nn.Module]:
    """What enters the final norm, what the model calls its last hidden state, and that norm."""
    network = transformers.AutoModel.from_pretrained(folder).eval()
    norm = network.norm if hasattr(network, "norm") else network.layernorm
    caught = []
    norm.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0].detach()))
    pixels = (IMAGES - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    asks = {"interpolate_pos_encoding": True} if folder.name == "vit" else {}
    with torch.no_grad():
        last = network(pixels, **asks).last_hidden_state
    return caught[0], last, norm


def test_tokens_are_what_enters_the_final_norm_without_prefix(folder: Path) -> None:
    teacher = HuggingFaceTeacher(HuggingFaceConfig(model=str(folder)))
    features = teacher.encode(IMAGES)
    before_norm, last, norm = reference(folder)
    assert teacher.num_prefix_tokens == PREFIX[folder.name]
    assert features.shape == (2, 112 // teacher.patch_px, 224 // teacher.patch_px, 24)
    patches = features.flatten(1, 2)
    torch.testing.assert_close(patches, before_norm[:, PREFIX[folder.name] :], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(norm(patches), last[:, PREFIX[folder.name] :], atol=1e-5, rtol=1e-5)
    assert (patches - last[:, PREFIX[folder.name] :]).abs().max() > 0.1


def test_rows_and_columns_of_the_grid_are_those_of_the_image(folder: Path) -> None:
    teacher = HuggingFaceTeacher(HuggingFaceConfig(model=str(folder)))
    changed = IMAGES.clone()
    row, column = 1, 5
    patch = teacher.patch_px
    changed[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 1
    difference = (teacher.encode(changed) - teacher.encode(IMAGES)).norm(dim=-1)[0]
    assert divmod(int(difference.argmax()), difference.shape[1]) == (row, column)


def test_runs_without_gradient_and_without_dropout(folder: Path) -> None:
    teacher = HuggingFaceTeacher(HuggingFaceConfig(model=str(folder)))
    features = teacher.encode(IMAGES)
    assert not features.requires_grad and not teacher.network.training
    assert torch.equal(features, teacher.encode(IMAGES))


def test_bf16_is_close(folder: Path) -> None:
    exact, rounded = (
        HuggingFaceTeacher(HuggingFaceConfig(model=str(folder), precision=p)).encode(IMAGES) for p in ("fp32", "bf16")
    )
    assert rounded.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=-1).min() > 0.99


def test_identity_names_the_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_network(CONFIGS["dinov2"], tmp_path / name / "net")
    first, same = (build_teacher(HuggingFaceConfig(model=str(tmp_path / n / "net"))).identity for n in "ab")
    assert first == same and "local folder" in first and str(tmp_path) not in first
    network = transformers.AutoModel.from_pretrained(tmp_path / "b" / "net")
    next(network.parameters()).data.add_(1e-3)
    network.save_pretrained(tmp_path / "b" / "net")
    assert build_teacher(HuggingFaceConfig(model=str(tmp_path / "b" / "net"))).identity != first


def test_preprocessor_file_decides_the_normalisation(tmp_path: Path) -> None:
    save_network(CONFIGS["dinov2"], tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}')
    teacher = HuggingFaceTeacher(HuggingFaceConfig(model=str(tmp_path)))
    torch.testing.assert_close(teacher.mean.flatten(), torch.tensor([0.5, 0.4, 0.3]))
    torch.testing.assert_close(teacher.std.flatten(), torch.tensor([0.2, 0.2, 0.1]))


@pytest.mark.parametrize("family", ["dinov2", "dinov2-with-registers", "dinov3"])
def test_random_weights_say_so_and_repeat(family: str) -> None:
    config = HuggingFaceConfig(random_init=True, architecture=f"{family}-tiny")
    before = torch.random.get_rng_state()
    one, two = build_teacher(config), build_teacher(config)
    assert torch.equal(before, torch.random.get_rng_state())
    assert "RANDOM WEIGHTS" in one.identity
    images = torch.rand(1, 3, one.patch_px * 2, one.patch_px * 3, generator=torch_rng(0, "y"))
    assert torch.equal(one.encode(images), two.encode(images))
    assert one.state() == {}


def test_threads_that_share_a_teacher_get_their_own_tokens() -> None:
    teacher = HuggingFaceTeacher(HuggingFaceConfig(random_init=True, architecture="dinov2-tiny"))
    batches = [torch.rand(1, 3, 56, 56, generator=torch_rng(i, "batch")) for i in range(2)]
    expected, meet = [teacher.encode(batch) for batch in batches], Barrier(2)

    def together(*_: object) -> None:
        with suppress(BrokenBarrierError):  # one at a time: the other does not come
            meet.wait(0.5)

    teacher.last_block.register_forward_pre_hook(together)
    with ThreadPoolExecutor(2) as pool:
        for found, wanted in zip(pool.map(teacher.encode, batches), expected, strict=True):
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("values", [{"random_init": True}, {"architecture": "dinov2-small"}])
def test_random_init_and_architecture_go_together(values: dict) -> None:
    with pytest.raises(ValidationError, match="go together"):
        HuggingFaceConfig(**values)


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no usable weights") as raised:
        build_teacher(HuggingFaceConfig(model=str(tmp_path / "nowhere")))
    assert "\n" not in str(raised.value) and "filterbank" in str(raised.value)


def test_name_on_the_hub_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="nobody/no-such-model") as raised:
        build_teacher(HuggingFaceConfig(model="nobody/no-such-model"))
    assert "\n" not in str(raised.value)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    save_network(CONFIGS["dinov2"], tmp_path)
    network = transformers.AutoModel.from_pretrained(tmp_path)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match="safetensors"):
        build_teacher(HuggingFaceConfig(model=str(tmp_path)))


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    save_network(CONFIGS["dinov2"], tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="no usable weights"):
        build_teacher(HuggingFaceConfig(model=str(tmp_path)))


def test_weights_of_another_depth_are_refused(tmp_path: Path) -> None:
    save_network(CONFIGS["dinov2"], tmp_path)
    text = (tmp_path / "config.json").read_text().replace('"num_hidden_layers": 3', '"num_hidden_layers": 4')
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataError, match="weights lack"):
        build_teacher(HuggingFaceConfig(model=str(tmp_path)))


def test_network_that_is_no_vision_transformer_is_refused(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="resnet"):
        build_teacher(HuggingFaceConfig(model=str(tmp_path)))
