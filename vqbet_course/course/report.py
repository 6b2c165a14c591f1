"""Tell of a run of the course: a table while it runs, the results at its end, `report.html` and `report.json`."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

from vqbet_course import __version__
from vqbet_course.core.io import write_text
from vqbet_course.core.pages import render
from vqbet_course.course.executed import LessonResult, read_executed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

VIDEO_LESSON = "09"  # the video of its trained policy opens the report

STARTING_S = 5.0  # a kernel and its imports
CELL_S = 1.0  # a code cell that no earlier run has timed
TRUST_S = 30.0  # how much of a run must have gone by before its pace outweighs the plan


class Progress:
    """A table of all lessons, with the time left, while they run; where the output is no terminal, a line a lesson.

    The plan is what each cell took in the run before, or a second a cell.
    """

    def __init__(self, lessons: Sequence[Path], out: Path, console: "Console", jobs: int = 1) -> None:
        from rich.live import Live

        self.plan = {lesson.stem: planned_seconds(lesson, out / lesson.name) for lesson in lessons}
        self.position: dict[str, int] = {}  # of the cell that runs, by lesson; -1: its kernel starts
        self.results: dict[str, LessonResult] = {}
        self.jobs = jobs
        self.started = time.perf_counter()
        self.live = Live(console=console, transient=True, get_renderable=self.table, refresh_per_second=2)

    def __enter__(self) -> "Progress":
        if self.live.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.live.stop()

    def at(self, lesson: str, cell: int) -> None:
        """Note that the cell at position `cell` of `lesson` starts; -1: its kernel does."""
        self.position[lesson] = cell

    def finished(self, result: LessonResult) -> None:
        """Note a lesson that ended; where no table is drawn, print a line."""
        self.results[result.lesson] = result
        if not self.live.is_started:
            failure, left = result.failure, self.left()
            verdict = f"FAILED in {failure.where}: {failure.error}" if failure else "ok"
            line = f"{result.lesson:<20} {result.seconds:6.1f} s  {verdict}{f'  ({left})' if left else ''}"
            self.live.console.print(line, soft_wrap=True)

    def done(self, lesson: str) -> float:
        """How much of a lesson's planned seconds are behind it."""
        cells = self.plan[lesson]
        return sum(cells if lesson in self.results else cells[: self.position.get(lesson, -1) + 1])

    def left(self) -> str:
        """The time left, in words; empty when all lessons ended."""
        left = [sum(cells) - self.done(lesson) for lesson, cells in self.plan.items() if lesson not in self.results]
        if not left:
            return ""
        done = sum(map(self.done, self.plan)) / self.jobs
        pace = (time.perf_counter() - self.started + TRUST_S) / (done + TRUST_S)
        return f"{clock(pace * max(sum(left) / self.jobs, *left))} left"

    def table(self) -> "Table":
        """All lessons: what ran, what runs and how far it is, what is to come."""
        from rich.table import Table

        elapsed = clock(time.perf_counter() - self.started)
        table = Table(
            "lesson",
            "result",
            caption=f"{elapsed} gone, {self.left() or 'the report is written'}",
            caption_justify="left",
            header_style="bold",
        )
        table.add_column("seconds", justify="right")
        for lesson, cells in self.plan.items():
            if result := self.results.get(lesson):
                table.add_row(lesson, verdict_of(result), f"{result.seconds:.1f}")
            elif lesson in self.position:
                at = self.position[lesson]
                table.add_row(lesson, f"cell {at + 1} of {len(cells) - 1}" if at >= 0 else "starts", "")
            else:
                table.add_row(lesson, "", "")
        return table


def planned_seconds(lesson: Path, earlier: Path) -> list[float]:
    """Seconds for starting a lesson and for each of its cells, the injected one included."""
    notebook, executed = read_executed(lesson), read_executed(earlier)
    cells = notebook.cells if notebook else []
    if executed and len(executed.cells) == len(cells) + 1:
        timings = (cell.metadata.get("papermill", {}).get("duration") for cell in executed.cells)
        return [STARTING_S, *(seconds or 0.0 for seconds in timings)]
    return [STARTING_S, *(CELL_S if cell.cell_type == "code" else 0.0 for cell in cells), 0.0]


def clock(seconds: float) -> str:
    """Seconds as `m:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def verdict_of(result: LessonResult) -> "Text":
    """Whether a lesson ran, as a coloured word."""
    from rich.text import Text

    return Text("ok", "green") if result.ok else Text("FAILED", "bold red")


def print_results(results: Sequence[LessonResult], console: "Console") -> None:
    """Print the table of the lessons, then the source of every cell that failed."""
    from rich.table import Table
    from rich.text import Text

    table = Table("lesson", "result", header_style="bold")
    table.add_column("seconds", justify="right")
    table.add_column("headline", overflow="fold")
    for result in results:
        table.add_row(result.lesson, verdict_of(result), f"{result.seconds:.1f}", Text(result.headline))
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
        self.results.sort(key=lambda result: self.planned.index(result.lesson))
        self.write()

    def interrupted(self) -> None:
        """Note that the run ends before all planned lessons ran."""
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
        hero = next((r for r in self.results if r.videos and r.lesson.startswith(VIDEO_LESSON)), None)
        return render(
            "course_report.html",
            results=self.results,
            failed=[result for result in self.results if not result.ok],
            missing=[lesson for lesson in self.planned if lesson not in ran],
            stopped=self.stopped,
            hero=hero,
            pictured=[r for r in self.results if r.figures or r.videos[1 if r is hero else 0 :]],
            total=clock((datetime.now().astimezone() - self.started).total_seconds()),
            slowest=max((result.seconds for result in self.results), default=0.0),
            facts=self.facts(),
        )

    def facts(self) -> dict[str, str]:
        """What the results depend on: profile, time, machine, versions."""
        return {
            "Profile": self.profile,
            "Started": self.started.strftime("%Y-%m-%d %H:%M %Z"),
            "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "Python": platform.python_version(),
            "torch": version("torch"),
            "vqbet_course": __version__,
        }
