"""How long it takes to grade a class, and how much memory the grader itself needs: benchmarks/results/grading.json

    .venv/bin/python benchmarks/grading.py --submissions 100 --jobs 2

One submission of every lab, alone; then a class with one lab, in which every second student makes a mistake that the
lab knows and every tenth hands in the untouched edition. Scoring only (`--no-execute`). The grader itself is the
command's process and the judge; its memory is their proportional set size, which counts pages shared with a sandbox
by their share, and the sandboxes are not in it.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vqbet_course.files import write_json
from vqbet_course.grading.checks import all_checks
from vqbet_course.grading.editions import LABS
from vqbet_course.grading.lessons import all_labs
from vqbet_course.results import made_by

COMMAND = Path(sys.executable).with_name("vqbet-course")


def submission(lab_name: str, student: int) -> str:
    """A student's notebook: solved, solved with a misconception, or untouched."""
    lab, notebook = all_labs()[lab_name], json.loads((LABS / f"{lab_name}.ipynb").read_text(encoding="utf-8"))
    mistaken = list(lab.exercises)[student % len(lab.exercises)] if student % 2 else None
    for cell in notebook["cells"]:
        about = cell["metadata"].get("exercise")
        if about and student % 10 != 9:
            solution, known = lab.exercises[about["id"]].solution, all_checks()[about["id"]].misconceptions
            wrong = about["id"] == mistaken
            cell["source"] = known[student % len(known)].source(solution) if wrong else solution
    return json.dumps(notebook)


def memory(pid: int) -> dict[str, int]:
    """Bytes of a process: resident, and its proportional share."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        fields = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in file if line.startswith(("Rss", "Pss:"))}
    return {"rss": fields["Rss"], "pss": fields["Pss"]}


def own_processes(pid: int) -> list[int]:
    """The command and its helpers, without the sandboxes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    names = {child: Path(f"/proc/{child}/cmdline").read_text().split("\0")[0] for child in children}
    return [pid, *(int(child) for child, name in names.items() if not name.endswith("bwrap"))]


def graded(folder: Path, jobs: int) -> dict[str, float]:
    """Seconds of grading a folder, and the most memory that the grader had."""
    with tempfile.TemporaryDirectory() as out:
        start, most = time.monotonic(), {"command_rss": 0, "grader_pss": 0}
        process = subprocess.Popen([COMMAND, "grade", folder, "--jobs", str(jobs), "--no-execute", "--out", out])
        while process.poll() is None:
            try:
                held = [memory(pid) for pid in own_processes(process.pid)]
                most["command_rss"] = max(most["command_rss"], held[0]["rss"])
                most["grader_pss"] = max(most["grader_pss"], sum(part["pss"] for part in held))
            except (FileNotFoundError, ProcessLookupError, KeyError):
                pass  # one of them has just ended
            time.sleep(0.2)
        assert process.returncode == 0, "grading failed"
        return {"seconds": round(time.monotonic() - start, 1)} | {k: round(v / 1e6) for k, v in most.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--submissions", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--lab", default="02_residual_vq", help="the lab of the class")
    options = parser.parse_args()
    alone = {}
    with tempfile.TemporaryDirectory() as folder:
        for lab in all_labs():
            path = Path(folder, "one.ipynb")
            path.write_text(submission(lab, 0))
            alone[lab] = graded(path, 1)["seconds"]
            print(f"{lab}: {alone[lab]} s", flush=True)
        path.unlink()
        for student in range(options.submissions):
            Path(folder, f"{student:03}.ipynb").write_text(submission(options.lab, student))
        result = {"one submission, seconds by lab": alone, "class": {
            "lab": options.lab, "submissions": options.submissions, "jobs": options.jobs,
            **graded(Path(folder), options.jobs)}, "made_by": made_by() | {"load": os.getloadavg()[0]}}
    print(json.dumps(result["class"], indent=2))
    write_json(Path(__file__).parent / "results" / "grading.json", result)


if __name__ == "__main__":
    main()
