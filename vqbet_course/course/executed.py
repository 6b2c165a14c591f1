"""What executed lessons show: whether they ran from top to bottom, headline, figures and videos.

A lesson is ok only when its executed copy shows it: every code cell ran, in order, without an error.
Papermill's word is not enough: it also calls a lesson done whose kernel was told to exit half-way.
"""

import base64
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqbet_course.core.notebooks import directives


@dataclass(frozen=True)
class Figure:
    """An image of an executed lesson: base64 of a PNG, and the words that stand for it."""

    png: str
    alt: str

    @property
    def wide(self) -> bool:
        """Whether the image is more than twice as wide as it is high (a PNG says so in bytes 16 to 23)."""
        width, height = struct.unpack(">II", base64.b64decode(self.png[:32])[16:24])
        return width > 2 * height


@dataclass(frozen=True)
class LessonFailure:
    """Where a lesson failed (`cell 7 of 23`), that cell's source, the error in one line, the traceback."""

    where: str
    source: str
    error: str
    traceback: str = ""


@dataclass(frozen=True)
class LessonResult:
    """What running one lesson gave; `headline` is what its cell tagged so printed, videos are HTML."""

    lesson: str
    title: str
    seconds: float
    headline: str = ""
    failure: LessonFailure | None = None
    figures: Sequence[Figure] = ()
    videos: Sequence[str] = ()
    page: str = ""  # the executed lesson as HTML, beside the report

    @property
    def ok(self) -> bool:
        """Whether it ran from top to bottom without an error."""
        return self.failure is None


def read_executed(path: Path) -> Any:
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


def find_failure(notebook: Any, crash: Exception | None, position: int, timeout: float) -> LessonFailure | None:
    """Why an executed copy is not the copy of a lesson that ran, or None when it is one.

    `crash` is what ended papermill early, if anything did, while the cell at `position` ran.
    """
    if crash is not None:
        why = describe_crash(crash, timeout)
        if position < 0:
            return LessonFailure("its start", "", why)
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


def failure_at(notebook: Any, cell: Any, error: str) -> LessonFailure:
    """A failure of `cell`, counted as the lesson's reader counts: without the cell that papermill injects."""
    from nbconvert.filters import strip_ansi

    cells = [other for other in notebook.cells if "injected-parameters" not in tags_of(other)]
    number = next((n for n, other in enumerate(cells, 1) if other is cell), None)
    where = f"cell {number} of {len(cells)}" if number else "the parameters of the course"
    output = error_of(cell)
    return LessonFailure(where, cell.source, error, strip_ansi("\n".join(output.traceback)) if output else "")


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
        for cell in notebook.cells
        if cell.cell_type == "code" and "headline" in tags_of(cell)
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )
    return " ".join(printed.split())


def figures_of(notebook: Any, title: str) -> list[Figure]:
    """The PNG outputs of a notebook, with their alternative text."""
    figures: list[Figure] = []
    for cell, output in data_outputs(notebook):
        if png := output.data.get("image/png"):
            alt = alternative_text(cell, output) or f"{title}, figure {len(figures) + 1}"
            figures.append(Figure(png.replace("\n", ""), alt))
    return figures


def alternative_text(cell: Any, output: Any) -> str | None:
    """The words that stand for an image: from the output's metadata, or the cell's `#| fig-alt:` line."""
    return (
        output.metadata.get("image/png", {}).get("alt")
        or output.metadata.get("alt")
        or directives(cell.source).get("fig-alt")
    )


def videos_of(notebook: Any) -> list[str]:
    """The `<video>` elements among the HTML outputs of a notebook."""
    pages = (output.data.get("text/html", "") for _, output in data_outputs(notebook))
    return [video for page in pages for video in re.findall(r"<video\b.*?</video>", page, re.DOTALL)]


WIDGET = "application/vnd.jupyter.widget-view+json"
DEAD_WIDGET = (
    "<p><em>This explorer needs a running kernel: open the lesson in JupyterLab (<code>make jupyter</code>).</em></p>"
)


def without_widgets(cells: Sequence[Any]) -> Iterator[Any]:
    """The cells for a page without a kernel: of a widget its pre-drawn frames, if it has any, else a word where it
    lives. A cell tagged `twin`, which draws a widget once more, is left out where there are frames."""
    drawn = False
    for cell in cells:
        if "twin" in tags_of(cell):
            if not drawn:
                yield cell
            continue
        outputs = cell.get("outputs", ())
        bundles = [output["data"] for output in outputs if WIDGET in output.get("data", {})]
        if bundles:
            drawn = all("text/html" in bundle for bundle in bundles)
            outputs = [output for output in outputs if not is_image_of_widget(output)] if drawn else outputs
            cell = type(cell)(cell | {"outputs": [without_widget(output) for output in outputs]})
        yield cell


def is_image_of_widget(output: Any) -> bool:
    """Whether an output is the image that follows a widget, for those who have no kernel (widgets/parts.py)."""
    return 'class="without-kernel"' in output.get("data", {}).get("text/html", "")


def without_widget(output: Any) -> Any:
    """An output with HTML in place of a widget."""
    data = output.get("data", {})
    if WIDGET not in data:
        return output
    return type(output)(output | {"data": {"text/html": data.get("text/html", DEAD_WIDGET)}})


def data_outputs(notebook: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of a cell and one of its outputs that carry data."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "data" in output:
                yield cell, output
