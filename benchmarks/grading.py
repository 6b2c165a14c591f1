"""How long it takes to grade a class, and how much memory the grader itself needs: benchmarks/results/grading.json

    python benchmarks/grading.py --submissions 100 --jobs 2

One submission of every lab, alone; then a class with one lab, in which about every second student makes a mistake that
the lab knows and every tenth hands in the untouched edition. The first of them are graded again with one job, and the
reports compared byte for byte. Scoring only (`--no-execute`). The grader itself is the command's process and the
judge, without the sandboxes. Its memory, at its highest, in two ways: what it holds itself (own), and that with the
pages of files that it has mapped (rss), nearly all of them PyTorch's libraries, which every sandbox shares and which
the kernel drops when it needs the room. A Python that has only imported torch is measured beside it.
`cpu_seconds` are those of all processes, sandboxes included: on a machine with other work they say more than `seconds`.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
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


def graded(folder: Path, out: Path, jobs: int) -> dict[str, Any]:
    """Seconds of grading a folder into another, and the most memory that the grader had."""
    start = time.monotonic()
    most: dict[str, int] = {"own": 0, "rss": 0}
    cpu: dict[tuple[int, float], float] = {}
    command = psutil.Popen([COMMAND, "grade", folder, "--jobs", str(jobs), "--no-execute", "--out", out])
    while command.poll() is None:
        try:
            below = command.children(recursive=True)
            own = [command, *(process for process in below if "multiprocessing" in " ".join(process.cmdline()))]
            held = [memory(process) for process in own]
            most = {kind: max(size, sum(sizes[kind] for sizes in held)) for kind, size in most.items()}
            cpu |= {(process.pid, process.create_time()): sum(process.cpu_times()[:2]) for process in [command, *below]}
        except psutil.Error:
            pass  # one of them has just ended
        time.sleep(0.1)
    assert command.returncode == 0, "grading failed"
    return {
        "jobs": jobs,
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(sum(cpu.values()), 1),
        "load": os.getloadavg()[0],
        **{f"grader_{kind}_mb": round(size / 1e6) for kind, size in most.items()},
    }


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
@click.option("--submissions", default=100, show_default=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--lab", default="02_residual_vq", show_default=True, help="The lab of the class.")
@click.option("--compared", default=20, show_default=True, help="How many of them are graded with one job, too.")
@click.option("--seed", default=0, show_default=True, help="Draws who makes which mistake.")
def main(submissions: int, jobs: int, lab: str, compared: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        alone = {lab: graded(write_class(home / lab, lab, 1, seed), home / f"{lab} grades", 1) for lab in all_labs()}
        together = graded(write_class(home / "class", lab, submissions, seed), home / "together", jobs)
        one_by_one = graded(write_class(home / "some", lab, compared, seed), home / "one by one", 1)
        said, again = reports(home / "together"), reports(home / "one by one")
    assert (len(said), len(again)) == (submissions, compared)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "seed": seed,
        "made_by": made_by(),
        "import_torch": torch_alone(),
        "one_submission": alone,
        "class": {"lab": lab, "submissions": submissions, **together},
        "one_job": {
            "submissions": compared,
            **one_by_one,
            "differing_reports": sum(report != said[student] for student, report in again.items()),
        },
        "scores": [json.loads(report)["score"] for _, report in sorted(said.items())],
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
