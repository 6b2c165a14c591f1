"""Is training slowed more than fairly when another process is busy?

    python benchmarks/busy.py [--rounds 5] [--steps 40]

One process trains, some steps at a time: alone and with a busy process beside it, with one thread and with one for
each core. The fair share is what is left of the machine when the busy process has one core: the speed of one thread alone,
or that of all threads alone times (cores - 1) / cores, whichever is higher. The benchmark runs twice: with threads that
sleep while they wait for each other, as the package sets it, and with threads that spin, as OpenMP does by itself.
Everything else on the machine should rest. Writes results/busy.json.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from train_speed import WORKER, Worker

from vqbet_course.core.io import write_json
from vqbet_course.core.records import made_by

RESULT = Path(__file__).parent / "results" / "busy.json"

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def busy_process() -> Iterator[None]:
    """A process that computes without end beside what is inside."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def rounds_of(worker: Worker, rounds: int, steps: int) -> dict[str, list[float]]:
    """Samples per second in each round: {`alone, N threads`, `beside, N threads`: one number for each round}."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for threads in dict.fromkeys((1, CORES)):
            found.setdefault(f"alone, {threads} threads", []).append(speed(worker, threads, steps))
            with busy_process():
                found.setdefault(f"beside, {threads} threads", []).append(speed(worker, threads, steps))
    return found


def speed(worker: Worker, threads: int, steps: int) -> float:
    """Samples per second by the clock."""
    return worker.speed("float32", 256, threads, steps)["wall"]


def slowdowns(found: dict[str, list[float]]) -> dict[str, Any]:
    """Median speeds, and how many times slower than the fair share training is beside a busy process: the median of the
    rounds, with one thread and with one for each core."""
    fair = [
        max(one, every * (CORES - 1) / CORES)
        for one, every in zip(found["alone, 1 threads"], found[f"alone, {CORES} threads"], strict=True)
    ]
    slower = {
        str(threads): statistics.median(f / s for f, s in zip(fair, found[f"beside, {threads} threads"], strict=True))
        for threads in (1, CORES)
    }
    return {"samples_per_second": {k: statistics.median(v) for k, v in found.items()}, "times_slower": slower}


@click.command()
@click.option("--data", default="demo", show_default=True, metavar="SOURCE")
@click.option("--rounds", default=5, show_default=True)
@click.option("--steps", default=40, show_default=True, help="Steps in each turn.")
def main(data: str, rounds: int, steps: int) -> None:
    result: dict[str, Any] = {}
    for policy in ("PASSIVE", "ACTIVE"):
        worker = Worker(WORKER.parent.parent, data, {"OMP_WAIT_POLICY": policy})
        result[policy] = slowdowns(rounds_of(worker, rounds, steps))
        worker.process.communicate()
        click.echo(f"{policy}: {json.dumps(result[policy])}")
    command = " ".join(["python", "benchmarks/busy.py", *sys.argv[1:]])
    found = {"command": command, "cores": CORES, "load_average": os.getloadavg()[0], "rounds": rounds, "steps": steps}
    write_json(RESULT, found | {"waiting": result, "made_by": made_by()})


if __name__ == "__main__":
    main()
