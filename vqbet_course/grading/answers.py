"""What a student wrote for an exercise: found by name, wherever in the notebook it stands.

A source is the code of one cell. `check` reads them from the session's history, the grader from the notebook file.
"""

import ast
import functools
import re
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

RUNNING_MAGICS = ("%%time", "%%timeit", "%%prun", "%%capture")
"""Cell magics that run the cell's Python."""

MOST = 3
"""Definitions of one answer that are tried, where a notebook holds several."""

LONGEST = 200_000
"""Characters of a cell; more than any that a person writes."""


KEPT = 256
"""Cells whose reading is kept: those of the lesson stand in every submission of a class."""


@functools.lru_cache(KEPT)
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


@functools.lru_cache(KEPT)
def parsed(source: str) -> ast.Module | None:
    """The syntax tree of a source; None where it has none."""
    try:
        return ast.parse(source) if len(source) <= LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@functools.lru_cache(KEPT)
def code_of(text: str) -> str:
    """A text that is equal for Python that differs in spaces, line ends and comments alone."""
    tree = parsed(text)
    try:
        return " ".join(text.split()) if tree is None else ast.dump(tree)
    except RecursionError:  # an expression of a thousand parts
        return text


@functools.lru_cache(KEPT)
def statements_of(text: str) -> tuple[tuple[ast.stmt, set[str]], ...]:
    """The statements of a text, each with the names that it binds; none where it has a syntax error."""
    tree = parsed(text)
    return tuple((statement, bound_names(statement)) for statement in tree.body) if tree is not None else ()


@functools.lru_cache(KEPT)
def statement_codes_of(text: str) -> tuple[str, ...]:
    """A text for each statement, equal for those that differ in spaces and comments alone."""
    try:
        return tuple(ast.dump(statement) for statement, _ in statements_of(text))
    except RecursionError:  # an expression of a thousand parts
        return ()


def bound_names(statement: ast.stmt) -> set[str]:
    """The names that a statement of a cell binds in the notebook; those of functions and comprehensions are their
    own."""
    names: set[str] = set()
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            names |= {part.target.id for part in ast.walk(node) if isinstance(part, ast.NamedExpr)}
        elif not isinstance(node, ast.Lambda):
            todo += ast.iter_child_nodes(node)
    return names


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
    """The code of a cell: `own` if the student made or changed it, `exercise` the id of the exercise that it is marked
    with, `released` if it is an exercise's cell itself and no copy."""

    text: str
    own: bool = True
    exercise: str = ""
    released: bool = False
    tree: ast.Module | None = field(init=False)

    def __post_init__(self) -> None:
        self.text = as_python(self.text)
        self.tree = parsed(self.text)

    @property
    def code(self) -> str:
        """A text that is equal for cells that differ in spaces, line ends and comments alone."""
        return code_of(self.text)

    @property
    def statements(self) -> tuple[tuple[ast.stmt, set[str]], ...]:
        """The statements of the cell, each with the names that it binds; none where it has a syntax error."""
        return statements_of(self.text)

    @property
    def statement_codes(self) -> tuple[str, ...]:
        """A text for each statement, equal for those that differ in spaces and comments alone."""
        return statement_codes_of(self.text)

    def defines(self, name: str) -> bool:
        """Whether this cell defines a name, other than by an import."""
        return any(
            name in names
            for statement, names in self.statements
            if not isinstance(statement, ast.Import | ast.ImportFrom)
        )

    def mentions(self, name: str) -> bool:
        """Whether the text of a cell with a syntax error holds a definition of a name."""
        return self.tree is None and re.search(rf"^\s*(def|class)\s+{re.escape(name)}\b", self.text, re.M) is not None


@dataclass(frozen=True)
class Answer:
    """What is run for one exercise: the student's cell, and the statements of other cells that belong to it."""

    source: str
    helpers: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def answers_in(
    sources: Sequence[CellSource], exercise: str, name: str, blanks: Sequence[str], given: set[str], reserved: set[str]
) -> list[Answer]:
    """The answers to an exercise that asks for `name`, the most likely first, at most MOST.

    The released cell comes first, then others that define the name, the last of them first; a cell as it was released
    comes last. `given`: names that the lesson provides; `reserved`: those that exercises ask for.
    """
    found = [place for place, source in enumerate(sources) if source.defines(name) or source.mentions(name)]
    found = found or [place for place, source in enumerate(sources) if source.exercise == exercise]

    def rank(place: int) -> tuple[bool, bool, int]:
        source = sources[place]
        untouched = source.tree is not None and is_stub(source.tree, blanks)
        return untouched, not (source.released and source.exercise == exercise), -place

    answers: list[Answer] = []
    for place in sorted(found, key=rank):
        if sources[place].text.strip() not in (answer.source.strip() for answer in answers):
            answers.append(answer_at(sources, place, name, given, reserved & given))
    return answers[:MOST]


def answer_at(sources: Sequence[CellSource], place: int, name: str, given: set[str], not_taken: set[str]) -> Answer:
    """The answer in one cell, with what it needs of the others; other exercises' answers are not taken."""
    own = sources[place]
    after = [
        ast.unparse(statement)
        for source in sources
        if source is not own and source.own
        for statement, _ in source.statements
        if attribute_of(statement, name)
    ]
    chosen: dict[tuple[int, int], str] = {}
    todo, seen = [*free_names("\n".join([own.text, *after])), *free_names(own.text)], {name, *not_taken}
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


CHEAP = {"torch", "np", "math", "nn", "F", "int", "float", "tuple", "list", "dict", "set", "range", "len"}
"""What a constant may call: nothing of it trains, reads data or draws a plot."""


def is_definition(statement: ast.stmt) -> bool:
    """Whether a statement is a function, a class or an import."""
    return isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)


def is_constant(statement: ast.stmt) -> bool:
    """Whether a statement binds names to what CHEAP alone computes: `K = 16`, `base = torch.arange(K)`."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return False
    return all(first_name_of(node.func) in CHEAP for node in ast.walk(statement.value) if isinstance(node, ast.Call))


def first_name_of(called: ast.expr) -> str:
    """The name with which an expression begins: `torch` of `torch.Generator().manual_seed`; empty where it has none."""
    while isinstance(called, ast.Attribute | ast.Call | ast.Subscript):
        called = called.func if isinstance(called, ast.Call) else called.value
    return called.id if isinstance(called, ast.Name) else ""


def binding(
    sources: Sequence[CellSource], place: int, name: str, given: bool
) -> Iterator[tuple[tuple[int, int], ast.stmt]]:
    """The statements that bind a name for a cell: those of the nearest cell above that has some, else of one below.

    Of the lesson's own cells only definitions, imports and constants count, and nothing that the lesson provides anyway.
    A learner's cell may say the same as one of the lesson, so what costs nothing counts whoever wrote it.
    """
    for at in (*range(place - 1, -1, -1), *range(place + 1, len(sources))):
        source = sources[at]
        if given and not source.own:
            continue
        found = [
            ((at, line), statement)
            for line, (statement, names) in enumerate(source.statements)
            if name in names and (source.own or is_definition(statement) or is_constant(statement))
        ]
        if found:
            yield from found
            return
