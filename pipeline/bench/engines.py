"""MinkUNet-34 forward and backward, kernel maps built anew in every pass, by every engine that runs here.

All engines of lima have the same weights, so what they return is compared with the native engine at float32. A peer is
the same network as the users of another library build it, with that library's own layers, maps and autograd.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse import ENGINES, engine_native, resolve_engine
from lima_core.sparse.tensor import SparseTensor
from pipeline.bench import machine
from pipeline.bench.harness import Case, Contestant, Options
from pipeline.bench.street import street_batch
from pipeline.bench.work import network_work, total_flops, voxels_by_stride

IN_CHANNELS = 4
TINY = MinkUNetConfig(
    stem=8, encoder_widths=(8, 16), encoder_blocks=(1, 1), decoder_widths=(16, 8), decoder_blocks=(1, 1)
)
SCANS = {"20 k voxels": (0.1, 32), "59 k voxels": (0.05, 64), "tiny": (1.5, 8)}
"""Edge of a voxel in metres, and beams."""
PREFERRED = (
    "spconv as its users run it",
    "spconv with its race repaired",
    "torchsparse as its users run it",
    "spconv",
    "torchsparse",
    "native",
)
"""Whose time is the measure: the first of these that runs here."""


class Peer(Protocol):
    """What a module must offer to take part (``Options.peers``)."""

    NAME: str

    def precisions(self, device: str) -> tuple[str, ...]:
        """Those of ``fp32``, ``tf32``, ``bf16`` that it has on ``cpu`` or ``cuda``."""

    def missing(self, device: str) -> str:
        """Why it cannot run on ``cpu`` or ``cuda`` here; empty when it can."""

    def training_pass(self, coords: Tensor, features: Tensor, config: MinkUNetConfig) -> Callable[[], Tensor]:
        """Work of one forward and backward pass, maps and all, on the tensors' device; it returns (V, C) features."""


def cases(options: Options) -> Iterator[Case]:
    """The sizes, the most telling first."""
    config = TINY if options.size == "tiny" else MinkUNetConfig()
    for scan, batch in sizes(options):
        coords, features = (part.to(options.device) for part in street_batch(*SCANS[scan], batch))
        yield _case(f"{scan}, batch {batch}", coords, features, config, options)


def sizes(options: Options) -> list[tuple[str, int]]:
    """Scan and batch size of every case."""
    if options.size == "tiny":
        return [("tiny", 2)]
    small, large = "20 k voxels", "59 k voxels"
    if not options.device.startswith("cuda"):
        return [(small, 1)] if options.size == "quick" else [(small, 1), (large, 1)]
    some = [(small, 1), (small, 4)]
    return some if options.size == "quick" else [*some, (large, 1), (small, 16), (large, 4), (large, 16)]


def absent(options: Options) -> dict[str, str]:
    """Engines and peers that cannot run here, and why."""
    kind = device_kind(options)
    peers = [import_module(name) for name in options.peers]
    return {member.NAME: reason for member in (*ENGINES, *peers) if (reason := member.missing(kind))}


def device_kind(options: Options) -> str:
    """``cpu`` or ``cuda``."""
    return options.device.partition(":")[0]


def _case(title: str, coords: Tensor, features: Tensor, config: MinkUNetConfig, options: Options) -> Case:
    work = network_work(build_backbone(config, IN_CHANNELS).to(coords.device), SparseTensor(features, coords))
    flops, precisions = total_flops(work), machine.precisions(options.device)
    entries = [
        (engine.NAME, how, _engine(engine.NAME, how, config, coords, features))
        for how in precisions
        for engine in ENGINES
        if not engine.missing(device_kind(options))
    ]
    entries += [
        (peer.NAME, how, _peer(peer, how, config, coords, features))
        for peer in map(import_module, options.peers)
        for how in precisions
        if how in peer.precisions(device_kind(options)) and not peer.missing(device_kind(options))
    ]
    racing = [_contestant(*entry, flops) for entry in entries]
    facts = {"voxels": len(coords), "voxels_by_stride": voxels_by_stride(work), "gflop": flops / 1e9}
    return Case(title, facts, [*racing, *machine.contestants(options, precisions)], deviations)


def _contestant(who: str, how: str, prepare: Callable[[], Callable[[], Tensor]], flops: int) -> Contestant:
    return Contestant(f"{who} {how}", prepare, references(how), machine.mm_name(how), flops, memory=True)


def references(precision: str) -> tuple[str, ...]:
    """To whom a time is compared: to another engine at the same precision, or else to one at float32."""
    others = [f"{who} {precision}" for who in PREFERRED if who != engine_native.NAME]
    return tuple(dict.fromkeys([*others, *(f"{who} fp32" for who in PREFERRED)]))


def _engine(
    engine: str, precision: str, config: MinkUNetConfig, coords: Tensor, features: Tensor
) -> Callable[[], Callable[[], Tensor]]:
    def prepare() -> Callable[[], Tensor]:
        network = build_backbone(config, IN_CHANNELS, engine).to(coords.device)
        return lambda: training_pass(network, coords, features, precision)

    return prepare


def training_pass(network: nn.Module, coords: Tensor, features: Tensor, precision: str) -> Tensor:
    """Forward and backward, maps built anew; gradients are thrown away. Returns the features (V, C)."""
    with machine.at_precision(precision, str(coords.device)):
        out = network(SparseTensor(features, coords)).features
        out.float().square().mean().backward()
    network.zero_grad(set_to_none=True)
    return out.detach()


def _peer(
    peer: Any, precision: str, config: MinkUNetConfig, coords: Tensor, features: Tensor
) -> Callable[[], Callable[[], Tensor]]:
    def prepare() -> Callable[[], Tensor]:
        work = peer.training_pass(coords, features, config)

        def at_precision() -> Tensor:
            with machine.at_precision(precision, str(coords.device)):
                return work()

        return at_precision

    return prepare


def deviations(outputs: dict[str, Any]) -> dict[str, float]:
    """Relative L2 distance of lima's engines, whose weights are the same, from the native one at float32."""
    truth = outputs.get(f"{engine_native.NAME} fp32")
    if truth is None:
        return {}
    ours = [f"{engine.NAME} {precision}" for engine in ENGINES for precision in ("fp32", "tf32", "bf16")]
    scale = torch.linalg.vector_norm(truth)
    return {
        name: (torch.linalg.vector_norm(outputs[name].float() - truth) / scale).item()
        for name in ours
        if name in outputs and name != f"{engine_native.NAME} fp32"
    }


def said(record_cases: list[dict[str, Any]], device: str) -> list[str]:
    """One line: which engine ``auto`` takes, and whether it was the fastest here at float32."""
    chosen, why = resolve_engine("auto", device)
    lines = []
    for case in record_cases:
        ms = {row["name"]: row["ms"]["median"] for row in case["rows"]}
        ours = {engine.NAME: ms[f"{engine.NAME} fp32"] for engine in ENGINES if f"{engine.NAME} fp32" in ms}
        if len(ours) < 2 or chosen not in ours:
            continue
        best = min(ours, key=ours.get)
        verdict = "the fastest" if best == chosen else f"{best} was {ours[chosen] / ours[best]:.2f} times as fast"
        lines.append(f"{case['title']}: {verdict}")
    return [f"engine auto takes {chosen} here, {why} ({'; '.join(lines) or 'no other engine ran'})"]
