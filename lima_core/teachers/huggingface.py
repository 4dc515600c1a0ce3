"""Any Vision Transformer of the Hugging Face format as a teacher: DINOv2, DINOv2 with registers, DINOv3, ViT.

The features are the tokens of the last block BEFORE the final norm, CLS and register tokens dropped, as ScaLR reads
them (valeoai/ScaLR, models/image_teacher.py). They are taken with a hook on the last block, because
``hidden_states[-1]`` is normed or not depending on the model and the version of transformers. That library takes
seconds to import, so it is imported only where a network is built.
"""

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import model_validator
from safetensors import SafetensorError
from torch import Tensor, nn

from lima_core.errors import ConfigError, DataError
from lima_core.seeds import derive
from lima_core.types import Config

if TYPE_CHECKING:
    from transformers import PretrainedConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Architecture = Literal[
    "dinov2-tiny",
    "dinov2-small",
    "dinov2-base",
    "dinov2-large",
    "dinov2-with-registers-tiny",
    "dinov2-with-registers-small",
    "dinov2-with-registers-base",
    "dinov2-with-registers-large",
    "dinov3-tiny",
    "dinov3-small",
    "dinov3-base",
    "dinov3-large",
]
"""Shapes that need no download; ``tiny`` is ours, for tests."""


SHAPES = {"tiny": (32, 2, 2), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, depth, heads."""


class HuggingFaceConfig(Config):
    """A pretrained network, or the same code with random weights (which teach nothing and say so)."""

    name: Literal["huggingface"] = "huggingface"
    model: str = "facebook/dinov2-small"
    """Name on the Hugging Face hub, or a local folder with config.json and model.safetensors."""
    revision: str = "main"
    """Branch, tag or commit on the hub."""
    precision: Literal["fp32", "bf16"] = "fp32"
    random_init: bool = False
    architecture: Architecture | None = None
    """With ``random_init`` only: the network's shape."""

    @model_validator(mode="after")
    def _architecture_goes_with_random_init(self) -> "HuggingFaceConfig":
        if self.random_init != (self.architecture is not None):
            raise ValueError("random_init: true and architecture go together; without them, model names the weights")
        return self


class HuggingFaceTeacher:
    """The teacher; see the module's docstring."""

    def __init__(self, config: HuggingFaceConfig, device: str = "cpu") -> None:
        """Loads the network.

        Raises:
            DataError: the weights cannot be found or read, or are not safetensors.
            ConfigError: the network is not a Vision Transformer this file understands.
        """
        self.config, self.device = config, torch.device(device)
        network = _random_network(config.architecture) if config.architecture else _pretrained_network(config)
        _check_is_vit(network)
        self.identity = _identity(config, network)
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        self.network = network.to(device=self.device, dtype=dtype).eval().requires_grad_(False)
        self.channels, self.patch_px = network.config.hidden_size, network.config.patch_size
        self.num_prefix_tokens = _num_prefix_tokens(network)
        self.last_block = _last_block(network)
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if config.random_init else _normalisation(config)
        self.mean = torch.tensor(mean, device=self.device)[:, None, None]
        self.std = torch.tensor(std, device=self.device)[:, None, None]
        # ViT interpolates its position embedding only when asked; DINOv2 always does; DINOv3 has none.
        asks = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
        self.arguments: dict[str, bool] = {"interpolate_pos_encoding": True} if asks else {}
        self._alone = Lock()
        """Threads of a worker share the teacher, and the hook of one would catch what another encodes."""

    def fit(self, images: Sequence[Tensor]) -> None:
        """Nothing: the network is pretrained; the images are not looked at."""

    def state(self) -> dict[str, Tensor]:
        """Nothing was fitted."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing was fitted."""
        assert not state, sorted(state)

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Patch tokens (B, h, w, C) float32 of images (B, 3, H, W) float32 RGB in [0, 1]."""
        height, width = images.shape[-2:]
        assert height % self.patch_px == 0 and width % self.patch_px == 0, (height, width)
        pixels = (images.to(self.device) - self.mean) / self.std
        tokens = self._last_tokens(pixels.to(next(self.network.parameters()).dtype)).float()
        grid = (height // self.patch_px, width // self.patch_px)
        assert tokens.shape[1] == self.num_prefix_tokens + grid[0] * grid[1], tuple(tokens.shape)
        return tokens[:, self.num_prefix_tokens :].unflatten(1, grid)

    def _last_tokens(self, pixels: Tensor) -> Tensor:
        """Output of the last block, (B, prefix + h * w, C)."""
        caught: list[Tensor] = []

        def catch(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            caught.append(output[0] if isinstance(output, tuple) else output)

        with self._alone:
            hook = self.last_block.register_forward_hook(catch)
            try:
                self.network(pixel_values=pixels, **self.arguments)
            finally:
                hook.remove()
        (tokens,) = caught
        return tokens


def _pretrained_network(config: HuggingFaceConfig) -> nn.Module:
    """The network with its weights; pickled weights are refused, so nothing that is downloaded is executed."""
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    where = f"teacher.model {config.model!r}"
    transformers_logging.disable_progress_bar()
    try:
        network, report = AutoModel.from_pretrained(
            config.model,
            revision=config.revision,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataError(
            f"no usable weights: {_first_line(error)}",
            where=where,
            remedy="give a local folder with config.json and model.safetensors, check the name and the network, "
            "or use teacher.name: filterbank, which needs no weights",
        ) from error
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise DataError(f"weights lack {len(missing)} tensors, the first is {missing[0]}", where=where)
    return network


def _random_network(architecture: Architecture) -> nn.Module:
    """The network with weights from a fixed seed; leaves the global generator as it was."""
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(0, "random-teacher", architecture))
        return AutoModel.from_config(_shape(architecture))


def _shape(architecture: Architecture) -> "PretrainedConfig":
    """Widths of the published models (tiny is ours)."""
    from transformers import Dinov2Config, Dinov2WithRegistersConfig, DINOv3ViTConfig

    family, size = architecture.rsplit("-", 1)
    width, depth, heads = SHAPES[size]
    shape = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
    if family == "dinov3":
        return DINOv3ViTConfig(**shape, intermediate_size=4 * width, patch_size=16, num_register_tokens=4)
    if family == "dinov2":
        return Dinov2Config(**shape, patch_size=14, image_size=518)
    return Dinov2WithRegistersConfig(**shape, patch_size=14, image_size=518, num_register_tokens=4)


def _identity(config: HuggingFaceConfig, network: nn.Module) -> str:
    """Names the network and its weights: their digest, so that two weights of one name are two teachers."""
    kind = type(network).__name__
    suffix = "" if config.precision == "fp32" else f", {config.precision}"
    if config.random_init:
        return f"huggingface {config.architecture} RANDOM WEIGHTS, teaches nothing ({kind}{suffix})"
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    name = "local folder" if Path(config.model).is_dir() else config.model
    return f"huggingface {name} ({kind}, weights {digest.hexdigest()[:12]}{suffix})"


def _normalisation(config: HuggingFaceConfig) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation that the model's preprocessor file states; ImageNet's where it has none."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        values, _ = ImageProcessingMixin.get_image_processor_dict(config.model, revision=config.revision)
    except OSError:
        return IMAGENET_MEAN, IMAGENET_STD
    return values.get("image_mean", IMAGENET_MEAN), values.get("image_std", IMAGENET_STD)


def _check_is_vit(network: nn.Module) -> None:
    """Raises ConfigError where the network's config lacks a number that every Vision Transformer has."""
    for name in ("hidden_size", "num_hidden_layers", "patch_size"):
        value = getattr(network.config, name, None)
        if not isinstance(value, int):
            raise ConfigError(
                f"{network.config.model_type} is not a Vision Transformer that can teach: its {name} is {value}",
                where="teacher.model",
                remedy="DINOv2, DINOv2 with registers, DINOv3 and ViT can",
            )


def _num_prefix_tokens(network: nn.Module) -> int:
    """Tokens before the patches: CLS where the model has one, and its registers."""
    has_cls = any(name.split(".")[-1] == "cls_token" for name, _ in network.named_parameters())
    return int(has_cls) + getattr(network.config, "num_register_tokens", 0)


def _last_block(network: nn.Module) -> nn.Module:
    """The last of the network's blocks: the one list of modules as long as the network is deep."""
    depth = network.config.num_hidden_layers
    lists = [m for m in network.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not lists:
        raise ConfigError(f"{type(network).__name__} has no list of {depth} blocks", where="teacher.model")
    return lists[0][-1]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
