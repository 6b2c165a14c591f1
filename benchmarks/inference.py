"""Time per control step, ours against LeRobot's `select_action`, on the same weights, machine and run.

    python benchmarks/inference.py --decisions 40 --out benchmarks/results/inference.json

Both policies hold the weights of one VQ-BeT with LeRobot's defaults (ResNet-18, 5 observation steps). Three modes: open
loop with chunks of 5 and of 8, where the whole chunk is acted out and a decision is due when the queue is empty, and
re-planning at every step, for which LeRobot's action queue is emptied. They take turns, step by step, in one process on
`--threads` threads. Every step counts, not only those that decide: `ms_per_step` is the time from one decision to the
next divided by its steps (the median over decisions), `ratio` the median over decisions of ours divided by LeRobot's, so
that another program's load meets both; `decision_ms` and
`queued_ms` are the medians of the steps that decide and of the others. Actions must agree to 1e-5. The floor reads every
weight that acts once, at the measured memory bandwidth; no decision can be faster on this machine while the weights do
not fit into its caches.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from vqbet_course.core.configuration import ActingConfig, VQBeTConfig
from vqbet_course.core.io import write_json
from vqbet_course.core.records import made_by
from vqbet_course.lerobot_policy import to_lerobot
from vqbet_course.policy import VQBeTPolicy
from vqbet_course.training.factory import build_policy

IMAGE, STATE, ACTION = "observation.image", "observation.state", "action"


MODES: dict[str, tuple[int, bool]] = {"open_loop": (5, False), "open_loop_8": (8, False), "replan": (5, True)}
"""{mode: the length of a chunk, and whether every step decides}."""

BOUND = {"open_loop": 1.0, "open_loop_8": 1.0, "replan": 0.75}
"""{mode: the largest ratio of our time per step to LeRobot's}."""


def make_policy(seed: int, chunk: int = 5) -> VQBeTPolicy:
    """Random weights: how long a decision takes does not depend on them. Codes differ, so that offsets matter."""
    torch.manual_seed(seed)
    config = VQBeTConfig(image_shapes={IMAGE: (3, 96, 96)}, observation_sizes={STATE: 2}, action_chunk_size=chunk)
    policy = build_policy(config)
    for layer in policy.network.vqvae.vq.layers:
        layer.place(torch.randn_like(layer.get_buffer("codebook")))
    return policy.eval()


def likeliest(probabilities: Tensor, num_samples: int) -> Tensor:
    """LeRobot samples its codes; here it takes the likeliest, as ours does at temperature 0."""
    return probabilities.argmax(-1, keepdim=True)


def timed(call: Callable[[], Tensor]) -> tuple[Tensor, float]:
    start = time.perf_counter()
    result = call()
    return result, 1000 * (time.perf_counter() - start)


def compare(seed: int, mode: str, decisions: int) -> dict[str, Any]:
    """Milliseconds of all steps, both policies on the same frames."""
    chunk, replan = MODES[mode]
    ours = make_policy(seed, chunk)
    theirs = to_lerobot(ours)
    ours = VQBeTPolicy(ours.network, ActingConfig(0.0, 1 if replan else chunk))
    frames, differ, warm_up = torch.Generator().manual_seed(seed), 0.0, 3
    spent: dict[str, list[list[float]]] = {"ours": [], "lerobot": []}  # of each decision, its steps
    ours.reset()
    theirs.reset()
    for _ in range((decisions + warm_up) * (1 if replan else chunk)):
        seen = {IMAGE: torch.rand(1, 3, 96, 96, generator=frames), STATE: torch.rand(1, 2, generator=frames)}
        if replan:
            theirs._queues[ACTION].clear()
        due = not ours.actions
        assert due == (not theirs._queues[ACTION])
        with patch("torch.multinomial", likeliest), torch.inference_mode():
            mine, took = timed(lambda: ours.select_action(seen))
            other, took_there = timed(lambda: theirs.select_action(dict(seen)))
        differ = max(differ, (mine - other).abs().max().item())
        for name, ms in (("ours", took), ("lerobot", took_there)):
            if due:
                spent[name].append([])
            spent[name][-1].append(ms)
    assert differ <= 1e-5, f"outputs differ by {differ}"
    pairs = list(zip(spent["ours"], spent["lerobot"], strict=True))
    measured = {name: summary(of[warm_up:]) for name, of in spent.items()}
    return {
        "chunk": chunk,
        "decisions": decisions,
        "steps": sum(map(len, spent["ours"][warm_up:])),
        **{key: {name: values[key] for name, values in measured.items()} for key in measured["ours"]},
        "ratio": float(np.median([sum(mine) / sum(other) for mine, other in pairs[warm_up:]])),
        "largest_difference": differ,
    }


def summary(spent: list[list[float]]) -> dict[str, float | None]:
    """Medians over decisions, of the milliseconds of each decision's steps, the first of which decides."""
    queued = [ms for steps in spent for ms in steps[1:]]
    return {
        "ms_per_step": float(np.median([np.mean(steps) for steps in spent])),
        "decision_ms": float(np.median([steps[0] for steps in spent])),
        "queued_ms": float(np.median(queued)) if queued else None,
    }


def bandwidth(megabytes: int = 256) -> float:
    """Bytes per second of reading memory, the best of five sums over an array that fits into no cache."""
    array = torch.ones(megabytes * 2**20 // 4)
    return array.numel() * 4 / (min(timed(array.sum)[1] for _ in range(5)) / 1000)


def floor_ms(policy: VQBeTPolicy, bytes_per_second: float) -> float:
    """Milliseconds to read once the weights of a decision: all but the tokenizer's encoder, which only learns."""
    acting = [p for name, p in policy.network.named_parameters() if not name.startswith("vqvae.encoder.")]
    return 1000 * sum(p.numel() * p.element_size() for p in acting) / bytes_per_second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--decisions", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the frames")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    speed = bandwidth()
    policy = make_policy(options.seed)
    result: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "seed": options.seed,
        "parameters": sum(p.numel() for p in policy.network.parameters()),
        "memory_gb_per_s": speed / 1e9,
        "floor_ms": floor_ms(policy, speed),
        **{mode: compare(options.seed, mode, options.decisions) for mode in MODES},
        "made_by": made_by() | {name: version(name) for name in ("torchvision", "lerobot")},
    }
    for mode in MODES:
        for name, ms in result[mode]["decision_ms"].items():
            result[mode][f"{name}_over_floor"] = ms / result["floor_ms"]
    print(json.dumps(result, indent=2))
    if options.out:
        write_json(options.out, result)
    slower = {mode: result[mode]["ratio"] for mode, bound in BOUND.items() if result[mode]["ratio"] > bound}
    assert not slower, f"slower than promised: {slower}, where at most {BOUND}"


if __name__ == "__main__":
    main()
