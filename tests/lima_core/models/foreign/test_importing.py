"""Weights of other projects: every dialect against a dense network of its own, and back again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lima_core.errors import CheckpointError, ConfigError
from lima_core.models import build_backbone
from lima_core.models.foreign.exporting import find_dialect, in_dialect
from lima_core.models.foreign.importing import Imported, import_file
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse.tensor import SparseTensor
from tests.lima_core.models.foreign.peers import DECODER, DEPTH, ENCODER, PEERS, STEM, Network, scan


@pytest.fixture(params=sorted(PEERS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def saved(tensors: dict[str, Tensor], path: Path) -> Path:
    """A file as its project writes it: the containers of the first words are dicts."""
    nested: dict = {"epoch": 3, "meta": {"seed": 1, "note": "text"}}
    for name, tensor in tensors.items():
        container, _, rest = name.partition(".")
        nested.setdefault(container, {})[rest] = tensor
    torch.save(nested, path)
    return path


def outputs(imported: Imported, features: Tensor, coords: Tensor) -> Tensor:
    """(V, C) float64 of the imported backbone on the occupied cells."""
    network = build_backbone(imported.config, 4)
    network.load_state_dict(imported.backbone)
    rows = torch.cat([torch.zeros(len(coords), 1, dtype=torch.int64), coords], 1).int()
    inputs = torch.full((len(coords), 4), 9.0, dtype=torch.float64)
    inputs[:, -len(features) :] = features[:, coords[:, 0], coords[:, 1], coords[:, 2]].T
    with torch.no_grad():
        return network.double().eval()(SparseTensor(inputs, rows)).features


def test_imported_network_computes_what_the_dense_one_does(name: str, tmp_path: Path) -> None:
    theirs = Network(PEERS[name])
    imported = import_file(saved(theirs.tensors, tmp_path / "model.pth"))
    features, occupied, coords = scan(PEERS[name].in_channels)
    wanted = theirs(features, occupied)[:, coords[:, 0], coords[:, 1], coords[:, 2]].T
    found = outputs(imported, features, coords)
    assert float(wanted.std()) > 0.05
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)
    weight, bias = (tensor.double() for tensor in imported.head)
    torch.testing.assert_close(found @ weight.T + bias, theirs.head(wanted), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mmdet3d-spconv", "pointcept"])
def test_spconv_1_keeps_its_axes_elsewhere(name: str, tmp_path: Path) -> None:
    theirs = Network(PEERS[name], library="spconv1")
    imported = import_file(saved(theirs.tensors, tmp_path / "model.pth"))
    features, occupied, coords = scan(4)
    wanted = theirs(features, occupied)[:, coords[:, 0], coords[:, 1], coords[:, 2]].T
    torch.testing.assert_close(outputs(imported, features, coords), wanted, rtol=1e-9, atol=1e-10)
    assert imported.layout == "spconv1"


def test_sizes_are_read_off_the_tensors(name: str, tmp_path: Path) -> None:
    peer = PEERS[name]
    imported = import_file(saved(Network(peer).tensors, tmp_path / "model.pth"))
    assert imported.config == MinkUNetConfig(
        inputs=(3,) if peer.in_channels == 1 else None,
        stem=STEM,
        stem_kernels=tuple(kernel for *_, kernel in peer.stem),
        encoder_widths=ENCODER,
        encoder_blocks=DEPTH,
        widen="downsampling" if peer.widen_first else "blocks",
        decoder_widths=DECODER,
        decoder_blocks=DEPTH,
        bn_eps=peer.eps,
        block_bn_momentum=0.1 if name == "slidr" else None,
    )
    assert (imported.dialect, imported.prefix) == (name, peer.prefix)
    assert all(tensor.dtype == torch.float32 for n, tensor in imported.backbone.items() if "tracked" not in n)


def test_report_accounts_for_every_tensor(name: str, tmp_path: Path) -> None:
    theirs = Network(PEERS[name]).tensors | {"optimizer.state.momentum": torch.zeros(2)}
    imported = import_file(saved(theirs, tmp_path / "model.pth"))
    assert imported.matched + 2 + sum(imported.left_out.values()) == len(theirs)
    words = {word for word in imported.left_out}
    beside = {"slidr": {"model_images"}, "superflow": {"state_dict.backbone_2d", "state_dict.head_2d"}}
    assert words == {"optimizer"} | beside.get(name, set())
    report = "\n".join(imported.report())
    assert "none missing" in report and "9 channels" in report and "optimizer (1)" in report


def test_there_and_back_is_the_same_bits(name: str, tmp_path: Path) -> None:
    theirs = Network(PEERS[name])
    imported = import_file(saved(theirs.tensors, tmp_path / "model.pth"))
    segmentation = "decode_head" in PEERS[name].head[0]
    back = in_dialect(imported.backbone, imported.head, imported.config, find_dialect(name), segmentation=segmentation)
    root = "model_points." if name == "slidr" else "state_dict.module." if name == "pointcept" else "state_dict."
    wanted = {n.removeprefix(root): t for n, t in theirs.tensors.items() if n not in PEERS[name].outside}
    assert back.keys() == wanted.keys()
    for key, tensor in wanted.items():
        assert torch.equal(back[key], tensor) and back[key].is_contiguous(), key
    again = import_file(saved({"x." + key: tensor for key, tensor in back.items()}, tmp_path / "again.pth"))
    assert all(torch.equal(again.backbone[key], tensor) for key, tensor in imported.backbone.items())


def test_wrappers_of_any_kind_are_seen_through(tmp_path: Path) -> None:
    bare = {n.removeprefix("state_dict.backbone_3d."): t for n, t in Network(PEERS["superflow"]).tensors.items()}
    bare = {n: t for n, t in bare.items() if not n.startswith("state_dict")}
    wanted = None
    for prefix in ("", "model.", "module.backbone.", "state_dict.model.module.net."):
        torch.save({prefix + n: t for n, t in bare.items()}, tmp_path / "model.pt")
        imported = import_file(tmp_path / "model.pt")
        assert imported.prefix == prefix and imported.head is None and imported.head_name == "none in the file"
        wanted = wanted or imported.backbone
        assert all(torch.equal(imported.backbone[n], t) for n, t in wanted.items())


def test_of_two_backbones_one_must_be_chosen(tmp_path: Path) -> None:
    one, other = (Network(PEERS["mmdet3d-spconv"], seed).tensors for seed in (0, 1))
    ema = {n.replace("state_dict.", "ema_state_dict.", 1): t for n, t in other.items()}
    path = saved(one | ema, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"several backbones, under .*'ema_state_dict\.backbone\.'.*--set p"):
        import_file(path)
    chosen = import_file(path, prefix="ema_state_dict.backbone.")
    assert torch.equal(chosen.backbone["stem.0.1.norm.bias"], ema["ema_state_dict.backbone.conv_input.0.1.bias"])


def test_intensity_may_be_given_as_recorded(tmp_path: Path) -> None:
    theirs = Network(PEERS["pointcept"])
    path = saved(theirs.tensors, tmp_path / "model.pth")
    features, occupied, coords = scan(4)
    wanted = theirs(features, occupied)[:, coords[:, 0], coords[:, 1], coords[:, 2]].T
    recorded = features.clone()
    recorded[3] *= 255
    imported = import_file(path, intensity_divisor=255.0)
    torch.testing.assert_close(outputs(imported, recorded, coords), wanted, rtol=1e-5, atol=1e-6)
    back = in_dialect(
        imported.backbone, None, imported.config, find_dialect("pointcept"), segmentation=True, intensity_divisor=255.0
    )
    torch.testing.assert_close(
        back["backbone.conv_input.0.weight"], theirs.tensors["state_dict.module.backbone.conv_input.0.weight"]
    )


def test_a_head_that_does_not_fit_is_left_out_with_the_reason(tmp_path: Path) -> None:
    tensors = Network(PEERS["mmdet3d-torchsparse"]).tensors
    tensors["state_dict.decode_head.conv_seg.weight"] = torch.zeros(9, 16)
    imported = import_file(saved(tensors, tmp_path / "model.pth"))
    assert imported.head is None
    assert imported.head_name == "none: state_dict.decode_head.conv_seg.weight is (9, 16), not (9, 5)"


def test_half_precision_and_old_files_without_counters_are_read(tmp_path: Path) -> None:
    tensors = {n: t for n, t in Network(PEERS["slidr"]).tensors.items() if "num_batches" not in n}
    imported = import_file(saved({n: t.half() for n, t in tensors.items()}, tmp_path / "model.pth"))
    weight = imported.backbone["stem.0.0.weight"]
    assert weight.dtype == torch.float32 and int(imported.backbone["stem.0.1.norm.num_batches_tracked"]) == 0


def broken(tensors: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    """SuperFlow's tensors with one thing wrong."""
    tensors, at = dict(tensors), "state_dict.backbone_3d."
    if how == "missing":
        del tensors[at + "block2.1.conv2.kernel"]
    elif how == "shape":
        tensors[at + "block2.1.conv2.kernel"] = torch.zeros(27, 4, 5)
    elif how == "nan":
        tensors[at + "block8.0.norm1.bias"][2] = float("nan")
    elif how == "extra":
        tensors[at + "point_transforms.0.0.weight"] = torch.zeros(3)
    elif how == "channels":
        tensors[at + "conv0.0.conv.kernel"] = torch.zeros(27, 6, STEM)
    elif how == "norm":
        del tensors[at + "block3.0.norm2.weight"]
    return tensors


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("missing", "block2.1.conv2.kernel is missing; the file is not complete"),
        ("shape", r"block2.1.conv2.kernel is \(27, 4, 5\), not \(27, 4, 4\)"),
        ("nan", "block8.0.norm1.bias has 1 values that are not finite"),
        ("extra", "a MinkUNet lacks: state_dict.backbone_3d.point_transforms.0.0.weight; it is another network"),
        ("channels", "takes 6 input channels"),
        ("norm", "block3.0.norm2.weight is missing"),
    ],
)
def test_a_wrong_tensor_is_named_in_one_line(how: str, line: str, tmp_path: Path) -> None:
    path = saved(broken(Network(PEERS["superflow"]).tensors, how), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=line) as error:
        import_file(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_other_networks_are_told_apart(tmp_path: Path) -> None:
    waffle = {
        "model_point": {"module.embed.norm.weight": torch.ones(5), "module.waffleiron.channel_mix.0.s": torch.ones(2)}
    }
    torch.save(waffle, tmp_path / "ckpt_last.pth")
    with pytest.raises(CheckpointError, match=r"WaffleIron .ScaLR's backbone."):
        import_file(tmp_path / "ckpt_last.pth")
    torch.save({"fc.weight": torch.ones(2), "conv1.weight": torch.ones(3)}, tmp_path / "resnet.pth")
    with pytest.raises(
        CheckpointError, match=r"no MinkUNet named as in superflow, .*first tensors are conv1.weight, fc"
    ):
        import_file(tmp_path / "resnet.pth")


@pytest.mark.parametrize(
    ("name", "config", "field"),
    [
        ("slidr", MinkUNetConfig(stem_kernels=(3,)), "inputs"),
        ("slidr", MinkUNetConfig(inputs=(3,)), "stem_kernels"),
        ("superflow", MinkUNetConfig(stem_kernels=(3,)), "stem_kernels"),
        ("pointcept", MinkUNetConfig(stem_kernels=(5,), bn_eps=1e-3), "widen"),
        ("mmdet3d", MinkUNetConfig(bn_eps=1e-3), "bn_eps"),
    ],
)
def test_a_network_that_their_code_cannot_build_is_not_exported(name: str, config: MinkUNetConfig, field: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot build this network: {field} is"):
        in_dialect({}, None, config, find_dialect(name), segmentation=False)


def test_number_of_stages_and_names_of_formats_are_checked() -> None:
    three = {
        "encoder_widths": (4,) * 3,
        "encoder_blocks": (1,) * 3,
        "decoder_widths": (4,) * 3,
        "decoder_blocks": (1,) * 3,
    }
    with pytest.raises(ConfigError, match="number of stages is 3; it needs 4"):
        in_dialect({}, None, MinkUNetConfig(**three), find_dialect("superflow"), segmentation=False)
    with pytest.raises(ConfigError, match="unknown format 'super-flow'; did you mean 'superflow'"):
        find_dialect("super-flow")


def test_a_student_and_a_segmentation_model_are_named_differently(tmp_path: Path) -> None:
    imported = import_file(saved(Network(PEERS["superflow"]).tensors, tmp_path / "model.pth"))
    names = set(
        in_dialect(imported.backbone, imported.head, imported.config, find_dialect("superflow"), segmentation=True)
    )
    assert "backbone.conv1.conv.kernel" in names and "decode_head.conv_seg.weight" in names


def test_the_dense_oracle_can_fail(tmp_path: Path) -> None:
    theirs = Network(replace(PEERS["superflow"], library="torchsparse"))
    imported = import_file(saved(theirs.tensors, tmp_path / "model.pth"))
    name = "encoder.0.0.0.weight"
    imported.backbone[name] = imported.backbone[name].flip(0)
    features, occupied, coords = scan(4)
    wanted = theirs(features, occupied)[:, coords[:, 0], coords[:, 1], coords[:, 2]].T
    assert not torch.allclose(outputs(imported, features, coords), wanted, atol=1e-3)


WEIGHT, COUNTS = "backbone_3d.conv0.0.conv.kernel", "backbone_3d.conv0.0.norm.num_batches_tracked"


@pytest.mark.parametrize(
    ("key", "spoil", "line"),
    [
        (COUNTS, lambda _: torch.zeros(2), r"num_batches_tracked is \(2,\), not a single number"),
        (WEIGHT, lambda t: t.to_sparse(), "kernel is stored as sparse_coo"),
        (WEIGHT, lambda t: t.to(torch.int8), "kernel holds int8, not floating-point numbers"),
        (WEIGHT, lambda t: t.to(torch.complex64), "kernel holds complex64, not floating-point numbers"),
        (WEIGHT, lambda t: t.to("meta"), "kernel has no values"),
    ],
)
def test_tensors_that_are_no_plain_weights(key: str, spoil: Callable, line: str, tmp_path: Path) -> None:
    tensors = Network(PEERS["superflow"]).tensors
    key = next(name for name in tensors if name.endswith(key.partition(".")[2]))
    spoilt = tensors | {key: spoil(tensors.get(key, torch.zeros(1)).float())}
    with pytest.raises(CheckpointError, match=line) as error:
        import_file(saved(spoilt, tmp_path / "model.pth"))
    assert "\n" not in str(error.value)
