"""The pages of the reference, made from the package's source, and of the commands, made from click."""

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from vqbet_course.core.hyperparameters import hyperparameters
from vqbet_course.core.places import LESSONS, PACKAGE
from vqbet_course.course.executed import read_executed, title_of
from vqbet_course.course.page import SITE_CARD, as_prose, front_lines, module_of, with_code, without_marks

Page = tuple[str, str]
"""Address and text of a page."""

CONFIGURATION = "VQBeTConfig"  # the class whose fields are explained one by one


# --- modules ----------------------------------------------------------------------------------------------------


def api_pages(settings: dict[str, str]) -> Iterator[Page]:
    """The reference: its contents, then a page for every module or package, those of the lessons first."""
    lessons = lesson_of_modules()
    rooms: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.iterdir()):
        files = sorted(path.glob("*.py")) if (path / "__init__.py").exists() else [path]
        if not path.name.startswith("_") and files and files[0].suffix == ".py":
            rooms[path.stem] = files
    order = [*(name for name in lessons if name in rooms), *(name for name in rooms if name not in lessons)]
    yield "api/index.qmd", api_contents({name: rooms[name][0] for name in order}, lessons)
    for name in order:
        yield f"api/{name}.qmd", api_page(name, rooms[name], lessons.get(name), settings)


def lesson_of_modules() -> dict[str, tuple[str, str]]:
    """{module: (file, title) of the lesson that exports it}, in the order of the lessons."""
    lessons = {}
    for path in sorted(LESSONS.glob("[0-9]*.ipynb")):
        notebook = read_executed(path)
        if module := module_of(notebook):
            lessons[module] = (path.name, title_of(notebook))
    return lessons


def api_contents(rooms: dict[str, Path], lessons: dict[str, tuple[str, str]]) -> str:
    """The page that lists the modules: those of the lessons in their order, then the folders around them."""
    rows: dict[bool, list[str]] = {True: [], False: []}
    for name, path in rooms.items():
        words = first_line(path.read_text(encoding="utf-8"))
        taught = f" ([{lessons[name][1]}](../{lessons[name][0]}))" if name in lessons else ""
        rows[name in lessons].append(f"- [`{name}`]({name}.qmd): {without_marks(words)}{taught}")
    return "\n".join(
        [
            front("Reference", "Every module of the package, in the order of the lessons."),
            "The entry `kmeans` of a page documents `vqbet_course.tokens.kmeans`. Shapes: `B` batch, `T` observation",
            "steps, `K` codes in a codebook, `G` quantizer layers, `W` chunk length, `A` action size, `D` width.\n",
            *("## Built in the lessons\n", *rows[True], "\n## Around them\n", *rows[False], ""),
        ]
    )


def api_page(name: str, files: list[Path], lesson: tuple[str, str] | None, settings: dict[str, str]) -> str:
    """The reference of a module, or of a package's modules: every public definition is a heading of its own."""
    text = files[0].read_text(encoding="utf-8")
    parts = [front(f"vqbet_course.{name}", without_marks(first_line(text)))]
    if lesson:
        parts.append(f"Taught in lesson [{lesson[1]}](../{lesson[0]}).\n")
    for path in files:
        source = path.read_text(encoding="utf-8")
        module = name if path.stem in ("__init__", name) else f"{name}.{path.stem}"
        if module != name:
            parts.append(f"## {module}\n")
        parts.append(raw(as_prose(ast.get_docstring(ast.parse(source)) or "")))
        if repository := settings.get("git_url"):
            file = path.relative_to(PACKAGE.parent).as_posix()
            parts.append(f"[Source]({repository}/blob/{settings.get('branch', 'main')}/{file})\n")
        for heading, code, words in documented(source):
            parts.append(f"## {heading}\n\n```python\n{code}\n```\n\n{raw(as_prose(words)) if words else ''}")
            if heading == CONFIGURATION:
                parts.append(fields_table())
    return "\n".join(parts)


def front(title: str, description: str) -> str:
    """The YAML at the head of a page."""
    return front_lines(title, description, SITE_CARD)


def raw(html: str) -> str:
    """HTML that pandoc passes on as it is."""
    return f'```{{=html}}\n<div class="docstring">\n{html}\n</div>\n```\n'


def first_line(source: str) -> str:
    """The first paragraph of a module's docstring, in one line."""
    return " ".join((ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].split())


def documented(source: str) -> Iterator[tuple[str, str, str]]:
    """Of each public definition of a module: name, head (with fields and public methods), docstrings as text."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            heads, words = [head_of(node, source)], [ast.get_docstring(node) or ""]
            if isinstance(node, ast.ClassDef):
                heads += [field for item in node.body if (field := field_of(item, source))]
                for method in public_methods(node):
                    heads.append(f"\n{head_of(method, source)}")
                    if about := ast.get_docstring(method):
                        words.append(f"`{method.name}`: {about}")
            yield node.name, "\n".join(heads), "\n\n".join(filter(None, words))


def public_methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """The methods of a class that are part of its reference: the constructor, and those without an underscore."""
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    return [m for m in methods if not m.name.startswith("_") or (m.name == "__init__" and len(m.args.args) > 1)]


def field_of(node: ast.stmt, source: str) -> str | None:
    """The line of a public field of a class with its type and default; None for other statements."""
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.target.id.startswith("_"):
        return None
    return "    " + (ast.get_source_segment(source, node) or "")


def head_of(node: ast.FunctionDef | ast.ClassDef, source: str) -> str:
    """The lines of a definition, its decorators included, up to its colon."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    last = max(node.lineno, (node.returns.end_lineno or 0) if isinstance(node, ast.FunctionDef) and node.returns else 0)
    lines = source.splitlines()
    while not lines[last - 1].split("#")[0].rstrip().endswith(":") and last < node.body[0].lineno:
        last += 1
    return "\n".join(lines[first - 1 : last])


def fields_table() -> str:
    """Every hyperparameter with its default, the laptop's value and its meaning, as a Markdown table."""
    rows = ["| field | default | on a laptop | unit | meaning |", "|---|---|---|---|---|"]
    for h in hyperparameters():
        rows.append(f"| `{h.name}` | `{h.default}` | `{h.laptop}` | {h.unit} | {h.meaning.replace('|', '')} |")
    return "\n".join(["### The fields\n", *rows, ""])


# --- commands ---------------------------------------------------------------------------------------------------


def command_pages() -> Iterator[Page]:
    """A page for every command of the installed `vqbet-course`: what its `--help` says."""
    [script] = entry_points(group="console_scripts", name="vqbet-course")
    for name, command in commands_of(import_module(script.module).cli):
        yield f"commands/{name.replace(' ', '-')}.qmd", command_page(name, command)


def commands_of(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name and command of every command of a click group, those of groups inside it as `group command`."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{prefix}{name} ")
        elif not command.hidden:
            yield prefix + name, command


def command_page(name: str, command: Any) -> str:
    """The page of a command: its help as prose, its usage, and a table of its options."""
    import click

    context = click.Context(command, info_name=f"vqbet-course {name}")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = []
    for parameter in command.get_params(context):
        if (record := parameter.get_help_record(context)) and "--help" not in record[0]:
            rows.append(f"<dt><code>{with_code(record[0])}</code></dt><dd>{with_code(record[1])}</dd>")
    words = inspect.cleandoc(command.help or "").replace("\b\n", "")
    options = ["## Options\n", raw("<dl>\n" + "\n".join(rows) + "\n</dl>")] if rows else []
    description = without_marks(" ".join(words.partition("\n\n")[0].split()))
    text = [front(f"vqbet-course {name}", description), raw(as_prose(words)), f"```sh\n{usage}\n```\n", *options]
    return "\n".join(text)
