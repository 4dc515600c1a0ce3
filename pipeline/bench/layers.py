"""Roofline: every kind of layer of MinkUNet-34 alone, forward and backward, on the maps of a real pass.

A layer cannot take less time than its arithmetic takes at the rate of the machine's matrix product, nor than its bytes
take at the rate of its copy: ``bound_ms`` is the larger, and ``share_of_bound`` how near the layer comes to it. The sum
over all layers, each as often as it occurs, stands against a whole pass in the same rounds.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse import engine_native, find_engine, resolve_engine
from lima_core.sparse.layers import HALVING
from lima_core.sparse.norm import SparseBatchNorm
from lima_core.sparse.tensor import SparseTensor
from pipeline.bench import machine
from pipeline.bench.engines import IN_CHANNELS, SCANS, TINY, training_pass
from pipeline.bench.harness import Case, Contestant, Options
from pipeline.bench.street import street_batch
from pipeline.bench.work import LayerWork, network_work, total_flops

WHOLE, MAPS = "whole pass", "kernel maps"
ELEMENT = {"fp32": 4, "tf32": 4, "bf16": 2}


def cases(options: Options) -> Iterator[Case]:
    """A case per size, engine and precision, for the engine that ``auto`` takes and for the native one."""
    config = TINY if options.size == "tiny" else MinkUNetConfig()
    engines = dict.fromkeys([resolve_engine("auto", options.device)[0], engine_native.NAME])
    for scan, batch in sizes(options):
        coords, features = (part.to(options.device) for part in street_batch(*SCANS[scan], batch))
        for engine, precision in product(engines, machine.precisions(options.device)):
            title = f"{engine} {precision}, {scan}, batch {batch}"
            yield _case(title, config, engine, precision, coords, features, options)


def sizes(options: Options) -> list[tuple[str, int]]:
    """Scan and batch size."""
    if options.size == "tiny":
        return [("tiny", 1)]
    return [("20 k voxels", 4 if options.device.startswith("cuda") else 1)]


def _case(
    title: str,
    config: MinkUNetConfig,
    engine: str,
    precision: str,
    coords: Tensor,
    features: Tensor,
    options: Options,
) -> Case:
    network = build_backbone(config, IN_CHANNELS, engine).to(coords.device)
    x = SparseTensor(features, coords)
    work = network_work(network, x)
    peak = machine.mm_name(precision)
    layers = [
        Contestant(layer.title, _layer(layer, x, engine, precision), peak=peak, flops=layer.training_flops,
                   num_bytes=layer.training_bytes(ELEMENT[precision]), times=times)
        for layer, times in sorted(work.items(), key=lambda item: (item[0].kind, item[0].stride, item[0].title))
    ]  # fmt: skip
    whole = lambda: lambda: training_pass(network, coords, features, precision)  # noqa: E731
    depth = len(config.encoder_widths)
    maps = Contestant(MAPS, lambda: lambda: build_maps(SparseTensor(features, coords), depth))
    rest = [Contestant(WHOLE, whole, peak=peak, flops=total_flops(work)), maps]
    facts = {"voxels": len(coords), "engine": engine, "precision": precision}
    return Case(title, facts, [*rest, *layers, *machine.contestants(options, (precision,))])


def build_maps(x: SparseTensor, depth: int) -> None:
    """All kernel maps of a U-Net of that depth on ``x``; what an engine derives from them is not among it."""
    for level in range(depth + 1):
        x.neighbours((3, 3, 3))
        if level < depth:
            x, _ = x.coarser(HALVING)
            x.finer()


def _layer(layer: LayerWork, x: SparseTensor, engine: str, precision: str) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        at_level = _at_stride(x, layer)
        device = x.features.device
        features = torch.randn(layer.num_source, layer.in_channels, device=device)
        if precision == "bf16":
            features = features.bfloat16()
        if layer.kind in ("norm", "relu"):
            norm = SparseBatchNorm(layer.in_channels).to(device) if layer.kind == "norm" else nn.ReLU()
            run = (lambda f: norm(at_level.replace(f)).features) if layer.kind == "norm" else norm
            return _pass(run, features, None)
        weight = torch.randn(layer.num_offsets, layer.in_channels, layer.out_channels, device=device) * 0.05
        weight.requires_grad_(True)
        if layer.kind == "1x1x1":
            return _pass(lambda f: f @ weight[0].to(f.dtype), features, weight)
        pairs, convolve = _map(layer, at_level), find_engine(engine).convolve
        return _pass(lambda f: _at(precision, device, lambda: convolve(f, weight, pairs)), features, weight)

    return prepare


def _at(precision: str, device: torch.device, work: Callable[[], Tensor]) -> Tensor:
    with machine.at_precision(precision, str(device)):
        return work()


def _at_stride(x: SparseTensor, layer: LayerWork) -> SparseTensor:
    """The tensor of the level from which the layer reads."""
    wanted = layer.stride * 2 if layer.kind == "transposed" else layer.stride
    while x.stride[0] < wanted:
        x = x.coarser(HALVING)[0]
    return x


def _map(layer: LayerWork, x: SparseTensor) -> Any:
    if layer.kind == "strided":
        return x.coarser(HALVING)[1]
    return x.finer()[1] if layer.kind == "transposed" else x.neighbours((3, 3, 3))


def _pass(run: Callable[[Tensor], Tensor], features: Tensor, weight: Tensor | None) -> Callable[[], object]:
    """Forward and backward, with the gradients of features and weight; the network's input alone would need none."""
    features.requires_grad_(True)
    gradient = torch.randn_like(run(features))

    def work() -> None:
        run(features).backward(gradient)
        features.grad = None
        if weight is not None:
            weight.grad = None

    return work


def _is_layer(row: dict[str, Any]) -> bool:
    return "mb" in row and row["name"] != machine.COPY


def finish(record_case: dict[str, Any]) -> None:
    """Adds to every layer's row what bounds it, and to the case where the time of a whole pass goes.

    What is read against a row that is not there, because it failed or was left out, is not added.
    """
    rows = {row["name"]: row for row in record_case["rows"]}
    product = rows.get(machine.mm_name(record_case["facts"]["precision"]))
    copy, whole = rows.get(machine.COPY), rows.get(WHOLE)
    if product and copy:
        for row in filter(_is_layer, rows.values()):
            bound_s = max(row.get("gflop", 0.0) / product["gflop_per_s"], row["mb"] / 1e3 / copy["gb_per_s"])
            row |= {"bound_ms": 1e3 * bound_s, "share_of_bound": 1e3 * bound_s / row["ms"]["median"]}
    if whole:
        record_case["share_of_whole"] = _shares(list(rows.values()), whole["ms"]["median"])


def _shares(rows: list[dict[str, Any]], whole_ms: float) -> dict[str, float]:
    """Parts of a whole pass, into every row and by kind."""
    shares: dict[str, float] = {}
    for row in rows:
        if row["name"] == MAPS or _is_layer(row):
            row["share_of_whole"] = row["ms"]["median"] * row.get("times", 1) / whole_ms
            kind = row["name"].partition(" s")[0]
            shares[kind] = shares.get(kind, 0.0) + row["share_of_whole"]
    return shares
