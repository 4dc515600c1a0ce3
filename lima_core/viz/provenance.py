"""Where every number comes from: the manifests of the artifacts, as a table and in full."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lima_core.cost import size
from lima_core.viz import html
from lima_core.viz.html import escape

Manifest = Mapping[str, Any]
"""The content of a ``manifest.json``, read as it is."""


def provenance_table(manifests: Sequence[tuple[str, Manifest | None]]) -> str:
    """One row per artifact; None where it has no manifest because it was made without the runner."""
    header = ["artifact", "fingerprint", "commit", "made (UTC)", "seconds", "size"]
    rows = [_row(name, manifest) for name, manifest in manifests]
    known = [manifest for _, manifest in manifests if manifest]
    if known:
        seconds, num_bytes = (sum(manifest[key] for manifest in known) for key in ("seconds", "num_bytes"))
        rows.append(["all together", "", "", "", _seconds(seconds), size(num_bytes)])
    text = html.table(header, rows, "llllnn", foot=int(bool(known)))
    if any(manifest["resumed"] for manifest in known):
        text += html.note("* resumed: only the seconds of the session that finished the artifact are counted.")
    if len(known) < len(manifests):
        text += html.note("Artifacts without a fingerprint were made without the runner, so nothing was recorded.")
    return text


def _row(name: str, manifest: Manifest | None) -> list[str]:
    if manifest is None:
        return [name, "not recorded", "", "", "", ""]
    made = str(manifest["created"]).replace("+00:00", "").replace("T", " ")
    seconds = _seconds(manifest["seconds"]) + ("*" if manifest["resumed"] else "")
    return [name, manifest["fingerprint"][:8], _commit(manifest), made, seconds, size(manifest["num_bytes"])]


def _commit(manifest: Manifest) -> str:
    commit = manifest["provenance"].get("commit")
    if not commit:
        return "unknown"
    return commit[:10] + (" + edits" if manifest["provenance"].get("dirty") else "")


def records(manifests: Sequence[tuple[str, Manifest | None]]) -> str:
    """Every manifest in full, folded; nothing where there is none."""
    parts = [_record(name, manifest) for name, manifest in manifests if manifest]
    title = "Full records: config, command, hardware, versions, summary"
    return html.details(title, f"<div>{''.join(parts)}</div>") if parts else ""


def _record(name: str, manifest: Manifest) -> str:
    origin = manifest["provenance"]
    versions = ", ".join(f"{package} {version}" for package, version in origin.get("packages", {}).items())
    rows = {
        "fingerprint": manifest["fingerprint"],
        "stage": f"{manifest['recipe'].get('stage')}, version {manifest['recipe'].get('version')}",
        "command": origin.get("command"),
        "hardware": hardware(origin),
        "versions": f"python {origin.get('python')}, {versions}",
    }
    parts = {"config": manifest["recipe"].get("config"), "inputs": manifest["inputs"], "summary": manifest["summary"]}
    text = facts({key: str(value) for key, value in rows.items()})
    text += "".join(f"<h3>{escape(key)}</h3>{as_json(value)}" for key, value in parts.items())
    return html.details(f"{name}, {manifest['fingerprint'][:8]}", f"<div>{text}</div>")


def hardware(origin: Mapping[str, Any]) -> str:
    """``Xeon ..., 2 cores, no GPU; device cpu, engine native, 0 workers``."""
    resources = origin.get("resources", {})
    machine = f"{origin.get('cpu')}, {origin.get('num_cores')} cores, {origin.get('gpu') or 'no GPU used'}"
    used = ", ".join(f"{key} {value}" for key, value in resources.items())
    return f"{machine}; {used}" if used else machine


def facts(values: Mapping[str, str]) -> str:
    """Names and values as a list of two columns."""
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in values.items())
    return f'<dl class="facts">{items}</dl>\n'


def as_json(value: object) -> str:
    """A value as readable JSON."""
    return f"<pre>{escape(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))}</pre>"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:,.0f} s".replace(",", " ")
