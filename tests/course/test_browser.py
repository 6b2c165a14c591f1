"""The lessons as their readers meet them: JupyterLab in a real Chromium, driven by keyboard and mouse."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import REPO, skip_without_chromium

from vqbet_course.course.lesson_page import as_html
from vqbet_course.course.runner import lesson_environment
from vqbet_course.widgets.frames import FrameControl, frames_html

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
SHOTS = REPO / "_runs" / "browser"
WAIT_MS = 300_000  # patience for a busy machine
SEED, LAST, AIM = 3, 8, (197.0, 256.6)  # an environment, the steps that the mouse drives, and where to
EXPLORERS = [
    """from vqbet_course import widgets
from vqbet_course.demos import load_demos
from vqbet_course.tasks import open_source
from vqbet_course.training.runs import load_run

run, demos = load_run("shipped"), load_demos(open_source("demo")).select(range(10))
moves = widgets.moves_of(run, demos)
widgets.move_explorer(moves)""",
    f"""from pathlib import Path
from IPython.display import HTML
from vqbet_course.tasks.pusht.demonstrator import solve

drive = widgets.Drive(seed={SEED})
for drive.target in solve({SEED}).done[:-{LAST}].tolist():  # a script brings the T almost home
    drive.step()
drive.target = None
display(widgets.drive_explorer(drive, Path("mine")))
HTML(f"<p id=start>{{len(drive.rows)}}</p>")""",
    """corrected = widgets.Drive(run, seed=100_000)
display(widgets.drive_explorer(corrected, Path("corrected")))
widgets.plot_drive(corrected)""",
    """widgets.cockpit_explorer(run, Path("cockpit"), seed=100_000)""",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
skip_without_chromium()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """JupyterLab as `make jupyter` starts it, over a copy of the lessons; its address, and the copy."""
    root = tmp_path_factory.mktemp("lab")
    shutil.copytree(REPO / "nbs", root / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    kernel = {"name": "python3", "display_name": "python3"}
    cells = [nbformat.v4.new_code_cell(source) for source in EXPLORERS]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, root / "nbs" / "explorers.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"--no-browser --port {port} --IdentityProvider.token= --LabApp.expose_app_in_browser=True"
    with lesson_environment(), open(root / "log", "w") as log:
        server = subprocess.Popen(
            [
                "make",
                "-f",
                REPO / "Makefile",
                "-o",
                "fresh",
                "jupyter",
                "READY=fresh",
                f"BIN={Path(sys.executable).parent}",
                f"ARGS={options}",
            ],
            cwd=root,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/api", server, root / "log")
            yield f"http://127.0.0.1:{port}/lab/tree/nbs", root / "nbs"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:  # a kernel that is still busy keeps it
                os.killpg(server.pid, signal.SIGKILL)
                server.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"JupyterLab did not start\n{log.read_text()[-3000:]}")


def opened(browser: Any, url: str, name: str) -> Any:
    """A page on a notebook whose kernel is ready."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{url}/{name}?reset")  # without the notebooks that another page has open
    page.wait_for_function(
        """name => { const shown = window.jupyterapp?.shell.currentWidget;
        return shown?.context?.path.endsWith(name)
            && shown.sessionContext.session?.kernel?.status === 'idle'; }""",
        arg=name,
    )
    return page


def run_all(page: Any) -> list[dict[str, Any]]:
    """Run all cells; of each code cell its source, execution count and errors."""
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    return page.evaluate("""() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
        .map((cell, at) => ({cell, at})).filter(({cell}) => cell.type === 'code')
        .map(({cell, at}) => ({at, source: cell.sharedModel.source, count: cell.executionCount,
            errors: cell.outputs.toJSON().filter(output => output.output_type === 'error')
                .map(output => output.evalue)}))""")


def go_to(page: Any, cell: int) -> None:
    """Scroll a cell into view."""
    page.evaluate(
        """async at => { const notebook = window.jupyterapp.shell.currentWidget.content;
        notebook.activeCellIndex = at; await notebook.scrollToItem(at, 'start'); }""",
        cell,
    )


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


@pytest.fixture(scope="module")
def tokens(browser: Any, lab: tuple[str, Path]) -> tuple[Any, list[dict[str, Any]]]:
    """Lesson 01 in the browser, with all its cells run."""
    page = opened(browser, lab[0], "01_tokens.ipynb")
    return page, run_all(page)


def test_lesson_01_runs_all_cells(tokens: tuple[Any, list[dict[str, Any]]]) -> None:
    page, cells = tokens
    assert not [cell for cell in cells if cell["errors"]]
    assert all(cell["count"] for cell in cells if cell["source"].strip())
    shot(page, "lesson_01")


def test_a_slider_moves_by_keyboard_and_the_picture_changes(tokens: tuple[Any, list[dict[str, Any]]]) -> None:
    page, cells = tokens
    go_to(page, next(cell["at"] for cell in cells if "token_usage_explorer(" in cell["source"]))
    picture = page.locator('img[alt^="Use of the codebook"]').first
    handle = page.locator(".jp-Cell", has=picture).locator(".noUi-handle").first
    assert "of 16 codes used" in picture.get_attribute("alt")
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('img[alt*="of 32 codes used"]')
    shot(page, "slider_moved")


@pytest.fixture(scope="module")
def explorers(browser: Any, lab: tuple[str, Path]) -> Any:
    """A page with the explorers of moves, of driving with and without a policy, and of decisions."""
    page = opened(browser, lab[0], "explorers.ipynb")
    assert not [cell["errors"] for cell in run_all(page) if cell["errors"]]
    return page


def test_a_cell_of_the_heat_map_is_chosen_by_keyboard_and_by_click(explorers: Any) -> None:
    page = explorers
    go_to(page, 0)
    picture = page.locator('.jupyter-widgets img[alt^="Heat map"]')
    before = pair_of(picture.get_attribute("alt"))
    moves = [1 if code == 0 else -1 for code in before]  # the first and the last code have one neighbour
    for slider, move in enumerate(moves):
        page.locator(".noUi-handle").nth(slider).focus()
        page.keyboard.press("ArrowRight" if move == 1 else "ArrowLeft")
    page.wait_for_selector(f'img[alt*="pair ({before[0] + moves[0]}, {before[1] + moves[1]})"]')
    box = picture.bounding_box()
    for x, y, pair in ((0.304, 0.539, (4, 4)), (0.350, 0.442, (3, 5))):  # centres of cells, in shares of the picture
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.wait_for_selector(f'img[alt*="pair {pair}"]')
    shot(page, "heat_map")


def board(page: Any, cell: int) -> dict[str, float]:
    """Where on the page the canvas of a cell lies."""
    go_to(page, cell)
    canvas = page.locator(".jp-Cell").nth(cell).locator("canvas")
    canvas.scroll_into_view_if_needed()
    return canvas.bounding_box()


def point(page: Any, on: dict[str, float], x: float, y: float) -> None:
    """Move the mouse to a place of the board, in its pixels."""
    page.mouse.move(on["x"] + x * on["width"] / 512, on["y"] + y * on["height"] / 512, steps=4)


def says(page: Any, cell: int, pattern: str) -> None:
    """Wait until the line below a board says so."""
    page.wait_for_function(
        """([cell, pattern]) => new RegExp(pattern).test(
        [...document.querySelectorAll('.jp-Cell')][cell]?.querySelector('[role=status]')?.textContent ?? '')""",
        arg=[cell, pattern],
    )


def test_an_episode_is_driven_with_the_mouse_and_saved(explorers: Any, lab: tuple[str, Path]) -> None:
    page, folder = explorers, lab[1]
    on = board(page, 1)
    start = int(page.locator("#start").inner_text())
    page.wait_for_timeout(300)
    says(page, 1, f"step {start},")  # nothing has moved while nobody drives
    point(page, on, *AIM)
    page.mouse.down()
    says(page, 1, "1 of 1 episodes solved")
    page.mouse.up()
    assert frames_in(folder / "mine") > start and not (folder / "mine-unsolved").exists()

    point(page, on, 100, 100)
    page.mouse.down()
    point(page, on, 140, 120)
    says(page, 1, r"step ([3-9]|\d\d+),")
    shot(page, "drive")
    page.mouse.up()
    page.locator(".jp-Cell").nth(1).get_by_role("button", name="new start").click()
    says(page, 1, "1 of 2 episodes solved")
    assert frames_in(folder / "mine-unsolved") >= 3 and frames_in(folder / "mine") > start
    results = json.loads((folder / "mine-results.json").read_text())["episodes"]
    assert [result["success"] for result in results] == [True, False]


def frames_in(dataset: Path) -> int:
    """The frames of a dataset of one episode at 10 Hz, driven by a mouse."""
    info = json.loads((dataset / "meta" / "info.json").read_text())
    assert info["total_episodes"] == 1 and info["fps"] == 10 and "intervention" in info["features"]
    assert json.loads((dataset / "meta" / "contract.json").read_text())["operator"].endswith("human, mouse")
    return info["total_frames"]


def test_the_mouse_takes_over_from_a_policy_and_lets_go(explorers: Any, lab: tuple[str, Path]) -> None:
    page, folder = explorers, lab[1]
    on = board(page, 2)
    page.locator(".jp-Cell").nth(2).get_by_role("button", name="let the policy drive").click()
    says(page, 2, r"taken over: 0 of ([3-9]|\d\d+) steps")
    point(page, on, 256, 450)
    page.mouse.down()
    says(page, 2, r"taken over: ([2-9]|\d\d+) of")
    page.mouse.up()
    shot(page, "take_over")
    page.locator(".jp-Cell").nth(2).get_by_role("button", name="new start").click()
    says(page, 2, "0 of 1 episodes solved")
    [result] = json.loads((folder / "corrected-results.json").read_text())["episodes"]
    assert 2 <= result["interventions"] < result["steps"] == frames_in(folder / "corrected-unsolved")


def test_the_keyboard_drives_and_gets_out_again(explorers: Any) -> None:
    page = explorers
    board(page, 1)
    page.locator(".jp-Cell").nth(1).locator("canvas").focus()
    page.keyboard.press("ArrowRight")
    says(page, 1, r"step ([2-9]|\d\d+),")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    page.wait_for_function("() => document.activeElement?.tagName !== 'CANVAS'")


def test_the_cockpit_shows_the_plan_and_looks_back(explorers: Any) -> None:
    page = explorers
    go_to(page, 3)
    cell = page.locator(".jp-Cell").nth(3)
    names = cell.locator("canvas").evaluate_all("all => all.map(canvas => canvas.getAttribute('aria-label'))")
    assert len(names) == 2 and all(names), "every canvas has a name"
    sliders = cell.locator(".noUi-handle").evaluate_all("all => all.map(handle => handle.getAttribute('aria-label'))")
    assert sliders == ["look back", "temperature"]
    assert not cell.locator(".without-kernel").is_visible(), "one picture, while a kernel runs"
    drives = cell.get_by_role("button", name="let the policy drive")
    drives.click()
    says(page, 3, r"step ([5-9]|\d\d+): the policy chose tokens \d·\d")
    drives.click()
    page.wait_for_timeout(1000)
    cell.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    shown = cell.locator('.jupyter-widgets img[alt^="step"]').get_attribute("alt")
    says(page, 3, re.escape(shown.split(":")[0]) + ": the policy chose")
    shot(page, "cockpit")


def test_a_board_is_seen_when_the_notebook_is_reopened(explorers: Any, browser: Any, lab: tuple[str, Path]) -> None:
    explorers.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page = opened(browser, lab[0], "explorers.ipynb")
    go_to(page, 3)
    page.locator(".jp-Cell").nth(3).locator('img[alt^="the board"]').wait_for()
    shot(page, "reopened")


def pair_of(alt: str) -> tuple[int, int]:
    found = re.search(r"pair \((\d+), (\d+)\)", alt)
    assert found is not None
    return int(found[1]), int(found[2])


FAINT = """() => [...document.querySelectorAll("main *, nav *")].filter(element => {
  if (element.closest("svg, details:not([open]) > :not(summary)")) return false;
  if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) return false;
  const parse = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = colour => {
    const [r, g, b] = colour.slice(0, 3).map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element, back = [0, 0, 0, 0];
  while (behind && back[3] === 0) {
    back = parse(getComputedStyle(behind).backgroundColor);
    if (back.length === 3) back.push(1);
    behind = behind.parentElement;
  }
  const [a, b] = [light(parse(getComputedStyle(element).color)), light(back)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
}).map(element => element.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_a_lessons_page_fits_can_be_read_and_asks_nothing_of_the_network(
    browser: Any, tmp_path: Path, theme: str, width: int
) -> None:
    frames = FrameControl("number", [0, 1, 2], ["none", "one", "two"], 1)
    pixel = '<img alt="{}" style="display: block; max-width: 100%" src="data:image/png;base64,' + PIXEL + '">'
    html = frames_html(lambda number: pixel.format(number), {"number": frames})
    output = nbformat.v4.new_output("display_data", {"text/html": html})
    wide = "| a | b |\n|---|---|\n| " + "word " * 40 + "| " + "w" * 200 + " |"
    lesson = nbformat.read(REPO / "nbs" / "02_residual_vq.ipynb", as_version=4)
    lesson.cells += [nbformat.v4.new_markdown_cell(wide), nbformat.v4.new_code_cell("explore()", outputs=[output])]
    path = tmp_path / "lesson.html"
    path.write_text(as_html(lesson, "A lesson"))
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width > 1000:
        boxes = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).length"
        assert page.eval_on_selector_all(".highlight pre", boxes) == 0
    assert not page.evaluate(FAINT)
    caught = """() => [...document.querySelectorAll("pre, .output, div.formula")].filter(
        box => box.scrollWidth > box.clientWidth + 1 && box.tabIndex < 0 && !box.querySelector("[tabindex], input"))
        .map(box => box.outerHTML.slice(0, 120))"""
    assert not page.evaluate(caught), "what scrolls sideways takes the focus"
    page.focus(".frames input")
    page.keyboard.press("ArrowRight")
    shown = "images => images.filter(image => image.offsetParent !== null).map(image => image.alt)"
    assert page.eval_on_selector_all(".frames img", shown) == ["2"]
    assert page.inner_text(".frames output") == "two"
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_the_executed_lesson_shows_every_figure(browser: Any, lab: tuple[str, Path], tokens: tuple[Any, Any]) -> None:
    tokens[0].evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    notebook = nbformat.read(lab[1] / "01_tokens.ipynb", as_version=4)
    shown = [cell for cell in notebook.cells if "twin" not in cell.metadata.get("tags", ())]  # its explorer has frames
    outputs = [output for cell in shown for output in cell.get("outputs", ())]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    path = lab[1] / "01_tokens.html"
    path.write_text(as_html(notebook, "01 · Tokens"))
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    page.route(re.compile("^https?:"), lambda route: route.abort())  # no network
    page.goto(path.as_uri())
    sizes = page.eval_on_selector_all(".output > img", "images => images.map(image => image.naturalWidth)")
    assert pictures and len(sizes) == pictures and all(size > 100 for size in sizes)
    page.screenshot(path=SHOTS / "executed.png", full_page=True)
