"""How long it takes to grade a class, and how much memory the grader itself needs: benchmarks/results/grading.json

    python benchmarks/grading.py --submissions 500 --jobs 2     one submission of every lab alone, then a class
    python benchmarks/grading.py --submissions 500 --dask       the same class on Dask, with two workers, one killed

A class has one lab; about every second student makes a mistake that the lab knows, and every tenth hands in the untouched
edition. The first of them are graded again with one job, and the reports compared byte for byte. On Dask, one of the two
workers is killed after a fifth of the class; the scores are compared with those of the first command. Each command
replaces its own part of the result file. Scoring only (`--no-execute`).

The grader itself is the command's process and the judges (on Dask, the workers), without the sandboxes. Its memory, at its
highest, in two ways: what it holds itself (own), and that with the pages of files that it has mapped (rss), nearly all of
them PyTorch's libraries, which every sandbox shares and which the kernel drops when it needs the room. A Python that has
only imported torch is measured beside it. `memory` has samples: seconds, submissions graded, MB that the grader, and MB
that all processes with the sandboxes hold themselves; `growth_mb` is how much more the grader held, at its highest, during
the last hundred submissions than during the first. `cpu_seconds` are those of all processes, sandboxes included: on a
machine with other work they say more than `seconds`.
"""

import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
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
    """What this process's children and the processes below them use, sampled while they run."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.started = time.monotonic()
        self.most = {"own": 0, "rss": 0}
        self.cpu: dict[tuple[int, float], float] = {}
        self.over_time: list[tuple[int, int, int, int]] = []

    def sample(self, command: psutil.Process) -> None:
        """Take one sample."""
        below = psutil.Process().children(recursive=True)
        forked = [p for p in below if "python" in p.name() and "runner.py" in " ".join(p.cmdline())]
        runners = [p for p in forked if p.ppid() not in {other.pid for other in forked}]
        judges = [p for p in below if p == command or "multiprocessing" in " ".join(p.cmdline())]
        held = [memory(process) for process in judges]
        self.most = {kind: max(size, sum(sizes[kind] for sizes in held)) for kind, size in self.most.items()}
        for process in {*below}.difference(forked) | {*runners}:
            waited_for = (
                4 if process in runners else 2
            )  # a runner's exercises are its children, most shorter than a sample
            self.cpu[process.pid, process.create_time()] = sum(process.cpu_times()[:waited_for])
        passed = time.monotonic() - self.started
        if not self.over_time or passed - self.over_time[-1][0] >= SAMPLE_S:
            sandboxes = sum(memory(process)["own"] for process in runners)
            own = sum(sizes["own"] for sizes in held)
            done = sum(1 for _ in self.out.glob("students/*/report.json"))
            self.over_time.append((round(passed), done, round(own / 1e6), round((own + sandboxes) / 1e6)))

    def growth(self, submissions: int) -> int | None:
        """By how many MB the highest memory of the last hundred submissions lies above that of the first; None for fewer
        than two hundred, and of processes that start no memory is counted."""
        first = [own for _, done, own, _ in self.over_time if 0 < done <= 100]
        last = [own for _, done, own, _ in self.over_time if done > submissions - 100]
        return max(last) - max(first) if submissions >= 200 and first and last else None


def graded(
    folder: Path, out: Path, submissions: int, *options: str, on_sample: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Seconds of grading a folder into another, and what the grader used."""
    watch = Watch(out)
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
        "growth_mb": watch.growth(submissions),
        "memory": watch.over_time,
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

        found = graded(folder, out, submissions, "--dask", cluster.scheduler_address, on_sample=kill_one)
    assert killed, "no worker was killed"
    return {**found, "options": "--dask ADDRESS", "worker_killed_after": killed[0]}


def torch_alone() -> dict[str, int]:
    """Memory, in MB, of a Python that has imported torch and nothing else."""
    with psutil.Popen(
        [sys.executable, "-c", "import sys, torch; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        return {f"{kind}_mb": round(size / 1e6) for kind, size in memory(process).items()}


def reports(out: Path) -> dict[str, bytes]:
    """The reports of a class by student, byte for byte."""
    return {path.parent.name: path.read_bytes() for path in out.glob("students/*/report.json")}


def versions() -> dict[str, Any]:
    """What the results depend on besides the lessons."""
    bwrap = subprocess.run(["bwrap", "--version"], capture_output=True, text=True).stdout.split()
    packages = {name: version(name) for name in ("vqbet_course", "numpy", "safetensors", "distributed")}
    return made_by() | packages | {"bubblewrap": bwrap[-1] if bwrap else None, "kernel": platform.release()}


def scores(out: Path) -> list[float]:
    """The scores of a class, in the order of its students."""
    return [json.loads(report)["score"] for _, report in sorted(reports(out).items())]


def alone_and_together(
    home: Path, a_class: Path, submissions: int, jobs: int, lab: str, compared: int, seed: int
) -> Any:
    """A submission of every lab, a class, and its first again with one job."""
    alone = {name: graded(write_class(home / name, name, 1, seed), home / f"{name} grades", 1) for name in all_labs()}
    together = graded(a_class, home / "together", submissions, "--jobs", str(jobs))
    one_by_one = graded(write_class(home / "some", lab, compared, seed), home / "one by one", compared)
    said, again = reports(home / "together"), reports(home / "one by one")
    assert (len(said), len(again)) == (submissions, compared)
    return {
        "import_torch": torch_alone(),
        "one_submission": {name: found | {"memory": None} for name, found in alone.items()},
        "class": {"lab": lab, "submissions": submissions, "jobs": jobs, "seed": seed, **together},
        "one_job": {"submissions": compared, **one_by_one, "differing_reports": differing(again, said)},
        "scores": scores(home / "together"),
    }


def on_dask(home: Path, a_class: Path, submissions: int, lab: str, seed: int, stored: dict[str, Any]) -> dict[str, Any]:
    """A class on two workers, one of which is killed, and in how many scores it differs from the stored one."""
    found = graded_by_two_workers(a_class, home / "dask", submissions)
    got = scores(home / "dask")
    assert len(got) == submissions
    about = {"lab": lab, "submissions": submissions, "seed": seed}
    same_class = all(stored.get("class", {}).get(name) == value for name, value in about.items())
    differ = sum(one != other for one, other in zip(got, stored["scores"], strict=True)) if same_class else None
    return {"two_dask_workers_one_killed": about | found | {"differing_scores": differ}}


@click.command()
@click.option("--submissions", default=500, show_default=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--dask", is_flag=True, help="Only the class on Dask, with two workers, one of which is killed.")
@click.option("--lab", default="02_residual_vq", show_default=True, help="The lab of the class.")
@click.option("--compared", default=20, show_default=True, help="How many of them are graded with one job, too.")
@click.option("--seed", default=0, show_default=True, help="Draws who makes which mistake.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def main(submissions: int, jobs: int, dask: bool, lab: str, compared: int, seed: int, out: Path) -> None:
    stored = json.loads(out.read_text()) if out.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        a_class = write_class(home / "class", lab, submissions, seed)
        if dask:
            found = on_dask(home, a_class, submissions, lab, seed, stored)
        else:
            found = alone_and_together(home, a_class, submissions, jobs, lab, min(compared, submissions), seed)
    about = {"command": " ".join(["python", *sys.argv]), "made_by": versions()}
    part = "dask" if dask else "class"
    runs = stored.get("runs", {}) | {part: about}
    stored.pop("command", None)  # of results from before there were two parts
    made = {"commands": [run["command"] for run in runs.values()], "seed": seed, "made_by": about["made_by"]}
    write_json(out, stored | found | made | {"runs": runs})
    shown = found["two_dask_workers_one_killed" if dask else "class"]
    print(json.dumps({key: value for key, value in shown.items() if key != "memory"}, indent=1))


def differing(some: dict[str, bytes], others: dict[str, bytes]) -> int:
    """How many reports are not the same."""
    return sum(report != others[student] for student, report in some.items())


if __name__ == "__main__":
    main()
