"""An executed lesson as one HTML page that needs no network: contents, folded code, outputs, formulas, its neighbours."""

import base64
import html
import mimetypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqbet_course.core.notebooks import source_of, without_directives
from vqbet_course.core.pages import render
from vqbet_course.core.places import LESSONS
from vqbet_course.course.executed import alternative_text, read_executed, tags_of, title_of, without_widgets
from vqbet_course.course.formulas import with_formulas
from vqbet_course.course.page import fold_summary

INJECTED = "The parameters of this run"
STYLES = {"light": "xcode", "dark": "github-dark"}
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\(([^)\s]+)\)")
LESSON = re.compile(r"(\d\d_\w+)\.ipynb((?:#.*)?)$")
HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link".*?</h2>', re.DOTALL)


def as_html(notebook: Any, title: str, neighbours: Sequence[Path] = ()) -> str:
    """The notebook as one HTML page; `neighbours`: the lesson before and the one after it, as far as there are any."""
    from nbconvert.filters import Highlight2HTML
    from pygments.formatters import HtmlFormatter

    highlight = Highlight2HTML()
    cells = [shown_cell(cell, title, highlight) for cell in without_widgets(notebook.cells)]
    contents = [heading for cell in cells for heading in HEADING.findall(cell.get("text", ""))]
    around = [(f"{path.stem}.html", title_of(read_executed(path)) or path.stem) for path in neighbours]
    colours = {theme: HtmlFormatter(style=style).get_style_defs(".highlight") for theme, style in STYLES.items()}
    return render("lesson.html", title=title, cells=cells, contents=contents, around=around, **colours)


def neighbours_of(lesson: Path) -> list[Path]:
    """The lessons before and after one, in its folder."""
    lessons = sorted(lesson.parent.glob("[0-9][0-9]_*.ipynb"))
    at = lessons.index(lesson) if lesson in lessons else -1
    return [lessons[i] for i in (at - 1, at + 1) if at >= 0 and 0 <= i < len(lessons)]


def shown_cell(cell: Any, title: str, highlight: Any) -> Mapping[str, Any]:
    """What the template needs of a cell: `text`, or `code` with its `summary` if it is folded, and `outputs`; all HTML."""
    if cell.cell_type != "code":
        return {"text": markdown_html(cell.source) if cell.cell_type == "markdown" else ""}
    code = without_directives(source_of(cell)).strip("\n")
    return {
        "code": reached(highlight(code)) if code else "",
        "summary": INJECTED if "injected-parameters" in tags_of(cell) else fold_summary(cell, cell.source),
        "outputs": [shown for output in cell.outputs if (shown := output_html(cell, output, title))],
    }


def markdown_html(markdown: str) -> str:
    """Markdown as HTML: formulas drawn, links to lessons lead to their pages, those to other files become words."""
    from nbconvert.filters import markdown2html

    def led(match: re.Match[str]) -> str:
        words, target = match.groups()
        if re.match(r"(\w+:|#)", target):
            return match[0]
        lesson = LESSON.match(target)
        return f"[{words}]({lesson[1]}.html{lesson[2]})" if lesson else words

    return with_images(reached(str(markdown2html(with_formulas(LINK.sub(led, markdown))))))


def with_images(page: str) -> str:
    """HTML in which the lessons' own image files are part of the page, which is read away from their folder."""

    def embedded(match: re.Match[str]) -> str:
        path = LESSONS / match[1]
        if re.match(r"\w+:", match[1]) or not path.is_file():
            return match[0]
        kind = mimetypes.guess_type(path.name)[0] or "image/png"
        return f'<img src="data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"'

    return re.sub(r'<img src="([^"]+)"', embedded, page)


def reached(page: str) -> str:
    """HTML whose blocks of code and tables take the focus, so that the arrow keys scroll them."""
    return re.sub(r"<(pre|table)>", r'<\1 tabindex="0">', page)


def output_html(cell: Any, output: Any, title: str) -> str:
    """An output as HTML: its richest form."""
    from nbconvert.filters import ansi2html

    if output.output_type == "stream":
        return f'<pre tabindex="0">{ansi2html(output.text)}</pre>'
    if output.output_type == "error":
        lines = "\n".join(output.traceback)
        return f'<pre class="error" tabindex="0">{ansi2html(lines)}</pre>'
    data = output.data
    if "text/html" in data:
        return str(data["text/html"])
    if png := data.get("image/png"):
        words = html.escape(alternative_text(cell, output) or title)
        return f'<img alt="{words}" src="data:image/png;base64,{png.strip()}">'
    if svg := data.get("image/svg+xml"):
        return str(svg)
    if markdown := data.get("text/markdown"):
        return markdown_html(markdown)
    return f'<pre tabindex="0">{html.escape(data.get("text/plain", ""))}</pre>'
