"""`vqbet-course grade`: submissions in, grades out.

For each submission, the students' functions are taken from the notebook by exercise id, run in a sandbox on inputs
drawn for this grading alone, and judged in a process that never runs them. The command itself imports no torch: the
processes that grade do.
"""
import functools
import hashlib
import json
import os
import secrets
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from vqbet_course.core.errors import BadInput
from vqbet_course.core.executor import completed, executor
from vqbet_course.core.notebooks import Cell, source_of, without_directives
from vqbet_course.grading import report
from vqbet_course.grading.execution import execute
from vqbet_course.grading.grades import Grade, Marked, Ungradable, Verdict
from vqbet_course.grading.lessons import NBDEV, Lab, all_labs
from vqbet_course.grading.limits import Limits
from vqbet_course.grading.sandbox import Sandbox, bubblewrap_works, unenforced

LARGEST = 10 << 20
"""Bytes that a submitted notebook may have; parsed, it can take twenty times as much."""


@dataclass(frozen=True)
class Options:
    """How to grade: the limits of an exercise, seconds for all of a notebook, whether to run it for its reader."""

    limits: Limits = Limits()
    seconds: int = 120
    execute: bool = True


# --- reading a submission -----------------------------------------------------------------------------------


def read_submission(path: Path) -> bytes:
    """A submitted file. Links are not followed: they may lead to another student's work. Raises Ungradable."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        why = "it is a link, not a notebook" if path.is_symlink() else f"not readable: {error.strerror}"
        raise Ungradable(why) from None
    with open(file, "rb") as opened:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise Ungradable("not a file")
        if about.st_size > LARGEST:
            raise Ungradable(f"larger than {LARGEST >> 20} MB: clear its outputs")
        return opened.read(LARGEST)


def parse(data: bytes) -> tuple[Lab, list[Cell]]:
    """The lab that a notebook claims to be, and its code cells. Raises Ungradable."""
    try:
        notebook = json.loads(data)
        cells = [c for c in notebook["cells"] if c["cell_type"] == "code" and isinstance(source_of(c), str)]
        known = [cell for cell in cells if isinstance(cell["metadata"].get("exercise", {}), dict)]
        name = notebook["metadata"].get("vqbet_course", {}).get("lab")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Ungradable("not a notebook: its JSON is damaged, or in an old format") from None
    if not isinstance(name, str) or name not in all_labs():
        raise Ungradable("not a lab of this course: start from a notebook in labs/")
    return all_labs()[name], known


def find_answers(lab: Lab, cells: list[Cell]) -> tuple[dict[str, str], list[str]]:
    """The sources of the exercises by id, and what a reader should know about the notebook."""
    answers: dict[str, str] = {}
    notes = []
    for exercise in lab.exercises.values():
        found = [c for c in cells if c["metadata"].get("exercise", {}).get("id") == exercise.id]
        found.sort(key=lambda cell: cell.get("id") != exercise.cell_id)  # the released cell before any copy
        if len(found) > 1:
            notes.append(f"{exercise.id}: there are {len(found)} cells for it; the first one is graded")
        if found:  # JSON may hold halves of characters, which no file can
            answers[exercise.id] = source_of(found[0]).encode("utf-8", "replace").decode()
    held = Counter((cell.get("id"), source_of(cell).strip()) for cell in cells if isinstance(cell.get("id"), str))
    for cell in lab.locked:
        released = without_directives(source_of(cell), NBDEV).strip()
        if not held[cell["id"], released]:
            there = any(other.get("id") == cell["id"] for other in cells)
            first = released.splitlines()[0]
            notes.append(f"locked cell `{first}` was {'changed' if there else 'removed'}: graded with the released one")
    return answers, notes


# --- grading one submission ---------------------------------------------------------------------------------


def grade_submission(data: bytes, options: Options) -> Grade:
    """The grade of a submitted notebook. Raises Ungradable."""
    lab, cells = parse(data)
    answers, notes = find_answers(lab, cells)
    verdicts = score(lab, answers, options)
    executed, problem = execute(data, lab) if options.execute else (b"", "")
    notes += [problem] if problem else []
    notes += [f"not enforced on this machine: {what}" for what in unenforced()]
    marked = [Marked(e.id, e.points, verdicts[e.id]) for e in lab.exercises.values()]
    return Grade(lab.name, marked, notes, executed, digest_of(data))


def score(lab: Lab, answers: dict[str, str], options: Options) -> dict[str, Verdict]:
    """A verdict for every exercise of a lab, in the order of the lab.

    The order matters: a later exercise may build on the released solution of an earlier one, so that solution comes
    into the sandbox, but only after the earlier answer has been taken out of it.
    """
    from vqbet_course.grading.judging import judge_answer, make_job

    verdicts, left = {}, float(options.seconds)
    with Sandbox(lab) as sandbox:
        for exercise_id in lab.exercises:
            if exercise_id not in answers:
                verdicts[exercise_id] = Verdict("missing", "its cell is not in the notebook")
                continue
            limits = replace(options.limits, wall=min(options.limits.wall, int(left)))
            if limits.wall < 1:
                verdicts[exercise_id] = Verdict("stopped", "the exercises before took all the time of the notebook")
                continue
            seed = secrets.randbits(62)
            job = make_job(exercise_id, seed, answers[exercise_id])
            sandbox.start()
            started = time.monotonic()
            ended, answer = sandbox.run(job, limits)
            left -= time.monotonic() - started
            verdicts[exercise_id] = stopped(ended, limits) or judge_answer(exercise_id, seed, answer)
    return verdicts


def stopped(ended: str, limits: Limits) -> Verdict | None:
    """The verdict on an exercise that the sandbox had to stop, None for one that ended by itself."""
    if ended in ("out of time", "stuck"):
        return Verdict("stopped", f"still running after {limits.seconds} s of computing or {limits.wall} s in all")
    if ended == "out of memory":
        return Verdict("stopped", f"it took more than {limits.memory >> 20} MB of memory")
    return None


# --- grading a class ----------------------------------------------------------------------------------------


def find_submissions(target: Path) -> dict[str, Path]:
    """Submissions by name, which is their place below `target` without `.ipynb`. Raises BadInput if there are none."""
    if target.is_dir():
        found = [Path(folder) / name for folder, folders, names in os.walk(target)
                 for name in names if name.endswith(".ipynb") and ".ipynb_checkpoints" not in folder]
        if found:
            return {name_of(path.relative_to(target)): path for path in sorted(found)}
        raise BadInput(f"{target}: no .ipynb in this folder; give a submission or a folder of them")
    if target.suffix != ".ipynb" or not target.exists():
        raise BadInput(f"{target}: no such notebook or folder; give a submission or a folder of them")
    return {name_of(Path(target.name)): target}


def name_of(path: Path) -> str:
    """A submission's name as text: what is none, or would steer a terminal, is escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace").removesuffix(".ipynb") or path.name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def digest_of(data: bytes) -> str:
    """What a grade depends on: the submission, and the lessons that it is graded with."""
    return hashlib.sha256(lessons_digest() + data).hexdigest()


@functools.cache
def lessons_digest() -> bytes:
    cells = {name: [[source_of(cell), cell["metadata"]] for cell in lab.exported] for name, lab in all_labs().items()}
    return hashlib.sha256(json.dumps(cells).encode()).digest()


def grade(target: Path, out: Path, jobs: int = 1, dask: str | None = None, execute: bool = True,
          require_sandbox: bool = False, limits: Limits = Limits(), quiet: bool = False) -> dict[str, str]:
    """Grade a submission or a folder of them into `out`; returns {name: why} of those that could not be graded.

    A submission that has its grade in `out` keeps it, unless it or the lessons have changed. Raises BadInput.
    """
    submissions = find_submissions(target)
    if jobs < 1:
        raise BadInput(f"--jobs {jobs}: give at least 1")
    if require_sandbox and not bubblewrap_works():
        raise BadInput("bubblewrap does not work here, and --require-sandbox asks for it; install it "
                       "(apt-get install bubblewrap), or leave --require-sandbox out")
    problems: dict[str, str] = {}
    todo: dict[str, Path] = {}
    for name, path in submissions.items():
        try:
            if report.digest(report.folder_of(out, name)) != digest_of(read_submission(path)):
                todo[name] = path
        except Ungradable as problem:
            problems[name] = str(problem)
    run_class(todo, out, jobs, dask, Options(limits, execute=execute), problems, quiet)
    if target.is_dir():
        report.write_class(out, sorted(submissions), problems)
    return problems


def run_class(todo: dict[str, Path], out: Path, jobs: int, dask: str | None, options: Options,
              problems: dict[str, str], quiet: bool) -> None:
    """Grade the submissions in `todo`; each report is written as soon as its grade is there."""
    if not todo:
        return
    with executor(jobs, dask) as pool:
        done = completed(pool, grade_submission, ((name, (data, options)) for name, data in read_all(todo, problems)))
        for name, future in tqdm(done, total=len(todo), desc="grading", unit="submission", disable=quiet,
                                 dynamic_ncols=True, file=sys.stderr):
            try:
                report.write_student(report.folder_of(out, name), name, future.result())
            except Ungradable as problem:
                problems[name] = str(problem)
            except Exception as error:  # one submission must not cost the others their grades
                problems[name] = f"the grader failed on it ({type(error).__name__}: {' '.join(str(error).split())})"


def read_all(todo: dict[str, Path], problems: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of submissions, read when they are asked for; what cannot be read goes into `problems`."""
    for name, path in todo.items():
        try:
            yield name, read_submission(path)
        except Ungradable as problem:
            problems[name] = str(problem)
