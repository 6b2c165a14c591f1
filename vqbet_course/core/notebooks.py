"""Notebook files: cells and their sources, and the `#| name: value` directives of code cells."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

Cell = dict[str, Any]
"""A cell as a notebook file holds it."""

DIRECTIVE = re.compile(r"#\| *([\w-]+)(?:(?:: *| +)(.*))?$")


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def notebook_text(notebook: dict[str, Any]) -> str:
    """A notebook as the text of its file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def source_of(cell: Cell) -> str:
    """The source of a cell; a file may hold it as one string or as a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def source_lines(source: str) -> list[str]:
    """A source as a notebook file holds it: a list of lines that keep their ends. As for Python, a line ends at a line
    feed alone, and not at a form feed or a separator of Unicode, which `str.splitlines` takes for ends, too."""
    return re.findall(r"[^\n]*\n|[^\n]+", source)


def directive(line: str) -> tuple[str, str] | None:
    """Name and value of a line like `#| fig-alt: words` or `#| default_exp tokens`; None for any other line."""
    match = DIRECTIVE.match(line)
    return (match[1], (match[2] or "").strip("\"' ")) if match else None


def directives(source: str) -> dict[str, str]:
    """The directives of a code cell's source, by name."""
    return dict(filter(None, map(directive, re.split(r"\r?\n", source))))


def has_directive(cell: Cell, name: str) -> bool:
    """Whether a code cell has the directive `#| name`."""
    return cell["cell_type"] == "code" and name in directives(source_of(cell))


def without_directives(source: str, names: Collection[str] | None = None) -> str:
    """A code cell's source without its directives, or without those of some names."""

    def stays(line: str) -> bool:
        found = directive(line)
        return found is None if names is None else found is None or found[0] not in names

    return "".join(line for line in source_lines(source) if stays(line.rstrip("\r\n")))
