"""How long it takes to grade a class, and how much memory the grader itself needs: benchmarks/results/grading.json

    python benchmarks/grading.py --submissions 500 --jobs 2

One submission of every lab, alone; then a class with one lab, in which about every second student makes a mistake that
the lab knows and every tenth hands in the untouched edition. The same class goes to a Dask cluster of two workers, one of
which is killed after a fifth of it. The first of them are graded again with one job. All reports are compared byte for
byte. Scoring only (`--no-execute`).

The grader itself is the command's process and the judges, without the sandboxes. Its memory, at its highest, in two ways:
what it holds itself (own), and that with the pages of files that it has mapped (rss), nearly all of them PyTorch's
libraries, which every sandbox shares and which the kernel drops when it needs the room. A Python that has only imported
torch is measured beside it. `memory_mb` has what the grader, and what all processes with the sandboxes hold themselves,
after so many seconds: whether it grows with the class. `cpu_seconds` are those of all processes, sandboxes included: on
a machine with other work they say more than `seconds`.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import psutil

from vqbet_course.core.io import write_json
from vqbet_course.core.records import made_by
from vqbet_course.grading.checks import all_checks
from vqbet_course.grading.editions import LABS
from vqbet_course.grading.lessons import all_labs

COMMAND = Path(sys.executable).with_name("vqbet-course")
SAMPLE_S = 5
RESULT = Path(__file__).parent / "results" / "grading.json"


def submission(lab_name: str, g: random.Random) -> str:
    """A student's notebook: solved, solved with a misconception, or untouched."""
    lab, notebook = all_labs()[lab_name], json.loads((LABS / f"{lab_name}.ipynb").read_text(encoding="utf-8"))
    kind, mistaken = g.random(), g.choice(list(lab.exercises))
    for cell in notebook["cells"]:
        about = cell["metadata"].get("exercise")
        if about and kind < 0.9:
            solution, known = lab.exercises[about["id"]].solution, all_checks()[about["id"]].misconceptions
            wrong = kind < 0.5 and about["id"] == mistaken
            cell["source"] = g.choice(known).source(solution) if wrong else solution
    return json.dumps(notebook)


def write_class(folder: Path, lab: str, submissions: int, seed: int) -> Path:
    """A folder with a class's submissions: the first are the same in a class of any size."""
    folder.mkdir()
    g = random.Random(seed)
    for student in range(submissions):
        (folder / f"{student:03}.ipynb").write_text(submission(lab, g))
    return folder


def memory(process: psutil.Process) -> dict[str, int]:
    """Bytes that a process has in memory: what no file holds, and all of it."""
    info = process.memory_info()
    return {"own": info.rss - info.shared, "rss": info.rss}


class Watch:
    """What a command and the processes below it use, sampled while it runs."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.most = {"own": 0, "rss": 0}
        self.cpu: dict[tuple[int, float], float] = {}
        self.over_time: list[tuple[int, int, int]] = []

    def sample(self, command: psutil.Process) -> None:
        """Take one sample."""
        below = command.children(recursive=True)
        forked = [p for p in below if "python" in p.name() and "runner.py" in " ".join(p.cmdline())]
        runners = [p for p in forked if p.ppid() not in {other.pid for other in forked}]
        judges = [p for p in below if "multiprocessing" in " ".join(p.cmdline())]
        held = [memory(process) for process in (command, *judges)]
        self.most = {kind: max(size, sum(sizes[kind] for sizes in held)) for kind, size in self.most.items()}
        for process in {command, *below}.difference(forked) | {*runners}:
            waited_for = (
                4 if process in runners else 2
            )  # a runner's exercises are its children, most shorter than a sample
            self.cpu[process.pid, process.create_time()] = sum(process.cpu_times()[:waited_for])
        passed = time.monotonic() - self.started
        if not self.over_time or passed - self.over_time[-1][0] >= SAMPLE_S:
            sandboxes = sum(memory(process)["own"] for process in runners)
            own = sum(sizes["own"] for sizes in held)
            self.over_time.append((round(passed), round(own / 1e6), round((own + sandboxes) / 1e6)))


def graded(folder: Path, out: Path, *options: str, on_sample: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Seconds of grading a folder into another, and what the grader used."""
    watch = Watch()
    command = psutil.Popen([COMMAND, "grade", folder, "--no-execute", "--out", out, *options])
    while command.poll() is None:
        try:
            watch.sample(command)
        except psutil.Error:
            pass  # one of them has just ended
        on_sample()
        time.sleep(0.1)
    assert command.returncode == 0, "grading failed"
    return {
        "options": " ".join(options),
        "seconds": round(time.monotonic() - watch.started, 1),
        "cpu_seconds": round(sum(watch.cpu.values()), 1),
        "load": os.getloadavg()[0],
        **{f"grader_{kind}_mb": round(size / 1e6) for kind, size in watch.most.items()},
        "memory_mb": watch.over_time,
    }


def graded_by_two_workers(folder: Path, out: Path, submissions: int) -> dict[str, Any]:
    """The same on a Dask cluster of two workers, one of which is killed when a fifth is graded."""
    from distributed import LocalCluster

    killed: list[float] = []
    started = time.monotonic()
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).pid

        def kill_one() -> None:
            if not killed and sum(1 for _ in out.glob("students/*/report.json")) >= submissions / 5:
                os.kill(victim, signal.SIGKILL)
                killed.append(round(time.monotonic() - started, 1))

        found = graded(folder, out, "--dask", cluster.scheduler_address, on_sample=kill_one)
    assert killed, "no worker was killed"
    return {"seconds": found["seconds"], "load": found["load"], "worker_killed_after": killed[0]}


def torch_alone() -> dict[str, int]:
    """Memory, in MB, of a Python that has imported torch and nothing else."""
    with psutil.Popen(
        [sys.executable, "-c", "import torch; print(); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        return {f"{kind}_mb": round(size / 1e6) for kind, size in memory(process).items()}


def reports(out: Path) -> dict[str, bytes]:
    """The reports of a class by student, byte for byte."""
    return {path.parent.name: path.read_bytes() for path in out.glob("students/*/report.json")}


@click.command()
@click.option("--submissions", default=500, show_default=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--lab", default="02_residual_vq", show_default=True, help="The lab of the class.")
@click.option("--compared", default=20, show_default=True, help="How many of them are graded with one job, too.")
@click.option("--seed", default=0, show_default=True, help="Draws who makes which mistake.")
def main(submissions: int, jobs: int, lab: str, compared: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        alone = {lab: graded(write_class(home / lab, lab, 1, seed), home / f"{lab} grades") for lab in all_labs()}
        a_class = write_class(home / "class", lab, submissions, seed)
        together = graded(a_class, home / "together", "--jobs", str(jobs))
        by_dask = graded_by_two_workers(a_class, home / "dask", submissions)
        one_by_one = graded(write_class(home / "some", lab, compared, seed), home / "one by one")
        said, on_dask, again = (reports(home / name) for name in ("together", "dask", "one by one"))
    assert (len(said), len(on_dask), len(again)) == (submissions, submissions, compared)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "seed": seed,
        "made_by": made_by(),
        "import_torch": torch_alone(),
        "one_submission": alone,
        "class": {"lab": lab, "submissions": submissions, "jobs": jobs, **together},
        "two_dask_workers_one_killed": {**by_dask, "differing_reports": differing(on_dask, said)},
        "one_job": {"submissions": compared, **one_by_one, "differing_reports": differing(again, said)},
        "scores": [json.loads(report)["score"] for _, report in sorted(said.items())],
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


def differing(some: dict[str, bytes], others: dict[str, bytes]) -> int:
    """How many reports are not the same."""
    return sum(report != others[student] for student, report in some.items())


if __name__ == "__main__":
    main()
