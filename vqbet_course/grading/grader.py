"""`vqbet-course grade`: submissions in, grades out.

For each submission, the students' functions are taken from the notebook by exercise id, run in a sandbox on inputs
drawn for this grading alone, and judged in a process that never runs them. The command itself imports no torch: the
processes that grade do.
"""

import functools
import json
import secrets
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from vqbet_course.core.errors import BadInput
from vqbet_course.core.executor import Workers, completed, executor
from vqbet_course.core.notebooks import source_of
from vqbet_course.core.progress import progress
from vqbet_course.grading import gradebook, report
from vqbet_course.grading.answers import Answer
from vqbet_course.grading.execution import execute
from vqbet_course.grading.grades import Grade, Marked, Ungradable, Verdict
from vqbet_course.grading.handout import digest_of, keep_out_of_repositories
from vqbet_course.grading.lessons import Lab, all_labs
from vqbet_course.grading.limits import Limits
from vqbet_course.grading.sandbox import Sandbox, bubblewrap_works, kept_sandbox, sandbox_problem, unenforced
from vqbet_course.grading.submissions import (
    Submission,
    chosen,
    collection_of,
    copies,
    find_answers,
    find_submissions,
    is_one,
    read_notebook_of,
)


@dataclass(frozen=True)
class Options:
    """How to grade: the limits of an exercise, seconds for all of a notebook, whether to run it for its reader, and whether
    to refuse to grade without a sandbox."""

    limits: Limits = Limits()
    seconds: int = 120
    execute: bool = True
    require_sandbox: bool = False


@dataclass(frozen=True)
class Wanted:
    """Which submissions are graded: students or files of the folder by name, all without one; also those that have their
    grade, where `regrade` asks for new ones."""

    only: Sequence[str] = ()
    regrade: bool = False


NOT_ENFORCED = "not enforced on this machine"


# --- grading one submission ---------------------------------------------------------------------------------


def grade_submission(data: bytes, options: Options) -> Grade:
    """The grade of a submitted notebook. Raises Ungradable."""
    notebook = read_notebook_of(data)
    lab, (answers, notes) = notebook.lab, find_answers(notebook)
    verdicts = score(lab, answers, options)
    executed, problem = execute(data, lab) if options.execute else (b"", "")
    notes += [problem] if problem else []
    notes += [f"{NOT_ENFORCED}: {what}" for what in unenforced()]
    marked = [Marked(e.id, e.points, verdicts[e.id]) for e in lab.exercises.values()]
    return Grade(lab.name, marked, notes, executed, digest_of(data))


def score(lab: Lab, answers: dict[str, list[Answer]], options: Options) -> dict[str, Verdict]:
    """A verdict for every exercise of a lab, in the order of the lab.

    A later exercise may build on the released solution of an earlier one, so that solution comes into the sandbox with
    the later one's job, and leaves it with that: nothing that a job writes outlives it.
    """
    verdicts, left = {}, float(options.seconds)
    with kept_sandbox(lab, keep=bubblewrap_works()) as sandbox:  # without, an answer could change it for the next
        for exercise_id in lab.exercises:
            found = [Verdict("missing", "no cell of the notebook defines it")]
            for answer in answers.get(exercise_id, []):
                started = time.monotonic()
                limits = replace(options.limits, wall=min(options.limits.wall, int(left)))
                found.append(run_answer(sandbox, exercise_id, answer, limits))
                left -= time.monotonic() - started
                if found[-1].status == "passed":
                    break
            verdicts[exercise_id] = found[-1] if found[-1].status == "passed" else found[:2][-1]
    return verdicts


def run_answer(sandbox: Sandbox, exercise_id: str, answer: Answer, limits: Limits) -> Verdict:
    """The verdict on one answer, run in a sandbox with inputs of its own."""
    from vqbet_course.grading.judging import judge_answer, make_job

    if limits.wall < 1:
        return Verdict("stopped", "the exercises before took all the time of the notebook")
    seed = secrets.randbits(62)
    job = make_job(exercise_id, seed, answer)
    sandbox.start()
    ended, said = sandbox.run(job, limits)
    return stopped(ended, limits) or judge_answer(exercise_id, seed, answer.source, said)


def stopped(ended: str, limits: Limits) -> Verdict | None:
    """The verdict on an exercise that the sandbox had to stop, None for one that ended by itself."""
    if ended in ("out of time", "stuck"):
        return Verdict("stopped", f"still running after {limits.seconds} s of computing or {limits.wall} s in all")
    if ended == "out of memory":
        return Verdict("stopped", f"it took more than {limits.memory >> 20} MB of memory")
    if ended == "out of files":
        return Verdict("stopped", f"it made more than {limits.files} files")
    return None


# --- grading a class ----------------------------------------------------------------------------------------


@functools.cache
def lessons_digest() -> str:
    """A checksum of the exported cells of all labs: what grades depend on besides the submission."""
    cells = {name: [[source_of(cell), cell["metadata"]] for cell in lab.exported] for name, lab in all_labs().items()}
    return digest_of(json.dumps(cells).encode())


def grade(
    target: Path,
    out: Path,
    workers: Workers = Workers(),
    options: Options = Options(),
    wanted: Wanted = Wanted(),
    quiet: bool = False,
    rules: gradebook.Rules = gradebook.BEST,
) -> dict[str, str]:
    """Grade a submission, a folder or a zip file of them into `out`; returns {name: why} of those without a grade.

    A submission that has its grade in `out` keeps it, unless it or the lessons have changed, or a new one is wanted;
    what is not wanted stays as it is. `rules`: how the class's page makes grades of attempts. Raises BadInput.
    """
    submissions = find_submissions(target)
    graded = chosen(submissions, wanted.only) if wanted.only else submissions
    if workers.jobs < 1:
        raise BadInput(f"--jobs {workers.jobs}: give at least 1")
    rules.check(submission.late for submission in submissions)
    say_what_protects(options.require_sandbox, workers.dask)
    keep_out_of_repositories(out)
    with gradebook.opened(out) as store:
        if is_one(target):
            refuse_beside_a_class(store, target, out)
        elif not wanted.only:
            say_copies(submissions)
            say_gone(gradebook.follow(store, collection_of(target), {one.name for one in submissions}), target)
        run = ClassRun(out, store, options, wanted.regrade)
        run.grade(graded, workers, quiet)
        if not is_one(target):
            report.write_class(out, gradebook.existing(out), rules)
    return run.problems


def say_what_protects(require_sandbox: bool, dask: str | None) -> None:
    """Say where there is no sandbox, or not all of it. Raises BadInput where it is required."""
    if (problem := sandbox_problem()) and require_sandbox:
        raise BadInput(f"bubblewrap does not work here, and --require-sandbox asks for it: {problem}")
    if problem and dask is None:
        print(UNPROTECTED.format(problem=problem), file=sys.stderr)
    elif (missing := unenforced()) and require_sandbox:
        raise BadInput(f"--require-sandbox: {NOT_ENFORCED}: {'; '.join(missing)}; grade in a virtual machine")
    elif missing and dask is None:
        print(f"{NOT_ENFORCED}: {'; '.join(missing)}; --require-sandbox refuses to grade so", file=sys.stderr)


UNPROTECTED = (
    "grading without a sandbox, so that a submission can read and change what you can: bubblewrap does not work here: "
    "{problem}; --require-sandbox refuses to grade so"
)


def refuse_beside_a_class(store: sqlite3.Connection, target: Path, out: Path) -> None:
    """Raise BadInput where a file would be graded alone into the grades of a class, in which it would be a student."""
    files = gradebook.class_files(store)
    if not files:
        return
    for name, collection in files.items():
        if target.resolve().with_suffix("") == Path(collection, name):
            again = f"vqbet-course grade '{collection}' --regrade --only '{name}' --out '{out}'"
            raise BadInput(f"{target}: is part of a class that was graded into {out}; to grade it anew: {again}")
    raise BadInput(
        f"{out}: has the grades of a class, in which {target.name} alone would be one more student; put it into the "
        "class's folder and grade that, or choose another --out"
    )


def say_gone(names: list[str], target: Path) -> None:
    """Name the files that were in a class's folder or zip file and are gone."""
    for name in names:
        print(f"no longer in {target}: {name}", file=sys.stderr)


def say_copies(submissions: Sequence[Submission]) -> None:
    """Name the files that may be versions of one student's, and count as two students."""
    for name, copy in copies(submissions):
        print(
            f"{copy}: counts as another student than {name}; if it is a later version, keep one of the two",
            file=sys.stderr,
        )


class ClassRun:
    """One run over the submissions of a class: what has its grade, what is to be graded, and what cannot be."""

    def __init__(self, out: Path, store: sqlite3.Connection, options: Options, regrade: bool):
        self.out, self.store, self.options, self.regrade = out, store, options, regrade
        self.folders = gradebook.folders(store)
        self.problems: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.kept = self.graded = self.unprotected = self.left_out = 0
        self.bar = progress("grading", "file", quiet=True)

    def grade(self, submissions: Sequence[Submission], workers: Workers, quiet: bool) -> None:
        """Grade all that have no grade; each report is written as soon as its grade is there."""
        self.bar = progress("grading", "file", total=len(submissions), quiet=quiet)
        with self.bar:
            calls = self.missing(submissions)
            first = next(calls, None)
            if first is not None:  # processes are started for those alone that need them
                with executor(workers) as pool:
                    for submission, future in completed(pool, grade_submission, chain([first], calls)):
                        self.keep(submission, future)
        if not quiet:
            print(self.summary(), file=sys.stderr)

    def summary(self) -> str:
        """How many files there were, and what became of them."""
        total = self.graded + self.kept + len(self.problems) + self.left_out
        parts = [f"{self.graded} graded" + (f" ({self.unprotected} not fully protected)" if self.unprotected else "")]
        parts += [f"{self.kept} had their grade"] if self.kept else []
        parts += [f"{len(self.problems)} not graded"] if self.problems else []
        parts += [f"{self.left_out} left out, no submissions"] if self.left_out else []
        return f"{total} file{'' if total == 1 else 's'}: {', '.join(parts)}"

    def missing(self, submissions: Sequence[Submission]) -> Iterator[tuple[Submission, tuple[bytes, Options]]]:
        """The submissions without a grade, with the arguments of `grade_submission`; each is read when it is asked for,
        since a class need not fit into memory."""
        for submission in submissions:
            try:
                data = submission.read()
            except Ungradable as problem:
                gradebook.mark_found(self.store, submission, "")
                self.refuse(submission, "", str(problem))
                continue
            digest = self.digests[submission.name] = digest_of(data)
            gradebook.mark_found(self.store, submission, digest)
            if not self.regrade and self.has_grade(submission, digest):
                self.kept += 1
                self.bar.update()
            else:
                yield submission, (data, self.options)

    def has_grade(self, submission: Submission, digest: str) -> bool:
        """Whether a submission has its grade and its page; the page of another version of the file is replaced."""
        grade = gradebook.grade_by(self.store, submission, digest, lessons_digest())
        shown = report.shown_digest(self.folder(submission))
        if grade is None or not shown:
            return False
        if shown != digest:
            report.write_student(self.folder(submission), submission.name, grade, submission.student)
        return True

    def folder(self, submission: Submission) -> Path:
        """Where the pages of a submission go."""
        return report.folder_called(self.out, gradebook.folder_for(submission, self.folders))

    def keep(self, submission: Submission, future: "Future[Grade]") -> None:
        """Write what came of a submission; one must not cost the others their grades."""
        digest = self.digests[submission.name]
        try:
            grade = future.result()
            folder = self.folder(submission)
            report.write_student(folder, submission.name, grade, submission.student)
            gradebook.keep(self.store, submission, digest, grade, lessons=lessons_digest(), folder=folder.name)
            self.graded += 1
            self.unprotected += any(note.startswith(NOT_ENFORCED) for note in grade.notes)
            self.bar.update()
        except Ungradable as problem:
            self.refuse(submission, digest, str(problem))
        except (BrokenProcessPool, CancelledError):
            raise
        except Exception as error:
            why = f"the grader failed on it ({type(error).__name__}: {' '.join(str(error).split())})"
            self.refuse(submission, digest, why)

    def refuse(self, submission: Submission, digest: str, why: str) -> None:
        """Write down why a submission has no grade."""
        gradebook.keep(self.store, submission, digest, None, why, folder=self.folder(submission).name)
        if submission.left_out:
            self.left_out += 1
        else:
            self.problems[submission.name] = why
        self.bar.update()
