"""Run the lessons and report what happened: the engine of `vqbet-course course` and of `make course`.

A lesson is ok only when its executed copy shows it: every code cell ran, in order, without an error.
Papermill's word is not enough: it also calls a lesson done whose kernel was told to exit half-way.
"""
import base64
import errno
import json
import os
import platform
import re
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

from vqbet_course import __version__
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_text
from vqbet_course.core.notebooks import directives
from vqbet_course.core.pages import render
from vqbet_course.course.profiles import CELL_TIMEOUT_S

if TYPE_CHECKING:
    from rich.console import Console

LESSONS = Path(__file__).resolve().parents[2] / "nbs"
FILM_LESSON = "09"  # the film of its trained policy opens the report

WITH_WORDS = """{%- extends 'lab/index.html.j2' -%}
{%- block data_png -%}
<div class="jp-RenderedImage jp-OutputArea-output">
<img alt="{{ output.metadata.alt | escape_html }}" src="data:image/png;base64,{{ output.data['image/png'] }}">
</div>
{%- endblock -%}"""  # nbconvert's own template leaves the words out

STARTING_S = 5.0  # a kernel and its imports
CELL_S = 1.0  # a code cell that no earlier run has timed
TRUST_S = 30.0  # how much of a run must have gone by before its pace outweighs the plan


@dataclass(frozen=True)
class Figure:
    """A picture of an executed lesson: base64 of a PNG, and the words that stand for it."""

    png: str
    alt: str

    @property
    def wide(self) -> bool:
        """Whether the picture is more than twice as wide as it is high (a PNG says so in bytes 16 to 23)."""
        width, height = struct.unpack(">II", base64.b64decode(self.png[:32])[16:24])
        return width > 2 * height


@dataclass(frozen=True)
class Failure:
    """Where a lesson failed (`cell 7 of 23`), that cell's source, the error in one line, the traceback."""

    where: str
    source: str
    error: str
    traceback: str = ""


@dataclass(frozen=True)
class LessonResult:
    """What running one lesson gave; `headline` is what its cell tagged so printed, films are HTML."""

    lesson: str
    title: str
    seconds: float
    headline: str = ""
    failure: Failure | None = None
    figures: Sequence[Figure] = ()
    films: Sequence[str] = ()
    page: str = ""  # the executed lesson as HTML, beside the report

    @property
    def ok(self) -> bool:
        return self.failure is None


# --- running ------------------------------------------------------------------------------------------------


def find_lessons(folder: Path = LESSONS, only: Sequence[str] | None = None) -> list[Path]:
    """The lessons `NN_name.ipynb` of `folder` in order; with `only`, those numbers. Raises BadInput."""
    lessons = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not lessons:
        raise BadInput(f"no lessons in {folder}: run the course from a clone of its repository")
    if only is None:
        return list(lessons.values())
    numbers = {number.strip().zfill(2) if number.strip() else "(empty)" for number in only}
    if unknown := sorted(numbers - lessons.keys()):
        raise BadInput(f"no lesson {', '.join(unknown)}: choose from {', '.join(lessons)}")
    return [lessons[number] for number in lessons if number in numbers]


def run_course(
    out: Path, profile: str = "quick", only: Sequence[str] | None = None, folder: Path = LESSONS
) -> list[LessonResult]:
    """Run the lessons of `folder`, print a table of them, and leave executed copies and a report in `out`.

    `out` gets `NN_name.ipynb` and `NN_name.html` of each lesson, `report.html` and `report.json`. A failing
    lesson does not stop the others; Ctrl-C leaves the report of what ran. Raises BadInput: unknown lesson.
    """
    from rich.console import Console

    lessons = find_lessons(folder, only)
    out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    report = Report(out, profile, planned=[lesson.stem for lesson in lessons])
    try:
        with lesson_environment(), Watch(lessons, out, console) as watch:
            for lesson in lessons:
                watch.at(lesson.stem)
                result = run_lesson(lesson, out, profile, on_cell=partial(watch.at, lesson.stem))
                report.add(result)
                watch.finished(result)
    except KeyboardInterrupt:
        report.interrupted()
        raise
    finally:
        if report.results:
            print_results(report.results, console)
            console.print(f"\nReport: {out / 'report.html'}", soft_wrap=True)
    return report.results


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
    import logging

    import papermill

    for chatter in ("papermill", "asyncio"):  # what they would say of a failure, the result says better
        logging.getLogger(chatter).setLevel(logging.CRITICAL)
    timeout = timeout or CELL_TIMEOUT_S[profile]
    started, position, crash = time.perf_counter(), -1, None

    def note(cell: Mapping[str, Any], cell_index: int) -> None:
        nonlocal position
        position = cell_index
        on_cell(cell_index)

    with tempfile.TemporaryDirectory(dir=out, prefix=".running-") as scratch:
        copy = Path(scratch) / lesson.name
        try:
            papermill.execute_notebook(
                lesson, copy, parameters={"profile": profile}, kernel_name="python3", language="python",
                cwd=lesson.parent, progress_bar=False, execution_timeout=timeout, coalesce_streams=True,
                on_cell_start=note, extra_arguments=["--log-level=CRITICAL"],
            )
        except papermill.PapermillExecutionError:
            pass  # the copy holds it, with the cell
        except Exception as error:  # a dead kernel, a timeout, a file that is no notebook
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            crash = error
        seconds = time.perf_counter() - started
        notebook = read_notebook(copy)
        if copy.exists():
            os.replace(copy, out / lesson.name)
    if notebook is None:
        failure = Failure("the notebook file", "", describe_crash(crash, timeout))
        return LessonResult(lesson.stem, lesson.stem, seconds, failure=failure)
    page = f"{lesson.stem}.html"
    title = title_of(notebook) or lesson.stem
    write_text(out / page, as_html(notebook, title))
    return LessonResult(
        lesson.stem, title, seconds,
        headline=headline_of(notebook), failure=find_failure(notebook, crash, position, timeout),
        figures=figures_of(notebook, title), films=films_of(notebook), page=page,
    )


@contextmanager
def lesson_environment() -> Iterator[None]:
    """What kernels inherit: this environment's kernel, no network, the machine's cores, inline figures."""
    threads = str(available_cores())
    with tempfile.TemporaryDirectory(prefix="vqbet-course-") as ipython:
        wanted = {
            "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),  # before all kernels of the user's
            "IPYTHONDIR": ipython,  # no start-up files and no history of the user's
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "WANDB_MODE": "disabled",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYGAME_HIDE_SUPPORT_PROMPT": "1",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
            "MKL_NUM_THREADS": os.environ.get("MKL_NUM_THREADS", threads),
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


# --- reading executed lessons -------------------------------------------------------------------------------


def read_notebook(path: Path) -> Any:
    """The notebook at `path`, without the marks that papermill adds for an error; None if there is none."""
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception:  # missing, truncated, not JSON, not a notebook
        return None
    notebook.cells = [cell for cell in notebook.cells if "papermill-error-cell-tag" not in tags_of(cell)]
    return notebook


def tags_of(cell: Mapping[str, Any]) -> Sequence[str]:
    """The tags of a cell."""
    return cell["metadata"].get("tags", ())


def find_failure(notebook: Any, crash: Exception | None, position: int, timeout: float) -> Failure | None:
    """Why an executed copy is not the copy of a lesson that ran, or None when it is one.

    `crash` is what ended papermill early, if anything did, while the cell at `position` ran.
    """
    if crash is not None:
        why = describe_crash(crash, timeout)
        if position < 0:
            return Failure("its start", "", why)
        return failure_at(notebook, notebook.cells[position], why)
    last_count = 0
    for cell in notebook.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if error := error_of(cell):
            return failure_at(notebook, cell, describe_error(error))
        if cell.execution_count is None:
            return failure_at(notebook, cell, "never ran")
        if cell.execution_count <= last_count:
            return failure_at(notebook, cell, "ran out of order")
        last_count = cell.execution_count
    return None


def error_of(cell: Any) -> Any:
    """The error output of a cell, None without one."""
    return next((output for output in cell.get("outputs", ()) if output.output_type == "error"), None)


def failure_at(notebook: Any, cell: Any, error: str) -> Failure:
    """A failure of `cell`, counted as the lesson's reader counts: without the cell that papermill injects."""
    from nbconvert.filters import strip_ansi

    cells = [other for other in notebook.cells if "injected-parameters" not in tags_of(other)]
    number = next((n for n, other in enumerate(cells, 1) if other is cell), None)
    where = f"cell {number} of {len(cells)}" if number else "the parameters of the course"
    output = error_of(cell)
    return Failure(where, cell.source, error, strip_ansi("\n".join(output.traceback)) if output else "")


def describe_error(output: Mapping[str, Any]) -> str:
    """An error output in one line."""
    if output["ename"] == "SystemExit":
        return f"SystemExit {output['evalue']}".strip() + " ended the lesson: the cells after it never ran"
    return f"{output['ename']}: {' '.join(output['evalue'].split())}"


def describe_crash(crash: Exception | None, timeout: float) -> str:
    """What ended papermill early, in one line."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    if isinstance(crash, DeadKernelError):
        return "the kernel died while this cell ran"
    if isinstance(crash, CellTimeoutError):
        return f"still running after {timeout:g} s, the most that a cell may take"
    return f"{type(crash).__name__}: {' '.join(str(crash).split())[:300]}"


def title_of(notebook: Any) -> str:
    """The first heading of a notebook."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# +(.+)$", text, re.MULTILINE)
    return heading.group(1).strip() if heading else ""


def headline_of(notebook: Any) -> str:
    """What the cell tagged `headline` printed, as one line."""
    printed = "".join(
        output.text
        for cell in notebook.cells if cell.cell_type == "code" and "headline" in tags_of(cell)
        for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"
    )
    return " ".join(printed.split())


def figures_of(notebook: Any, title: str) -> list[Figure]:
    """The PNG outputs of a notebook, with their alternative text."""
    figures: list[Figure] = []
    for cell, output in outputs_of(notebook):
        if png := output.data.get("image/png"):
            alt = alternative_text(cell, output) or f"{title}, figure {len(figures) + 1}"
            figures.append(Figure(png.replace("\n", ""), alt))
    return figures


def alternative_text(cell: Any, output: Any) -> str | None:
    """The words that stand for a picture: from the output's metadata, or the cell's `#| fig-alt:` line."""
    return (output.metadata.get("image/png", {}).get("alt") or output.metadata.get("alt")
            or directives(cell.source).get("fig-alt"))


def films_of(notebook: Any) -> list[str]:
    """The `<video>` elements among the HTML outputs of a notebook."""
    pages = (output.data.get("text/html", "") for _, output in outputs_of(notebook))
    return [film for page in pages for film in re.findall(r"<video\b.*?</video>", page, re.DOTALL)]


def outputs_of(notebook: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of a cell and one of its outputs that carry data."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "data" in output:
                yield cell, output


def as_html(notebook: Any, title: str) -> str:
    """The notebook as one HTML page, its pictures with their alternative texts."""
    import logging

    from nbconvert import HTMLExporter

    for cell, output in outputs_of(notebook):
        output.metadata["alt"] = alternative_text(cell, output) or title
    exporter = HTMLExporter(template_name="lab", raw_template=WITH_WORDS)
    exporter.log.setLevel(logging.ERROR)
    return exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})[0]


# --- telling ------------------------------------------------------------------------------------------------


class Watch:
    """A progress bar with the time left, from what each cell took in the run before (or a second a cell)."""

    def __init__(self, lessons: Sequence[Path], out: Path, console: "Console") -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.plan = {lesson.stem: planned_seconds(lesson, out / lesson.name) for lesson in lessons}
        ends = list(accumulate(sum(cells) for cells in self.plan.values()))
        self.begin = dict(zip(self.plan, [0.0, *ends]))
        self.total = ends[-1]
        self.done = 0.0
        self.started = time.perf_counter()
        lesson, left = TextColumn("{task.description}"), TextColumn("{task.fields[left]}")
        columns = (lesson, BarColumn(), TimeElapsedColumn(), left)
        self.progress = Progress(*columns, console=console, transient=True)
        self.task = self.progress.add_task("", total=self.total, left="")

    def __enter__(self) -> "Watch":
        self.progress.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.progress.stop()

    def at(self, lesson: str, cell: int = -1) -> None:
        """The cell at position `cell` of `lesson` starts; -1: its kernel does."""
        self.done = self.begin[lesson] + sum(self.plan[lesson][: cell + 1])
        self.progress.update(self.task, completed=self.done, description=lesson, left=self.left())

    def finished(self, result: LessonResult) -> None:
        """A lesson ended: say so in a line that stays."""
        self.done = self.begin[result.lesson] + sum(self.plan[result.lesson])
        left = f"  ({self.left()})" if self.done < self.total else ""
        failure = result.failure
        verdict = f"FAILED in {failure.where}: {failure.error}" if failure else "ok"
        line = f"{result.lesson:<20} {result.seconds:6.1f} s  {verdict}{left}"
        self.progress.console.print(line, soft_wrap=True)

    def left(self) -> str:
        """The time left, in words."""
        pace = (time.perf_counter() - self.started + TRUST_S) / (self.done + TRUST_S)
        return f"{clock(pace * (self.total - self.done))} left"


def planned_seconds(lesson: Path, earlier: Path) -> list[float]:
    """Seconds for starting a lesson and for each of its cells, the injected one included."""
    notebook, executed = read_notebook(lesson), read_notebook(earlier)
    cells = notebook.cells if notebook else []
    if executed and len(executed.cells) == len(cells) + 1:
        timings = (cell.metadata.get("papermill", {}).get("duration") for cell in executed.cells)
        return [STARTING_S, *(seconds or 0.0 for seconds in timings)]
    return [STARTING_S, *(CELL_S if cell.cell_type == "code" else 0.0 for cell in cells), 0.0]


def clock(seconds: float) -> str:
    """Seconds as `m:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def print_results(results: Sequence[LessonResult], console: "Console") -> None:
    """Print the table of the lessons, then the source of every cell that failed."""
    from rich.table import Table
    from rich.text import Text

    table = Table("lesson", "result", header_style="bold")
    table.add_column("seconds", justify="right")
    table.add_column("headline", overflow="fold")
    for result in results:
        verdict = Text("ok", "green") if result.ok else Text("FAILED", "bold red")
        table.add_row(result.lesson, verdict, f"{result.seconds:.1f}", Text(result.headline))
    console.print()
    console.print(table)
    for result in results:
        if failure := result.failure:
            error = f"\n{result.lesson} failed in {failure.where}: {failure.error}"
            console.print(error, style="red", soft_wrap=True)
            console.print(indent(failure.source, "    "), soft_wrap=True)


@dataclass
class Report:
    """`report.html` and `report.json` of one run of the course, written anew after every lesson."""

    out: Path
    profile: str
    planned: Sequence[str]
    results: list[LessonResult] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())
    stopped: bool = False

    def add(self, result: LessonResult) -> None:
        """Take in a lesson that ran."""
        self.results.append(result)
        self.write()

    def interrupted(self) -> None:
        """The run ends before all planned lessons ran."""
        self.stopped = True
        self.write()

    def write(self) -> None:
        """Write both files atomically."""
        rows = [
            {"lesson": r.lesson, "ok": r.ok, "seconds": round(r.seconds, 1), "headline": r.headline}
            for r in self.results
        ]
        write_text(self.out / "report.json", json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        write_text(self.out / "report.html", self.html())

    def html(self) -> str:
        """The report as one self-contained page."""
        ran = {result.lesson for result in self.results}
        hero = next((r for r in self.results if r.films and r.lesson.startswith(FILM_LESSON)), None)
        return render(
            "course_report.html",
            results=self.results,
            failed=[result for result in self.results if not result.ok],
            missing=[lesson for lesson in self.planned if lesson not in ran],
            stopped=self.stopped,
            hero=hero,
            pictured=[r for r in self.results if r.figures or r.films[1 if r is hero else 0 :]],
            total=clock(sum(result.seconds for result in self.results)),
            slowest=max((result.seconds for result in self.results), default=0.0),
            facts={
                "Profile": self.profile,
                "Started": self.started.strftime("%Y-%m-%d %H:%M %Z"),
                "Machine": f"{platform.system()} {platform.machine()}, {available_cores()} cores",
                "Python": platform.python_version(),
                "torch": version("torch"),
                "vqbet_course": __version__,
            },
        )
