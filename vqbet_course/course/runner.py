"""Run the lessons: the engine of `vqbet-course course` and of `make course`.

Lessons run in processes of their own, two at a time, each kernel with its share of the cores.
"""

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from vqbet_course.core.errors import BadInput
from vqbet_course.core.executor import when_parent_ends
from vqbet_course.core.io import write_text
from vqbet_course.core.places import LESSONS, PACKAGE, ROOT, find_lessons
from vqbet_course.course.executed import (
    LessonFailure,
    LessonResult,
    describe_crash,
    figures_of,
    find_failure,
    headline_of,
    read_executed,
    title_of,
    videos_of,
)
from vqbet_course.course.lesson_page import as_html, neighbours_of
from vqbet_course.course.profiles import CELL_TIMEOUT_S
from vqbet_course.course.report import Progress, Report, print_results

AT_A_TIME = 2
STOPPING_S = 20.0  # what a kernel gets to stop after Ctrl-C


def run_course(
    out: Path,
    profile: str = "quick",
    only: Sequence[str] | None = None,
    folder: Path = LESSONS,
    jobs: int | None = None,
) -> list[LessonResult]:
    """Run the lessons of `folder`, `jobs` at a time, and print a table of them; returns their results in order.

    `out` gets `NN_name.ipynb` and `NN_name.html` of each lesson, `report.html` and `report.json`. A failing
    lesson does not stop the others; Ctrl-C leaves the report of what ran. Raises BadInput: unknown lesson.
    """
    from rich.console import Console

    lessons = find_lessons(folder, only)
    jobs = min(jobs or AT_A_TIME, available_cores(), len(lessons))
    out.mkdir(parents=True, exist_ok=True)
    for half_made in out.glob(".running-*"):  # of a process that was killed
        shutil.rmtree(half_made)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    report = Report(out, profile, planned=[lesson.stem for lesson in lessons])
    try:
        with lesson_environment(jobs), Progress(lessons, out, console, jobs) as progress:
            for result in run_lessons(
                [in_a_writable_place(lesson, out) for lesson in lessons], out, profile, jobs, progress.at
            ):
                report.add(result)
                progress.finished(result)
    except KeyboardInterrupt:
        report.interrupted()
        raise
    finally:
        if report.results:
            print_results(report.results, console)
            console.print(f"\nReport: {out / 'report.html'}", soft_wrap=True)
    return report.results


def in_a_writable_place(lesson: Path, out: Path) -> Path:
    """The lesson itself; of an installed wheel's lessons, a copy below `out`, beside the results that lessons read."""
    if ROOT != PACKAGE or lesson.parent != LESSONS:
        return lesson
    copies = out / "installed"
    for name in ("nbs", "benchmarks"):
        shutil.copytree(ROOT / name, copies / name, dirs_exist_ok=True)
    return copies / "nbs" / lesson.name


# --- processes ----------------------------------------------------------------------------------------------


class Worker:
    """A process that runs lessons one after the other; `connection` brings what it says, `lesson` is at work."""

    def __init__(self, out: Path, profile: str) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self.process = spawn.Process(target=work, args=(theirs, out, profile))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # also in the process, until `work` is ready for it
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()
        self.lesson: Path | None = None
        self.begun = 0.0

    def begin(self, lesson: Path | None) -> None:
        """Send the next lesson, or None: there is no more, and the process ends."""
        self.lesson, self.begun = lesson, time.perf_counter()
        self.connection.send(lesson)

    def heard(self) -> int | LessonResult:
        """The position of the cell that starts, or the result of the lesson; of a process that died, a failure."""
        assert self.lesson is not None
        try:
            message = self.connection.recv()
        except EOFError:
            self.process.join()
            died = f"the process that ran it died (exit status {self.process.exitcode})"
            message = LessonResult(
                self.lesson.stem,
                self.lesson.stem,
                time.perf_counter() - self.begun,
                failure=LessonFailure("its process", "", died),
            )
        if isinstance(message, Exception):
            raise message
        return message

    def stop(self) -> None:
        """End the process and the kernel that it runs."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGINT)
        self.connection.close()
        self.process.join(STOPPING_S)
        self.process.kill()
        self.process.join()


def run_lessons(
    lessons: Sequence[Path], out: Path, profile: str, jobs: int, at: Callable[[str, int], None]
) -> Iterator[LessonResult]:
    """Run lessons in `jobs` processes; yields each result when it is there.

    `at` is told the lesson's name and the position of every cell that starts; -1: its kernel does."""
    left = iter(lessons)
    workers = [Worker(out, profile) for _ in range(jobs)]

    def next_for(worker: Worker) -> None:
        worker.begin(lesson := next(left, None))
        if lesson is not None:
            at(lesson.stem, -1)

    try:
        for worker in workers:
            next_for(worker)
        while busy := {worker.connection: worker for worker in workers if worker.lesson is not None}:
            for connection in wait(busy):
                worker = busy[connection]  # type: ignore[index]
                assert worker.lesson is not None
                message = worker.heard()
                if isinstance(message, int):
                    at(worker.lesson.stem, message)
                    continue
                if not worker.process.is_alive():
                    workers[workers.index(worker)] = worker = Worker(out, profile)
                next_for(worker)
                yield message
    finally:
        for worker in workers:
            worker.stop()


def work(connection: Connection, out: Path, profile: str) -> None:
    """What a worker does: run the lessons that come, tell of every cell and every result, until None comes.

    The process has a session of its own, so that Ctrl-C reaches it once, from its parent; it ends with its parent.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands down SIG_IGN
    when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGINT))
    with suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        while lesson := connection.recv():
            try:
                message: LessonResult | Exception = run_lesson(lesson, out, profile, on_cell=connection.send)
            except (BadInput, OSError) as error:  # the disk is full
                message = error
            connection.send(message)


# --- a lesson -----------------------------------------------------------------------------------------------


def run_lesson(
    lesson: Path,
    out: Path,
    profile: str = "quick",
    on_cell: Callable[[int], None] = lambda cell: None,
    timeout: float | None = None,
) -> LessonResult:
    """Run one lesson with papermill, judge its executed copy, put it into `out` as a notebook and as HTML.

    `on_cell` is told the position of each cell when it starts; `timeout`: seconds per cell (the profile's).
    """
    timeout = timeout or CELL_TIMEOUT_S[profile]
    started, position, crash = time.perf_counter(), -1, None

    def note(cell: Mapping[str, Any], cell_index: int) -> None:
        nonlocal position
        position = cell_index
        on_cell(cell_index)

    with tempfile.TemporaryDirectory(dir=out, prefix=".running-") as scratch:
        copy = Path(scratch) / lesson.name
        crash = execute_lesson(lesson, copy, profile, note, timeout)
        seconds = time.perf_counter() - started
        notebook = read_executed(copy)
        if copy.exists():
            os.replace(copy, out / lesson.name)
    if notebook is None:
        failure = LessonFailure("the notebook file", "", describe_crash(crash, timeout))
        return LessonResult(lesson.stem, lesson.stem, seconds, failure=failure)
    page = f"{lesson.stem}.html"
    title = title_of(notebook) or lesson.stem
    write_text(out / page, as_html(notebook, title, neighbours_of(lesson)))
    return LessonResult(
        lesson.stem,
        title,
        seconds,
        headline=headline_of(notebook),
        failure=find_failure(notebook, crash, position, timeout),
        figures=figures_of(notebook, title),
        videos=videos_of(notebook),
        page=page,
    )


def execute_lesson(
    lesson: Path, copy: Path, profile: str, on_cell_start: Callable[[Mapping[str, Any], int], None], timeout: float
) -> Exception | None:
    """Run a lesson into `copy`; returns what ended it early other than an error in a cell, which the copy holds."""
    import logging

    import papermill

    for chatter in ("papermill", "asyncio"):  # what they would say of a failure, the result says better
        logging.getLogger(chatter).setLevel(logging.CRITICAL)
    try:
        papermill.execute_notebook(
            lesson,
            copy,
            parameters={"profile": profile},
            kernel_name="python3",
            language="python",
            cwd=lesson.parent,
            progress_bar=False,
            execution_timeout=timeout,
            coalesce_streams=True,
            on_cell_start=on_cell_start,
            extra_arguments=["--log-level=CRITICAL"],
        )
    except papermill.PapermillExecutionError:
        return None
    except Exception as error:  # a dead kernel, a timeout, a file that is no notebook
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        return error
    return None


@contextmanager
def lesson_environment(jobs: int = 1) -> Iterator[None]:
    """What kernels inherit: this environment's kernel, no network, inline figures, a share of the cores for each of
    `jobs` kernels that run at a time."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, available_cores() // jobs)))
    with tempfile.TemporaryDirectory(prefix="vqbet-course-") as ipython:
        wanted = {
            "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),  # before all kernels of the user's
            "IPYTHONDIR": ipython,  # no start-up files and no history of the user's
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "WANDB_MODE": "disabled",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "VQBET_COURSE_FRAMES": "1",  # explorers draw frames for pages without a kernel
            "PYGAME_HIDE_SUPPORT_PROMPT": "1",
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,  # torch takes this number for both, and more threads than cores crawl
        }
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
