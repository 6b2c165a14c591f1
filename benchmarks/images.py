"""Our image policy and LeRobot's VQ-BeT on the same rendered data for the same time: curves and evaluations.

    python benchmarks/images.py --data PICTURES --minutes 240 --device cuda --out benchmarks/results/images.json

PICTURES is a LeRobotDataset with images, from `vqbet-course demos convert SOURCE --render --out PICTURES`. Both train
through `lerobot-train`, one after the other, on `observation.image` and `observation.state`, and both are evaluated by
`lerobot-eval` on the same environment seeds. Each policy's steps are what fits into `--minutes` at the speed of a
short run of its own. Ours has the laptop's configuration, LeRobot's has its defaults; both start from scratch.

This comparison was not run: it needs a GPU, and none was to be had. The script was tried on a CPU, with
`--steps 4 --episodes 1 --device cpu --workers 0`.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vqbet_course.core.io import write_json
from vqbet_course.core.records import made_by

INPUTS = {
    "observation.image": {"type": "VISUAL", "shape": [3, 96, 96]},
    "observation.state": {"type": "STATE", "shape": [2]},
}
PLUGIN = "--policy.discover_packages_path=vqbet_course.lerobot_policy"
POLICIES = {
    "ours": [PLUGIN, "--policy.type=vqbet_course", "--batch_size=64"],
    "lerobot": [
        "--policy.type=vqbet",
        "--policy.pretrained_backbone_weights=null",
        "--policy.use_group_norm=true",
        "--batch_size=64",
    ],
}
STAGE_1 = 1 / 10  # the share of the steps that goes to the tokenizer, in both
TRIAL = 60  # steps of the short run, the last two thirds of which are timed in stage 2


def lerobot(command: str, *arguments: str) -> str:
    """Run one of LeRobot's commands without a network; returns what it printed."""
    done = subprocess.run(
        [Path(sys.executable).with_name(command), *arguments],
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def train(name: str, steps: int, log_freq: int, options: argparse.Namespace, out: Path) -> str:
    """Train one of the POLICIES for some steps into `out`."""
    shutil.rmtree(out, ignore_errors=True)
    return lerobot(
        "lerobot-train",
        *POLICIES[name],
        f"--policy.device={options.device}",
        "--policy.push_to_hub=false",
        f"--policy.input_features={json.dumps(INPUTS)}",
        f"--policy.n_vqvae_training_steps={max(1, int(steps * STAGE_1))}",
        f"--dataset.root={options.data}",
        "--dataset.repo_id=local/pictures",
        f"--num_workers={options.workers}",
        f"--steps={steps}",
        f"--log_freq={log_freq}",
        f"--save_freq={steps}",
        f"--seed={options.seed}",
        f"--output_dir={out}",
    )


def curve(printed: str) -> list[dict[str, float]]:
    """What `lerobot-train` logged: step, loss, seconds of an update and of waiting for data."""
    lines = re.findall(r" step:(\S+) .*?loss:(\S+) .*?updt_s:(\S+) data_s:(\S+)", printed)
    scale = {"K": 1e3, "M": 1e6}
    return [
        {
            "step": float(step.rstrip("KM")) * scale.get(step[-1], 1),
            "loss": float(loss),
            "seconds": float(update) + float(data),
        }
        for step, loss, update, data in lines
    ]


def evaluate(name: str, options: argparse.Namespace, run: Path) -> dict[str, Any]:
    """`lerobot-eval` on the last checkpoint."""
    plugin = [PLUGIN] if name == "ours" else []
    lerobot(
        "lerobot-eval",
        *plugin,
        f"--policy.path={(run / 'checkpoints/last/pretrained_model').resolve()}",
        f"--policy.device={options.device}",
        "--env.type=pusht",
        "--env.observation_height=96",
        "--env.observation_width=96",
        f"--eval.n_episodes={options.episodes}",
        f"--eval.batch_size={min(10, options.episodes)}",
        "--eval.use_async_envs=false",
        "--seed=100000",
        f"--output_dir={run / 'eval'}",
    )
    result: dict[str, Any] = json.loads((run / "eval/eval_info.json").read_text())
    return {name: result["overall"][name] for name in ("avg_max_reward", "pc_success", "n_episodes")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="of training, for each policy")
    parser.add_argument("--steps", type=int, help="train for these steps instead, to try the script")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("_runs/images"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    results: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "seed": options.seed,
        "minutes": options.minutes,
        "device": options.device,
        "made_by": made_by() | {"lerobot": version("lerobot")},
    }
    for name in POLICIES:
        steps = options.steps
        if steps is None:
            timed = curve(train(name, TRIAL, 10, options, options.runs / f"{name}-trial"))[2:]
            steps = int(60 * options.minutes / (sum(line["seconds"] for line in timed) / len(timed)))
        started = time.time()
        printed = train(name, steps, max(1, steps // 200), options, options.runs / name)
        results[name] = {
            "steps": steps,
            "minutes": (time.time() - started) / 60,
            "curve": curve(printed),
            "evaluation": evaluate(name, options, options.runs / name),
        }
        write_json(options.out, results)
        print(name, results[name]["steps"], "steps:", results[name]["evaluation"])


if __name__ == "__main__":
    main()
