"""Turn a notebook, or a Markdown file, into a page that Quarto renders without a warning."""

import ast
import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vqbet_course.core.notebooks import Cell, directives, source_lines, source_of, without_directives
from vqbet_course.course.executed import tags_of, without_widgets

LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((\.\./[^)\s]+)\)")  # to a file of the repository that is no page
FIGURE = re.compile(r"^!\[([^\[\]]*)\]\(([^)\s]+)\)$", re.MULTILINE)  # whose words would become a visible caption
ARXIV = re.compile(r"(?<![\[/\d])arXiv[ :](\d{4}\.\d{5})")
HEAD = re.compile(r"# +(?P<title>.+)\n*(?P<quote>(?:^>.*\n?)*)\n*", re.MULTILINE)
OF_PAPERMILL = {"injected-parameters", "papermill-error-cell-tag"}
SITE_CARD = "/images/hero.gif"  # the image of a page without a figure; from the root of the site
LONG_FIGURE = 8  # lines of code of a figure that stay unfolded
DESCRIPTION_LENGTH = 200


# --- the page ---------------------------------------------------------------------------------------------------


def staged(notebook: dict[str, Any], lab: dict[str, Any] | None = None) -> dict[str, Any]:
    """A notebook file as a page: Quarto's own cell options, code that is no lesson folded, no widgets.

    The task of an exercise, from the student edition `lab`, precedes its folded solution. Left out: cells that
    papermill put in, empty ones, and all metadata of cells, which would become attributes of the page's elements.
    """
    tasks, cells = tasks_of(lab), []
    for cell in without_widgets(notebook["cells"]):
        if OF_PAPERMILL & set(tags_of(cell)):
            continue
        source = source_of(cell)
        if cell["cell_type"] == "code":
            if exercise := cell["metadata"].get("exercise"):
                cells += tasks.get(exercise["id"], [])
            source = "\n".join([*options_of(cell, source), without_directives(source)])
        elif cell["cell_type"] == "markdown":
            source = as_pandoc_reads(source)
        if cell["cell_type"] == "markdown" or source.strip():
            cells.append(cell | {"source": source_lines(source), "metadata": {}})
    about = {
        key: value for key, value in notebook.get("metadata", {}).items() if key in ("kernelspec", "language_info")
    }
    return notebook | {"cells": cells, "metadata": about}


def as_pandoc_reads(source: str) -> str:
    """Markdown with what only Jupyter reads as meant: links out of the site become words, a figure keeps its words
    as an alternative text, numbers of papers become links."""
    source = LINK.sub(r"\1 (`\2`)", source).replace("(`../", "(`")
    source = FIGURE.sub(lambda m: f"![]({m[2]}){{fig-alt={json.dumps(m[1], ensure_ascii=False)}}}", source)
    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", source)


def header(page: dict[str, Any], image: str) -> Cell:
    """The cell with a page's title, description and image; the title leaves the first cell of `page`, so that the
    page has one heading of the first level."""
    first = page["cells"][0]
    front, rest = front_matter(source_of(first), image)
    first["source"] = source_lines(rest)
    return {"cell_type": "raw", "id": "front-matter", "metadata": {}, "source": source_lines(front)}


def staged_markdown(text: str, image: str) -> str:
    """A Markdown file as a page, with its heading as the title."""
    front, rest = front_matter(as_pandoc_reads(text), image)
    return f"{front}\n{rest}"


def front_matter(markdown: str, image: str) -> tuple[str, str]:
    """The YAML of a page that begins with this Markdown, and the Markdown without title and description."""
    match = HEAD.match(markdown)
    assert match, f"a page begins with its title, not with: {markdown[:60]}"
    rest = markdown[match.end() :]
    quote = " ".join(line.lstrip("> ") for line in match["quote"].splitlines())
    title = match["title"].strip()
    return front_lines(title, without_marks(quote or first_paragraph(rest)), image), rest


def front_lines(title: str, description: str, image: str) -> str:
    """The YAML of a page; a long description is cut at the end of a sentence or word."""
    if len(description) > DESCRIPTION_LENGTH:
        start = description[:DESCRIPTION_LENGTH]
        description = start.rpartition(". ")[0] or start.rpartition(" ")[0]
    values = {"title": title, "description": description or f"{title}, of the course on VQ-BeT", "image": image}
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    return "\n".join(["---", *lines, "---", ""])


def first_paragraph(markdown: str) -> str:
    """The first paragraph of prose."""
    paragraphs = (" ".join(block.split()) for block in markdown.split("\n\n"))
    return next((p for p in paragraphs if re.match(r"[A-Z`*\[]", p)), "")


def without_marks(markdown: str) -> str:
    """Markdown without its marks."""
    return re.sub(r"[*`]", "", re.sub(r"\[([^\[\]]+)\]\([^)]*\)", r"\1", markdown)).strip()


# --- its cells --------------------------------------------------------------------------------------------------


def options_of(cell: Cell, source: str) -> Iterator[str]:
    """The lines of YAML that Quarto reads: alternative text, and the fold of code that is not read on the way."""
    if alt := directives(source).get("fig-alt"):
        yield f"#| fig-alt: {json.dumps(alt, ensure_ascii=False)}"
    if summary := fold_summary(cell, source):
        yield "#| code-fold: true"
        yield f"#| code-summary: {json.dumps(summary, ensure_ascii=False)}"


def fold_summary(cell: Cell, source: str) -> str | None:
    """What a folded cell says of itself: a solution, imports, tests, the code of a figure; None: it stays open."""
    if exercise := cell["metadata"].get("exercise"):
        return f"Exercise {exercise['id']}: unfold the solution"
    code = without_directives(source)
    if not code.strip():
        return None
    hidden = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
    lines = len([line for line in code.splitlines() if line.strip()])
    kind = kind_of(code)
    if kind is None and "fig-alt" in directives(source) and (hidden or lines > LONG_FIGURE):
        kind = "The code of the figure"
    if kind is None and hidden:
        kind = "Tests" if re.search(r"^(assert|test_)", code, re.MULTILINE) else "Code"
    return f"{kind} ({lines} line{'' if lines == 1 else 's'})" if kind else None


def kind_of(code: str) -> str | None:
    """`Imports` or `Tests`, if every statement is one; None for other code."""
    try:
        body = ast.parse(code).body
    except SyntaxError:  # a magic of IPython's
        return None
    if body and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body):
        return "Imports"
    if body and all(is_test(node) for node in body):
        return "Tests"
    return None


def is_test(node: ast.stmt) -> bool:
    """Whether a statement asserts, or calls one of fastcore's `test_` functions."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return isinstance(node.value.func, ast.Name) and node.value.func.id.startswith("test_")
    return isinstance(node, ast.Assert)


def tasks_of(lab: dict[str, Any] | None) -> dict[str, list[Cell]]:
    """{exercise: cells with its task, stars, minutes, hint, and the code to begin with}, from a student edition."""
    cells = lab["cells"] if lab else []
    texts = {cell["id"]: source_of(cell) for cell in cells}
    tasks = {}
    for cell in cells:
        if exercise := cell["metadata"].get("exercise"):
            text = texts[f"{cell['id']}-task"]
            heading, stars, *hint = text.split("\n\n", 2)
            effort = stars.partition(". ")[0]
            code = without_directives(source_of(cell)).strip("\n")
            task = [heading, f"{effort}. Write what is missing:", f"```python\n{code}\n```", *hint]
            source = source_lines("\n\n".join(task))
            made = {"cell_type": "markdown", "id": f"{cell['id']}-task", "metadata": {}, "source": source}
            tasks[exercise["id"]] = [made]
    return tasks


# --- its links --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Links:
    """Where the repository is, and its branch; without `git_url`, pages link to nothing outside the site."""

    git_url: str = ""
    branch: str = "main"

    def cell(self, lesson: str, downloads: Sequence[str], notebook: dict[str, Any]) -> Cell:
        """The line below a lesson's title: downloads, its reference and solutions, and what needs the repository."""
        words = {"lesson": "this lesson's notebook", "lab": "its lab, for your own solutions"}
        items = [
            f'<a href="downloads/{kind}_{lesson}.ipynb" download="{kind}_{lesson}.ipynb">{words[kind]}</a>'
            for kind in downloads
        ]
        parts = [f"Download: {', '.join(items)}"]
        if module := module_of(notebook):
            parts.append(f"[reference](api/{module}.qmd)")
        parts += [f"[{word}]({address})" for word, address in self.outside(f"nbs/{lesson}.ipynb")]
        return {
            "cell_type": "markdown",
            "id": f"links-{lesson[:2]}",
            "metadata": {},
            "source": source_lines(" · ".join(parts)),
        }

    def outside(self, path: str) -> Iterator[tuple[str, str]]:
        """Words and addresses of what the repository offers for one of its files; nothing without a repository."""
        if not self.git_url:
            return
        slug = "/".join(self.git_url.rstrip("/").split("/")[-2:])
        yield "open in Colab", f"https://colab.research.google.com/github/{slug}/blob/{self.branch}/{path}"
        yield "open in Binder", f"https://mybinder.org/v2/gh/{slug}/{self.branch}?labpath={path}"
        yield "source", f"{self.git_url}/blob/{self.branch}/{path}"
        yield "edit", f"{self.git_url}/edit/{self.branch}/{path}"
        yield "report a problem", f"{self.git_url}/issues/new"


def module_of(notebook: dict[str, Any]) -> str | None:
    """The module that a lesson exports, or None."""
    names = (directives(source_of(cell)).get("default_exp") for cell in notebook["cells"])
    return next(filter(None, names), None)


def as_prose(docstring: str) -> str:
    """A docstring as HTML: paragraphs whose lines stay, code marked as such."""
    return "\n".join(f"<p>{with_code(paragraph.strip())}</p>" for paragraph in docstring.split("\n\n"))


def with_code(text: str) -> str:
    """Text as HTML, what stands between backticks as code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text, quote=False))
