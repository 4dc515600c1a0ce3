"""The whole flow on a world of three short scenes with small sensors: seconds a stage."""

import json
import os
import subprocess
import sys
from pathlib import Path

NETWORK = {
    "name": "minkunet",
    "stem": 4,
    "encoder_widths": [4, 8],
    "encoder_blocks": [1, 1],
    "decoder_widths": [8, 6],
    "decoder_blocks": [1, 1],
}
EXPERIMENT = {
    "name": "small",
    "synth": {
        "num_train_scenes": 2,
        "num_val_scenes": 2,  # the official evaluator wants every scene of its split
        "frames_per_scene": 2,
        "lidar": {"num_beams": 16, "num_azimuths": 180},
        "camera": {"image_size_px": [56, 104]},
    },
    "index": {"dataset": {"name": "nuscenes", "version": "v1.0-mini"}},
    "extract_features": {"image_size_px": [56, 104], "fit_images": 8},
    "build_memory": {"frames": 2, "voxel_size_m": 0.4},
    "distill": {
        "backbone": NETWORK,
        "voxels": {"name": "cartesian", "size_m": [0.5, 0.5, 0.5]},
        "fit": {"steps": 6, "batch_size": 2},
    },
    "probe": {"augment": None, "fit": {"steps": 6, "batch_size": 2}},
    "finetune": {"fit": {"steps": 4, "batch_size": 2}},
    "downstream": [{"probe": True}, {"probe": False, "ratio": 0.01}],
}


def write_experiment(folder: Path) -> Path:
    """The config file; JSON is YAML."""
    path = folder / "small.yaml"
    path.write_text(json.dumps(EXPERIMENT))
    return path


def start_lima(*words: str | Path) -> subprocess.Popen[str]:
    """The command line in a process of its own, one thread, output to read."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "pipeline.cli", *map(str, words)]
    return subprocess.Popen(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).parents[1],
    )


def lima(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end."""
    process = start_lima(*words)
    out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def data_of(work: Path) -> dict[str, bytes]:
    """The data of every artifact: all files but manifests, lists of checksums, logs and locks, which tell of times."""
    files = {path.relative_to(work): path for path in sorted(work.rglob("*")) if path.is_file()}
    assert not [name for name in files if name.parts[0].endswith(".partial")], "half-built artifacts"
    return {
        str(name): path.read_bytes()
        for name, path in files.items()
        if len(name.parts) > 1
        and name.name not in ("manifest.json", "checksums.json")
        and name.parts[1] != "logs"
        and name.name != "report.html"
    }
