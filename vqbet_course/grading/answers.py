"""What a student wrote for an exercise: found by name, wherever in the notebook it stands.

A source is the code of one cell. `check` reads them from the session's history, the grader from the notebook file.
"""

import ast
import re
import symtable
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

RUNNING_MAGICS = ("%%time", "%%timeit", "%%prun", "%%capture")
"""Cell magics that run the cell's Python."""

MOST = 3
"""Definitions of one answer that are tried, where a notebook holds several."""

LONGEST = 200_000
"""Characters of a cell; more than any that a person writes."""


def as_python(source: str) -> str:
    """A cell's source as Python, as IPython would read it: magics and `!` become calls, other languages nothing."""
    source = source.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    first = re.match(r"\s*(%%\w*)?.*", source)
    if first and first[1]:
        if first[1] not in RUNNING_MAGICS:
            return ""
        source = "\n" * first[0].count("\n") + source[first.end() :]  # the lines keep their numbers
    if parsed(source) is not None:
        return source
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        changed = TransformerManager().transform_cell(source)
    except Exception:  # IPython's own errors are those of the cell
        return source
    return changed if parsed(changed) is not None else source


def parsed(source: str) -> ast.Module | None:
    """The syntax tree of a source; None where it has none."""
    try:
        return ast.parse(source) if len(source) <= LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def same_code(source: str) -> str:
    """A text that is equal for sources that differ in spaces, line ends and comments alone."""
    tree = parsed(as_python(source))
    return " ".join(source.split()) if tree is None else ast.dump(tree)


def bound_names(statement: ast.stmt) -> set[str]:
    """The names that a statement of a cell binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    inner = [node for node in ast.walk(statement) if isinstance(node, ast.stmt) and node is not statement]
    stored = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored.union(*map(bound_names, inner))


def free_names(source: str) -> set[str]:
    """The global names that a source reads and does not bind itself."""
    try:
        top = symtable.symtable(source, "<cell>", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return set()
    bound = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    read: set[str] = set()
    todo = [top]
    while todo:
        table = todo.pop()
        todo += table.get_children()
        read |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (table is top or symbol.is_global())
        }
    return read - bound


def attribute_of(statement: ast.stmt, name: str) -> bool:
    """Whether a statement sets an attribute of a name: `Name.forward = forward` or `setattr(Name, ...)`."""
    if isinstance(statement, ast.Assign):
        return any(
            isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == name
            for target in statement.targets
        )
    call = statement.value if isinstance(statement, ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "setattr"
        and bool(call.args)
        and isinstance(call.args[0], ast.Name)
        and call.args[0].id == name
    )


def is_stub(tree: ast.Module, blanks: Sequence[str]) -> bool:
    """Whether one of these functions or methods does nothing but raise NotImplementedError, as released."""
    return any(
        isinstance(node, ast.FunctionDef)
        and node.name in blanks
        and ast.unparse(node.body[-1]) in ("raise NotImplementedError", "raise NotImplementedError()")
        and len(node.body) <= 1 + (ast.get_docstring(node) is not None)
        for node in ast.walk(tree)
    )


@dataclass
class CellSource:
    """The code of a cell: `own` if the student made or changed it, `marked` if it is a released exercise's cell or a
    copy of it, `released` if it is that cell itself and no copy."""

    text: str
    own: bool = True
    marked: bool = False
    released: bool = False
    tree: ast.Module | None = field(init=False)

    def __post_init__(self) -> None:
        self.text = as_python(self.text)
        self.tree = parsed(self.text)

    def defines(self, name: str) -> bool:
        """Whether this cell defines a name, other than by an import."""
        return any(
            name in bound_names(statement)
            for statement in self.statements()
            if not isinstance(statement, ast.Import | ast.ImportFrom)
        )

    def mentions(self, name: str) -> bool:
        """Whether the text of a cell with a syntax error holds a definition of a name."""
        return self.tree is None and re.search(rf"^\s*(def|class)\s+{re.escape(name)}\b", self.text, re.M) is not None

    def statements(self) -> list[ast.stmt]:
        """The statements of the cell; none where it has a syntax error."""
        return self.tree.body if self.tree is not None else []


@dataclass(frozen=True)
class Answer:
    """What is run for one exercise: the student's cell, and the statements of other cells that belong to it."""

    source: str
    helpers: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def answers_in(
    sources: Sequence[CellSource], name: str, blanks: Sequence[str], reserved: Iterable[str], given: Iterable[str]
) -> list[Answer]:
    """The answers to the exercise that asks for `name`, the most likely first, at most MOST.

    The released cell comes first, then others that define the name, the last of them first; a cell as it was released
    comes last. `given`: names that the lesson provides; `reserved`: those of them that are exercises themselves.
    """
    found = [place for place, source in enumerate(sources) if source.defines(name) or source.mentions(name)]
    found = found or [place for place, source in enumerate(sources) if source.marked]

    def rank(place: int) -> tuple[bool, bool, int]:
        source = sources[place]
        untouched = source.tree is not None and is_stub(source.tree, blanks)
        return untouched, not source.released, -place

    answers: list[Answer] = []
    for place in sorted(found, key=rank):
        if sources[place].text.strip() not in (answer.source.strip() for answer in answers):
            answers.append(answer_at(sources, place, name, set(reserved), set(given)))
    return answers[:MOST]


def answer_at(sources: Sequence[CellSource], place: int, name: str, reserved: set[str], given: set[str]) -> Answer:
    """The answer in one cell, with what it needs of the others."""
    own = sources[place]
    after = [
        ast.unparse(statement)
        for source in sources
        if source is not own and source.own
        for statement in source.statements()
        if attribute_of(statement, name)
    ]
    needed = free_names("\n".join([own.text, *after])) | free_names(own.text)
    chosen: dict[tuple[int, int], str] = {}
    todo, seen = [*needed], {name, *reserved}
    while todo:
        wanted = todo.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        for where, statement in binding(sources, place, wanted, wanted in given):
            if where not in chosen:
                chosen[where] = ast.unparse(statement)
                todo += free_names(chosen[where])
    return Answer(own.text, [text for _, text in sorted(chosen.items())], after)


def binding(
    sources: Sequence[CellSource], place: int, name: str, given: bool
) -> Iterator[tuple[tuple[int, int], ast.stmt]]:
    """The statements that bind a name for a cell: those of the nearest cell above that has some, else of one below.

    Of the lesson's own cells only definitions and imports count, and nothing that the lesson provides anyway.
    """
    for at in (*range(place - 1, -1, -1), *range(place + 1, len(sources))):
        source = sources[at]
        if given and not source.own:
            continue
        found = [
            ((at, line), statement)
            for line, statement in enumerate(source.statements())
            if name in bound_names(statement)
            and (source.own or isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom))
        ]
        if found:
            yield from found
            return
