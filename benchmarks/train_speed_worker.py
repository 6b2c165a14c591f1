"""The process that benchmarks/train_speed.py asks for the speed of a package; it also runs with packages of before.

    python benchmarks/train_speed_worker.py SOURCE

Each line that it reads, like {"precision": "float32", "batch_size": 256, "threads": 1, "steps": 30}, asks for steps of the
policy's stage; it answers with the seconds that they took, `wall` by the clock and `cpu` on the processors.
"""

import json
import sys
import time
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

try:
    from vqbet_course.demos import load_demos
    from vqbet_course.tasks import open_source
    from vqbet_course.training.data import fitting, prepare
    from vqbet_course.training.devices import Computing
    from vqbet_course.training.factory import build_network

    demos = load_demos(open_source(sys.argv[1]))

    def build(config: Any, precision: str) -> Any:
        """An untrained network that computes in this precision."""
        return Computing("cpu", precision).place(build_network(config))

except ImportError:  # before tasks had a folder
    from vqbet_course.build import build_policy

    from vqbet_course.demos import load_demos
    from vqbet_course.train import fitting, prepare  # type: ignore[attr-defined, no-redef]

    demos = load_demos(sys.argv[1])  # type: ignore[arg-type]

    def build(config: Any, precision: str) -> Any:
        """An untrained policy; it computes in float32."""
        assert precision == "float32"
        return build_policy(config)


from vqbet_course.train import policy_stage, run_randomness

setup = prepare(demos, fitting(demos), augment=True)


@lru_cache
def stage_of(precision: str, batch_size: int) -> Any:
    """The policy's stage, with caches warm."""
    with run_randomness(0):
        stage = policy_stage(build(replace(fitting(demos), batch_size=batch_size), precision), setup.windows, 1000)
    for step in range(3):
        stage.step(step, 0)
    return stage


for line in sys.stdin:
    asked = json.loads(line)
    torch.set_num_threads(asked["threads"])
    stage = stage_of(asked["precision"], asked["batch_size"])
    wall, cpu = time.perf_counter(), time.process_time()
    with run_randomness(0):
        for step in range(asked["steps"]):
            stage.step(step, 0)
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}), flush=True)
