"""The course runner: what it calls ok, what it calls failed, and what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

from vqbet_course.core.errors import BadInput
from vqbet_course.core.places import find_lessons, root_of
from vqbet_course.course.executed import LessonResult, find_failure
from vqbet_course.course.formulas import formula_svg, with_formulas
from vqbet_course.course.lesson_page import as_html, markdown_html, neighbours_of
from vqbet_course.course.report import Progress, Report, planned_seconds
from vqbet_course.course.runner import lesson_environment, run_course, run_lesson

Write = Callable[..., Path]

# A red pixel, shown as a picture with and without words; a video; a headline.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
PICTURE = f"""from IPython.display import display
display({{"image/png": "{PIXEL}"}}, raw=True, metadata={{"image/png": {{"alt": "a red dot"}}}})"""
VIDEO = """from IPython.display import HTML
HTML('<p>before</p><video controls><source type="video/mp4" src="data:video/mp4;base64,AAAA"></video>')"""
HEADLINE = ("headline", 'print("success 71 %,")\nprint("<b>coverage</b> 0.9")')


class Page(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def rows(out: Path) -> list[dict[str, object]]:
    return json.loads((out / "report.json").read_text())


def test_pictures_on_a_lessons_page_have_their_words() -> None:
    def cell(source: str, metadata: dict[str, object]) -> object:
        output = nbformat.v4.new_output("display_data", {"image/png": PIXEL}, metadata=metadata)
        return nbformat.v4.new_code_cell(source, outputs=[output])

    notebook = nbformat.v4.new_notebook(
        cells=[cell('#| fig-alt: a "red" <dot>\nshow()', {}), cell("show()", {"image/png": {"alt": "one more"}})]
    )
    page = Page(as_html(notebook, "Dots"))
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"] == ['a "red" <dot>', "one more"]


def lesson_notebook() -> nbformat.NotebookNode:
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "VBox()"}
    framed = nbformat.v4.new_output("display_data", widget | {"text/html": "<p id=frames>frames</p>"})
    alone = nbformat.v4.new_output("display_data", widget)
    picture = nbformat.v4.new_output("display_data", {"text/html": '<div class="without-kernel">a picture</div>'})
    words = (
        "# A lesson\n\n## One\n\nWith $x_i$ and `$PATH`, [before](00_a.ipynb#b), [words](glossary.ipynb), [out](https://a.b).\n\n"
        "$$\\frac{1}{N} \\lVert x \\rVert^2$$\n\n## Two"
    )
    return nbformat.v4.new_notebook(
        metadata={"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}}},
        cells=[
            nbformat.v4.new_markdown_cell(words),
            nbformat.v4.new_code_cell("import math"),
            nbformat.v4.new_code_cell("explore()", outputs=[framed, picture]),
            nbformat.v4.new_code_cell("explore()", outputs=[alone]),
            nbformat.v4.new_code_cell("explore()", outputs=[alone, picture]),
        ],
    )


def test_a_lessons_page_needs_no_network_and_leads_to_its_neighbours(write_lesson: Write) -> None:
    lessons = [write_lesson(name, title=name.upper()) for name in ("00_a", "01_b", "02_c")]
    html = as_html(lesson_notebook(), "A lesson", neighbours_of(lessons[1]))
    page = Page(html)
    addresses = [str(attributes.get("href")) for tag, attributes in page.tags if tag == "a"]
    assert {"00_a.html", "02_c.html", "00_a.html#b", "#One", "#Two", "https://a.b"} <= set(addresses)
    assert not [address for address in addresses if ".ipynb" in address]
    loaded = [value for tag, a in page.tags if tag != "a" for value in (a.get("src"), a.get("href")) if value]
    assert not [address for address in loaded if not address.startswith("data:")]
    assert "<p id=frames>" in html and "widget-view" not in html and "JupyterLab" in html
    assert html.count("a picture") == 1, "a picture stands for a widget that has no frames"
    assert sum(tag == "h1" for tag, _ in page.tags) == 1


def test_formulas_are_drawn_and_code_is_not() -> None:
    html = as_html(lesson_notebook(), "A lesson")
    labels = [str(a["aria-label"]) for tag, a in Page(html).tags if tag == "svg"]
    assert labels == ["x_i", r"\frac{1}{N} \lVert x \rVert^2"] and "<code>$PATH</code>" in html
    assert '<code class="formula">' in formula_svg(r"\nothing{x}"), "unknown TeX stays readable"


def prose() -> list[str]:
    """The Markdown cells of all lessons."""
    cells = [cell for path in find_lessons() for cell in nbformat.read(path, as_version=4).cells]
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


def test_the_formulas_of_the_lessons_can_be_drawn() -> None:
    formula = re.compile(r'<code class="formula">(.*?)</code>')
    left = [found for text in prose() for found in formula.findall(with_formulas(text))]
    assert len(left) <= 2, left  # \underbrace and cases, which matplotlib lacks


def test_pictures_of_the_lessons_are_part_of_their_pages_and_have_words() -> None:
    shown = [image for text in prose() for image in re.findall(r"<img [^>]+>", markdown_html(text))]
    assert shown and all('src="data:image/' in image and re.search(r'alt="[^"]{10}', image) for image in shown)


def test_code_beside_the_lesson_is_folded_on_its_page() -> None:
    html = as_html(lesson_notebook(), "A lesson")
    assert html.count("<details>") == 1 and "<summary>Imports (1 line)</summary>" in html


def test_a_lesson_that_ran_is_ok_and_its_outputs_are_collected(write_lesson: Write, tmp_path: Path) -> None:
    lesson = write_lesson("09_video", "", PICTURE, VIDEO, HEADLINE, title="Rollouts")
    with lesson_environment():
        result = run_lesson(lesson, tmp_path)
    assert result.ok, result.failure
    assert (result.lesson, result.title) == ("09_video", "Rollouts")
    assert result.headline == "success 71 %, <b>coverage</b> 0.9"
    assert [figure.alt for figure in result.figures] == ["a red dot"]
    [video] = result.videos
    assert video.startswith("<video") and video.endswith("</video>")
    assert "Rollouts" in (tmp_path / result.page).read_text()
    executed = nbformat.read(tmp_path / "09_video.ipynb", as_version=4)
    [injected] = [cell for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert 'profile = "quick"' in injected.source


FAILURES = {
    "an uncaught error": ("x = 1\n1 / 0", "ZeroDivisionError: division by zero"),
    "an exit that papermill forgives": ("import sys\nsys.exit(0)", "SystemExit 0 ended the lesson"),
    "a killed kernel": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel died"),
    "a kernel that leaves": ("import os\nos._exit(0)", "the kernel died"),
    "a cell without end": ("while True: pass", "still running after 3 s"),
}


@pytest.mark.parametrize(
    ("kind", "position"),
    [
        *[(kind, "in the middle") for kind in FAILURES if kind != "a kernel that leaves"],
        ("an exit that papermill forgives", "at the end"),
        pytest.param("a kernel that leaves", "in the middle", marks=pytest.mark.slow),
        pytest.param("a killed kernel", "at the end", marks=pytest.mark.slow),
    ],
)
def test_a_failing_cell_fails_the_lesson_and_is_named(
    kind: str, position: str, write_lesson: Write, tmp_path: Path
) -> None:
    source, error = FAILURES[kind]
    after = ["print(2)", HEADLINE] if position == "in the middle" else []
    lesson = write_lesson("04_bad", "print(1)", source, *after)
    with lesson_environment():
        result = run_lesson(lesson, tmp_path, timeout=3 if "without end" in kind else 60)
    assert result.failure is not None
    # before it: the title, the parameters, print(1)
    assert result.failure.where == f"cell 4 of {4 + len(after)}"
    assert result.failure.source == source
    assert error in result.failure.error
    assert "\n" not in result.failure.error and "\x1b" not in result.failure.traceback
    assert (tmp_path / "04_bad.ipynb").exists()


def test_a_broken_file_is_a_failed_lesson(tmp_path: Path) -> None:
    lesson = tmp_path / "03_torn.ipynb"
    lesson.write_text('{"cells": [')
    out = tmp_path / "out"
    out.mkdir()
    result = run_lesson(lesson, out)
    assert result.failure is not None and result.failure.where == "the notebook file"


def executed(*counts: int | None) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell("1", execution_count=count) for count in counts]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(" "), *cells])


@pytest.mark.parametrize(
    ("counts", "where", "error"),
    [
        ((1, None, None), "cell 3 of 4", "never ran"),
        ((1, 3, 2), "cell 4 of 4", "ran out of order"),
        ((None,), "cell 2 of 2", "never ran"),
        ((1, 1), "cell 3 of 3", "ran out of order"),
    ],
)
def test_the_executed_copy_is_judged(counts: tuple[int | None, ...], where: str, error: str) -> None:
    failure = find_failure(executed(*counts), None, 0, 1.0)
    assert failure is not None and (failure.where, failure.error) == (where, error)


def test_counts_in_order_are_a_pass() -> None:
    assert find_failure(executed(1, 2, 5), None, 0, 1.0) is None


def test_the_course_goes_on_after_a_failure(
    write_lesson: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lesson("00_good", PICTURE, ("headline", 'print("one [bold]line[/bold]")'))
    write_lesson("01_bad", "raise KeyError('<script>')", HEADLINE)
    write_lesson("09_video", VIDEO, HEADLINE)
    out = tmp_path / "out"
    results = run_course(out, folder=tmp_path / "nbs")
    assert [result.ok for result in results] == [True, False, True]
    assert [list(row) for row in rows(out)] == [["lesson", "ok", "seconds", "headline"]] * 3
    assert [(row["lesson"], row["ok"], row["headline"]) for row in rows(out)] == [
        ("00_good", True, "one [bold]line[/bold]"),
        ("01_bad", False, ""),
        ("09_video", True, "success 71 %, <b>coverage</b> 0.9"),
    ]
    printed = capsys.readouterr().out
    assert "one [bold]line[/bold]" in printed and str(out / "report.html") in printed
    assert "01_bad failed in cell 3 of 4: KeyError: '<script>'" in printed
    assert not list(out.glob(".*")), "nothing half-made stays"

    html = (out / "report.html").read_text()
    page = Page(html)
    assert "1 of 3 lessons failed" in html and "cell 3 of 4" in html
    assert html.index("<video") < html.index("<table"), "the video comes first"
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "b")]
    for _, attributes in page.tags:
        for target in (attributes.get("src"), attributes.get("href")):
            assert not target or target.startswith(("data:", "#")) or (out / target).exists(), target
    assert not re.search(r"url\(|@import", html)


def test_two_lessons_run_at_a_time_and_are_reported_in_order(write_lesson: Write, tmp_path: Path) -> None:
    wait = """import pathlib, time
pathlib.Path({mine!r}).write_text("here")
deadline = time.monotonic() + 60
while not pathlib.Path({other!r}).exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)
"""
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    write_lesson("00_one", wait.format(mine=one, other=two), "time.sleep(1)")
    write_lesson("01_two", wait.format(mine=two, other=one))
    results = run_course(tmp_path / "out", folder=tmp_path / "nbs", jobs=2)
    assert [(result.lesson, result.failure) for result in results] == [("00_one", None), ("01_two", None)]


def test_a_lesson_whose_process_dies_failed_and_the_next_one_runs(write_lesson: Write, tmp_path: Path) -> None:
    write_lesson("00_murder", "import os, signal; os.kill(os.getppid(), signal.SIGKILL)\nwhile True: pass")
    write_lesson("01_after", HEADLINE)
    results = run_course(tmp_path / "out", folder=tmp_path / "nbs", jobs=1)
    assert results[0].failure is not None and "died" in results[0].failure.error
    assert results[1].ok, results[1].failure


def test_the_time_left_shrinks_with_every_cell_and_lesson(write_lesson: Write, tmp_path: Path) -> None:
    lessons = [write_lesson(name, *["pass"] * 100) for name in ("00_one", "01_two")]
    progress = Progress(lessons, tmp_path / "out", Console(), jobs=2)

    def left() -> int:
        minutes, seconds = progress.left().removesuffix(" left").split(":")
        return 60 * int(minutes) + int(seconds)

    times = [left()]
    for step in (
        lambda: progress.at("00_one", 50),
        lambda: progress.at("01_two", 80),
        lambda: progress.finished(LessonResult("01_two", "", 1.0)),
    ):
        step()
        times.append(left())
    assert times == sorted(set(times), reverse=True)
    progress.finished(LessonResult("00_one", "", 1.0))
    assert progress.left() == "" and progress.table().row_count == 2


def test_lessons_of_a_clone_and_of_an_installed_package_are_found(tmp_path: Path) -> None:
    package = tmp_path / "place" / "vqbet_course"
    assert root_of(package) == package
    (tmp_path / "place" / "nbs").mkdir(parents=True)
    (tmp_path / "place" / "settings.ini").touch()
    assert root_of(package) == package.parent


def test_only_what_was_asked_for_runs(write_lesson: Write, tmp_path: Path) -> None:
    for number in range(3):
        write_lesson(f"{number:02d}_lesson", HEADLINE)
    out = tmp_path / "out"
    run_course(out, only=["2", "00"], folder=tmp_path / "nbs")
    assert [row["lesson"] for row in rows(out)] == ["00_lesson", "02_lesson"]


@pytest.mark.parametrize("only", [["99"], ["0x"], [""], ["00", "7"]])
def test_an_unknown_lesson_is_bad_input(only: list[str], write_lesson: Write, tmp_path: Path) -> None:
    write_lesson("00_lesson")
    with pytest.raises(BadInput, match="choose from 00"):
        find_lessons(tmp_path / "nbs", only)


def test_no_lessons_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no lessons in"):
        find_lessons(tmp_path)


def test_kernels_are_this_environments_and_stay_off_the_network(
    write_lesson: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "foreign" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "another python3", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "foreign"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    where = "import os, sys\nprint(sys.prefix, os.environ['HF_HUB_OFFLINE'])"
    lesson = write_lesson("00_where", ("headline", where))
    with lesson_environment():
        result = run_lesson(lesson, tmp_path)
    assert result.ok, result.failure
    assert result.headline == f"{sys.prefix} 1"
    assert os.environ["MPLBACKEND"] == "Agg" and "HF_HUB_OFFLINE" not in os.environ


def test_a_flood_of_prints_stays_small(write_lesson: Write, tmp_path: Path) -> None:
    lesson = write_lesson("00_flood", "for i in range(20_000): print(i)")
    with lesson_environment():
        assert run_lesson(lesson, tmp_path).ok
    assert (tmp_path / "00_flood.ipynb").stat().st_size < 500_000


def test_the_plan_comes_from_the_run_before(write_lesson: Write, tmp_path: Path) -> None:
    lesson = write_lesson("00_slow", "import time; time.sleep(1.5)")
    unseen = planned_seconds(lesson, tmp_path / "00_slow.ipynb")
    with lesson_environment():
        run_lesson(lesson, tmp_path)
    seen = planned_seconds(lesson, tmp_path / "00_slow.ipynb")
    assert len(unseen) == len(seen) == 5  # the kernel, the title, the parameters, injected ones, the cell
    assert unseen[-1] != seen[-1] and 1.5 < seen[-1] < 5


def wait_until(happened: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interrupt_leaves_a_report_and_no_kernel(write_lesson: Write, tmp_path: Path) -> None:
    write_lesson("00_quick", HEADLINE)
    marker = tmp_path / "kernel"
    say_who = f"import os, pathlib\npathlib.Path({str(marker)!r}).write_text(str(os.getpid()))"
    write_lesson("01_endless", f"{say_who}\nwhile True: pass")
    out = tmp_path / "out"
    code = (
        "import signal, sys; from pathlib import Path;"
        "from vqbet_course import cli; from vqbet_course.course import runner;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"  # a background shell hands down SIG_IGN
        f"runner.run_course.__defaults__ = ('quick', None, Path({str(tmp_path / 'nbs')!r}), None);"
        f"sys.exit(cli.main(['course', '--out', {str(out)!r}]))"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as running:
        try:
            both = (marker, out / "report.json")
            wait_until(lambda: all(path.exists() and path.read_text() != "" for path in both), seconds=200)
            running.send_signal(signal.SIGINT)
            printed, errors = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130
    assert "Traceback" not in errors and "00_quick" in printed
    assert [row["lesson"] for row in rows(out)] == ["00_quick"]
    assert "01_endless" in (out / "report.html").read_text()
    wait_until(lambda: not is_running(int(marker.read_text())), seconds=20)


def test_a_report_without_lessons_still_renders(tmp_path: Path) -> None:
    report = Report(tmp_path, "quick", planned=["00_lesson"])
    report.interrupted()
    assert rows(tmp_path) == [] and "00_lesson" in (tmp_path / "report.html").read_text()
