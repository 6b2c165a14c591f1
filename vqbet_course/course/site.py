"""Stage the pages of the website in `pages/`, where `_quarto.yml` finds them: `python -m vqbet_course.course.site`.

Quarto executes nothing and warns of every cell option that it does not know. So it is given copies: the lessons as
`make course` executed them, the other notebooks as they run here, all without nbdev's directives, and a page for every
module, made from its source.
"""

import ast
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vqbet_course.core.io import write_text
from vqbet_course.core.notebooks import directives, without_directives
from vqbet_course.core.places import LESSONS
from vqbet_course.course.executed import tags_of
from vqbet_course.course.runner import lesson_environment, run_lesson

REPO = LESSONS.parent
PAGES = REPO / "pages"
EXECUTED = REPO / "_runs" / "course"
HOME = {"cell_type": "raw", "id": "home", "metadata": {}, "source": ["---\n", "aliases: [/index.html]\n", "---\n"]}
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((\.\./[^)\s]+)\)")  # to a file of the repository that is no page


def stage(executed: Path = EXECUTED, out: Path = PAGES) -> list[str]:
    """Fill `out` with the pages; returns the names of the lessons that have not run and so came without outputs."""
    shutil.rmtree(out, ignore_errors=True)
    unexecuted = []
    for notebook in sorted(LESSONS.glob("*.ipynb")):
        copy = executed / notebook.name
        if not notebook.name[0].isdigit():
            page = staged(run_page(notebook))
        elif copy.exists():
            page = staged(json.loads(copy.read_text(encoding="utf-8")))
        else:
            page = staged(json.loads(notebook.read_text(encoding="utf-8")))
            unexecuted.append(notebook.stem)
        if notebook.stem == "index":
            page["cells"].insert(0, HOME)  # the site's address leads here, and so does the sidebar's title
        write_text(out / notebook.name, json.dumps(page, indent=1, ensure_ascii=False) + "\n")
    for name in ("images", "solutions"):
        shutil.copytree(LESSONS / name, out / name, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name, text in api_pages():
        write_text(out / "api" / f"{name}.qmd", text)
    return unexecuted


# --- notebooks --------------------------------------------------------------------------------------------------


def run_page(path: Path) -> dict[str, Any]:
    """A notebook beside the lessons with the outputs of its few cells, if it has any."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if all(cell["cell_type"] == "markdown" for cell in notebook["cells"]):
        return notebook
    with tempfile.TemporaryDirectory() as scratch, lesson_environment():
        run_lesson(path, Path(scratch))
        return json.loads((Path(scratch) / path.name).read_text(encoding="utf-8"))


def staged(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook file as a page: Quarto's own cell options, solutions folded, no cell that papermill put in.

    Nor any metadata of cells, which would become attributes of the page's elements.
    """
    cells = [cell for cell in notebook["cells"] if "injected-parameters" not in tags_of(cell)]
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            source = "\n".join([*options_of(cell, source), without_directives(source)])
        elif cell["cell_type"] == "markdown":
            source = LINK.sub(r"\1 (`\2`)", source).replace("(`../", "(`")
        cell |= {"source": source.splitlines(keepends=True), "metadata": {}}
    kept = [cell for cell in cells if cell["cell_type"] != "code" or "".join(cell["source"]).strip()]
    return notebook | {"cells": kept}


def options_of(cell: dict[str, Any], source: str) -> Iterator[str]:
    """The lines of YAML that Quarto reads: alternative text, and a solution's fold."""
    if alt := directives(source).get("fig-alt"):
        yield f"#| fig-alt: {json.dumps(alt, ensure_ascii=False)}"
    if exercise := cell["metadata"].get("exercise"):
        yield "#| code-fold: true"
        yield f'#| code-summary: "Exercise {exercise["id"]}: unfold the solution"'


# --- modules ----------------------------------------------------------------------------------------------------


def api_pages() -> Iterator[tuple[str, str]]:
    """Name and text of the reference's pages: one for every module or package, and `index`."""
    package = Path(__file__).parents[1]
    rows = []
    for path in sorted(package.iterdir()):
        files = sorted(path.glob("*.py")) if (path / "__init__.py").exists() else [path]
        if path.name.startswith("_") or files[0].suffix != ".py":
            continue
        rows.append(f"- [`{path.stem}`]({path.stem}.qmd)")
        yield path.stem, api_page(path.stem, files)
    yield "index", "\n".join(['---\ntitle: "Reference"\n---\n', "Every module of `vqbet_course`.\n", *rows]) + "\n"


def api_page(name: str, files: list[Path]) -> str:
    """The reference of a module, or of a package's modules: signatures and docstrings as the source has them."""
    parts = [f'---\ntitle: "{name}"\n---\n']
    for path in files:
        source = path.read_text(encoding="utf-8")
        if len(files) > 1 and path.stem != "__init__":
            parts.append(f"## {name}.{path.stem}\n")
        parts.append((ast.get_docstring(ast.parse(source)) or "") + "\n")
        for heading, excerpt in documented(source):
            parts.append(f"### {heading}\n\n```python\n{excerpt}\n```\n")
    return "\n".join(parts)


def documented(source: str) -> Iterator[tuple[str, str]]:
    """Of each public definition of a module, and of the public methods of its classes: name, head and docstring."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            parts = [head_of(node, source)]
            if isinstance(node, ast.ClassDef):
                parts += [
                    head_of(method, source)
                    for method in node.body
                    if isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
                ]
            yield node.name, "\n\n".join(parts)


def head_of(node: ast.FunctionDef | ast.ClassDef, source: str) -> str:
    """The lines of a definition from its name to its docstring, or to where its body begins."""
    lines, first = source.splitlines(), node.body[0]
    documented = ast.get_docstring(node) is not None and first.end_lineno
    end = documented or max(node.lineno, first.lineno - 1)
    return "\n".join(lines[node.lineno - 1 : end])


if __name__ == "__main__":
    if missing := stage():
        print(f"site: {', '.join(missing)} without outputs, because they have not run: make course")
