"""What the package computes today, as figures that a change of its structure must not change.

`python tests/oracle/measure.py` records them anew in recorded.json; do so only when results are meant to change, and say
in the commit why.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from vqbet_course.cli import main
from vqbet_course.training.calibration import using_threads

RECORDED = Path(__file__).with_name("recorded.json")
FIRST_STEPS = 8
"""Steps of an episode at which actions are compared on any machine; later, rounding may have led elsewhere."""


def run(*arguments: object) -> None:
    """Run the command line in this process, with one thread."""
    with using_threads(1):
        assert main([str(argument) for argument in arguments]) == 0


def machine() -> dict[str, str]:
    """What the last bit of a figure depends on."""
    return {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}


def weights(folder: Path) -> dict[str, Any]:
    """A training of 200 steps: the size, sum and absolute sum of every tensor, whatever it is called."""
    run("train", "--data", "demo", "--steps", 200, "--seed", 7, "--out", folder / "run")
    tensors = load_file(folder / "run" / "model.safetensors").values()
    rows = sorted([t.numel(), t.double().sum().item(), t.double().abs().sum().item()] for t in tensors)
    return {"tensors": rows}


def traces(folder: Path) -> list[dict[str, Any]]:
    """Twenty episodes of the shipped policy: how each ended, its first actions, a checksum of all actions and tokens."""
    run("eval", "shipped", "--episodes", 20, "--seed", 200_000, "--videos", 0, "--out", folder / "eval")
    ends = json.loads((folder / "eval" / "run.json").read_text())["episodes"]
    steps = pq.read_table(folder / "eval" / "traces.parquet").to_pandas()
    found = []
    for end in ends:
        own = steps[steps.seed == end["seed"]]
        said = json.dumps([[*(a.tolist() for a in own.action)], [*(t.tolist() for t in own.tokens)]])
        found.append(
            {key: end[key] for key in ("seed", "success", "max_coverage", "final_coverage", "steps")}
            | {
                "first_actions": [a.tolist() for a in own.action[:FIRST_STEPS]],
                "checksum": hashlib.sha256(said.encode()).hexdigest(),
            }
        )
    return found


def panel(folder: Path) -> list[dict[str, Any]]:
    """A small panel: of every policy, its size, its learning curve, and how its episodes ended."""
    run(
        "compare",
        "--policies",
        "bc,bet,act,vqbet",
        "--demos",
        20,
        "--steps",
        30,
        "--episodes",
        2,
        "--seeds",
        1,
        "--videos",
        0,
        "--out",
        folder / "panel",
    )
    rows = json.loads((folder / "panel" / "panel.json").read_text())["results"]
    return [
        {
            "policy": row["policy"],
            "parameters": row["parameters"],
            "steps": row["training"]["steps"],
            "errors": [point["error"] for point in row["training"]["curve"]],
            "episodes": [[e["max_coverage"], e["final_coverage"], e["steps"]] for e in row["episodes"]],
        }
        for row in rows
    ]


def measure() -> dict[str, Any]:
    """All of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {"machine": machine(), "weights": weights(folder), "traces": traces(folder), "panel": panel(folder)}


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(measure(), separators=(",", ":")) + "\n")
