"""The sweep of a bank's quality as Markdown tables, shares in per cent."""

from typing import Any

GROUPS = ("static", "moving", "0-10 m", "10-20 m", "20-40 m", "over 40 m")
SHARES = {"coverage": "coverage", "purity_points": "purity by points", "purity_pixels": "purity by pixels"}
OCCLUSION = {
    "hidden": "truly hidden",
    "hidden_found": "hidden found",
    "visible_lost": "visible lost",
    "hidden_among_kept": "hidden among kept",
}


def markdown(result: dict[str, Any]) -> str:
    """One table a sweep and window, the groups of points at the longest window, and the truth of the occlusion test."""
    rows = {(row["variant"], row["frames"]): row for row in result["rows"]}
    windows = sorted({frames for _, frames in rows})
    parts = []
    for sweep, variants in result["sweeps"].items():
        names = [name for name in variants if (name, windows[0]) in rows]
        if len(names) > 1 or sweep == next(iter(result["sweeps"])):
            parts += [f"### {sweep[0].upper()}{sweep[1:]}", by_window(rows, names, windows)]
            parts.append(by_group(rows, names, windows[-1]))
    if result["occlusion_truth"]:
        parts += ["### Occlusion test against the true depth of every pixel", occlusion(result["occlusion_truth"])]
    return "\n\n".join(parts)


def by_window(rows: dict[tuple[str, int], dict], names: list[str], windows: list[int]) -> str:
    """Coverage, depth, purity and cost of every variant at every window."""
    header = ["variant", "frames", "coverage %", "references per target", "purity by points %", "purity by pixels %"]
    body = [
        [name, str(frames), percent(row["coverage"]), f"{row['depth']:.2f}", percent(row["purity_points"]),
         percent(row["purity_pixels"])]
        for name in names for frames in windows for row in [rows[name, frames]]
    ]  # fmt: skip
    return table(header, body)


def by_group(rows: dict[tuple[str, int], dict], names: list[str], frames: int) -> str:
    """Coverage and purity of the points by motion and range, at one window."""
    body = []
    for name in names:
        groups = {group["points"]: group for group in rows[name, frames]["groups"]}
        for key, words in SHARES.items():
            shares = [percent(groups[group][key]) if group in groups else "-" for group in GROUPS]
            if set(shares) != {"-"}:
                body.append([name, f"{words} %", *shares])
    return table(["variant", f"{frames} frames", *GROUPS], body)


def occlusion(rows: list[dict[str, Any]]) -> str:
    """Every share by group of points."""
    cells = {(row["variant"], row["points"]): row for row in rows}
    groups = [group for group in ("all", *GROUPS) if any(key[1] == group for key in cells)]
    body = [
        [name, f"{words} %", *(percent(cells[name, group][key]) for group in groups)]
        for name in dict.fromkeys(row["variant"] for row in rows)
        for key, words in OCCLUSION.items()
    ]
    return table(["test of variant", "points in images", *groups], body)


def table(header: list[str], body: list[list[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float | None) -> str:
    """Two decimals; a dash where nothing is known."""
    return "-" if share is None else f"{100 * share:.2f}"
