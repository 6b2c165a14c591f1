"""Small changes to a solution, each with the kind of mistake that it stands for.

The tests ask whether every changed solution is told from the right one; the judge asks which changed solution gives a
student's wrong numbers, and so what kind of mistake was made.
"""

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

OFF_BY_ONE = "off by one"
AXIS = "a wrong axis"
TRANSPOSE = "a missing or needless transpose"
SIGN = "a wrong sign"
FACTOR = "a missing or wrong factor"
TERM = "a missing term"
EXCHANGED = "two things exchanged"
REDUCTION = "another way to sum up: sum, mean, largest or smallest"
DETACHED = "a gradient that is cut off, or not cut off"
CONDITION = "a wrong or missing condition"
ERROR_KIND = "another error or loss than the one asked for"
MISSING_STEP = "a missing step"
NUMBER = "another number than the one asked for"

HINTS = {
    OFF_BY_ONE: "Take the smallest case and count by hand: where does each range, index and bound begin and end?",
    AXIS: "Write down the shape after each step. Which axis should go, and which should stay?",
    TRANSPOSE: "Write down the shape before and after each step: which two axes change places?",
    SIGN: "What is subtracted from what? Try numbers for which you know the sign of the result.",
    FACTOR: "Compare with the formula: what is each term multiplied with or divided by?",
    TERM: "Compare with the docstring, term by term: which one is not there?",
    EXCHANGED: "Compare the order of what you pass and return with the docstring.",
    REDUCTION: "Which does the docstring ask for: the sum, the mean, the largest or the smallest?",
    DETACHED: "Follow the gradient from the result back: where should it stop, and where should it go on?",
    CONDITION: "For which inputs should each branch be taken? Try one on each side of the border.",
    ERROR_KIND: "Which error does the docstring name: absolute, squared, cross-entropy or focal?",
    MISSING_STEP: "Compare with the docstring: which step does yours not take?",
    NUMBER: "Compare the numbers in your code with those in the docstring.",
}
"""What to look at for each kind of mistake."""

SWAPPED = {
    "mean": "sum",
    "sum": "mean",
    "max": "min",
    "min": "max",
    "argmax": "argmin",
    "argmin": "argmax",
    "amax": "amin",
    "amin": "amax",
    "any": "all",
    "all": "any",
}
LOSSES = {"mse_loss": "l1_loss", "l1_loss": "mse_loss", "log_softmax": "softmax", "focal_loss": "F.cross_entropy"}
TRANSPOSES = ("transpose", "t", "permute", "swapaxes")
AXES = ("dim", "axis")
REDUCING = (
    "sum",
    "mean",
    "max",
    "min",
    "argmax",
    "argmin",
    "amax",
    "amin",
    "softmax",
    "log_softmax",
    "cumsum",
    "cat",
    "stack",
    "concatenate",
    "squeeze",
    "unsqueeze",
    "flatten",
    "unflatten",
    "flip",
    "gather",
    "split",
    "std",
)
OTHER_SIGN: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add}
OTHER_BOUND: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}


@dataclass(frozen=True)
class Mutant:
    """A changed solution: the kind of mistake, the line, what stands there instead, and the whole source."""

    kind: str
    line: int
    change: str
    source: str


Replacement = tuple[str, ast.AST | None]
"""A kind of mistake, and what stands instead of a node; None: nothing."""


def mutants(source: str, blanks: Sequence[str]) -> Iterator[Mutant]:
    """All changes of one place in the bodies of some functions or methods of a source."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    for path, node, parents in places(tree, blanks):
        for kind, instead in replacements(node, parents):
            changed = copy.deepcopy(tree)
            put(changed, path, copy.deepcopy(instead))
            try:
                text = ast.unparse(ast.fix_missing_locations(changed))
            except (ValueError, AttributeError, TypeError):
                continue
            if text not in seen:
                seen.add(text)
                before = ast.unparse(node)
                after = ast.unparse(ast.fix_missing_locations(instead)) if instead is not None else "nothing"
                yield Mutant(kind, getattr(node, "lineno", 0), f"{before} -> {after}", text)


Path = tuple[tuple[str, int | None], ...]
"""Where a node is: the fields that lead to it, with positions in lists."""


def places(tree: ast.Module, blanks: Sequence[str]) -> Iterator[tuple[Path, ast.AST, tuple[ast.AST, ...]]]:
    """The nodes in the bodies of these functions, with their paths and the nodes around them, the nearest first."""

    def below(
        node: ast.AST, path: Path, parents: tuple[ast.AST, ...]
    ) -> Iterator[tuple[Path, ast.AST, tuple[ast.AST, ...]]]:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "ctx"):
                continue
            for at, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if not isinstance(child, ast.AST) or isinstance(child, ast.Raise):
                    continue
                if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                    continue  # a docstring
                here = (*path, (name, at))
                if isinstance(child, ast.stmt | ast.expr | ast.comprehension | ast.keyword | ast.Slice):
                    yield here, child, (node, *parents)
                yield from below(child, here, (node, *parents))

    for path, node, _ in [((), tree, ()), *below(tree, (), ())]:
        if isinstance(node, ast.FunctionDef) and node.name in blanks:
            yield from (place for place in below(node, path, ()) if place[0][len(path)][0] == "body")


def put(tree: ast.AST, path: Path, instead: ast.AST | None) -> None:
    """Put a node in place of the one at a path, or nothing: a statement becomes `pass`."""
    holder: object = tree
    for name, at in path[:-1]:
        value = getattr(holder, name)
        holder = value if at is None else value[at]
    name, at = path[-1]
    if at is None:
        setattr(holder, name, instead)
    elif instead is None and name in ("body", "orelse"):
        getattr(holder, name)[at] = ast.Pass()
    elif instead is None:
        del getattr(holder, name)[at]
    else:
        getattr(holder, name)[at] = instead


# --- the changes --------------------------------------------------------------------------------------------


def replacements(node: ast.AST, parents: tuple[ast.AST, ...]) -> Iterator[Replacement]:
    """What may stand wrongly in place of a node."""
    for change in CHANGES.get(type(node), []):
        yield from change(node, parents)
    if isinstance(node, ast.Call | ast.Name | ast.Attribute | ast.BinOp) and isinstance(
        parents[0], ast.Return | ast.Assign | ast.BinOp | ast.Call | ast.keyword | ast.Tuple
    ):
        loaded = not isinstance(getattr(node, "ctx", ast.Load()), ast.Store)
        if loaded and not (isinstance(parents[0], ast.Call) and parents[0].func is node):
            yield DETACHED, ast.Call(ast.Attribute(node, "detach", ast.Load()), [], [])


def plus(node: ast.expr, number: int) -> ast.expr:
    """node + number."""
    operator: ast.operator = ast.Add() if number > 0 else ast.Sub()
    return ast.BinOp(node, operator, ast.Constant(abs(number)))


def of_binary(node: ast.BinOp, _: object) -> Iterator[Replacement]:
    """Other operators, operands exchanged or left out."""
    op, kind = type(node.op), FACTOR
    if op in OTHER_SIGN:
        kind = TERM
        yield SIGN, ast.BinOp(node.left, OTHER_SIGN[op](), node.right)
    if op is ast.Mult:
        yield FACTOR, ast.BinOp(node.left, ast.Div(), node.right)
    if op in (ast.Div, ast.FloorDiv):
        yield FACTOR, ast.BinOp(node.left, ast.Mult(), node.right)
    if op is ast.FloorDiv:
        yield (
            OFF_BY_ONE,
            ast.UnaryOp(ast.USub(), ast.BinOp(ast.UnaryOp(ast.USub(), node.left), ast.FloorDiv(), node.right)),
        )
    if op in (ast.Sub, ast.Div, ast.MatMult, ast.Pow):
        yield SIGN if op is ast.Sub else EXCHANGED, ast.BinOp(node.right, node.op, node.left)
    yield kind, node.left
    yield kind, node.right


def of_unary(node: ast.UnaryOp, _: object) -> Iterator[Replacement]:
    """Without its sign or its `not`."""
    yield SIGN if isinstance(node.op, ast.USub) else CONDITION, node.operand


def of_compare(node: ast.Compare, _: object) -> Iterator[Replacement]:
    """Other borders, and the opposite."""
    for at, op in enumerate(node.ops):
        for kind, table in ((OFF_BY_ONE, OTHER_BOUND), (CONDITION, OPPOSITE)):
            if type(op) in table:
                yield (
                    kind,
                    ast.Compare(node.left, [*node.ops[:at], table[type(op)](), *node.ops[at + 1 :]], node.comparators),
                )
    if len(node.ops) > 1:
        yield CONDITION, ast.Compare(node.left, node.ops[:1], node.comparators[:1])
        yield CONDITION, ast.Compare(node.comparators[-2], node.ops[-1:], node.comparators[-1:])


def of_constant(node: ast.Constant, parents: tuple[ast.AST, ...]) -> Iterator[Replacement]:
    """Other numbers: the next ones, twice as much, the opposite."""
    value = node.value
    if isinstance(value, bool):
        yield CONDITION, ast.Constant(not value)
    elif isinstance(value, int):
        kind = kind_of_number(node, parents)
        yield kind, ast.Constant(value + 1)
        yield kind, ast.Constant(value - 1) if value else ast.UnaryOp(ast.USub(), ast.Constant(1))
        if kind == AXIS and value:
            yield kind, ast.Constant(0)
    elif isinstance(value, float):
        yield NUMBER, ast.Constant(2 * value)
        yield NUMBER, ast.Constant(0.0 if value else 1.0)


def kind_of_number(node: ast.AST, parents: tuple[ast.AST, ...]) -> str:
    """What a wrong number is, from where it stands."""
    if isinstance(parents[0], ast.BinOp):
        return FACTOR if isinstance(parents[0].op, ast.Mult | ast.Div | ast.Pow) else OFF_BY_ONE
    for outer in parents:
        if isinstance(outer, ast.Compare):
            return OFF_BY_ONE
        if isinstance(outer, ast.keyword) and outer.arg in AXES:
            return AXIS
        if isinstance(outer, ast.Subscript | ast.Slice):
            return OFF_BY_ONE
        if isinstance(outer, ast.Call):
            name = name_of(outer.func)
            if name in REDUCING or name in TRANSPOSES:
                return AXIS
            return OFF_BY_ONE if name in ("range", "arange", "clamp", "min", "max", "maximum", "minimum") else NUMBER
        if isinstance(outer, ast.stmt):
            break
    return OFF_BY_ONE


def name_of(function: ast.expr) -> str:
    """The last name of what is called."""
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def of_call(node: ast.Call, parents: tuple[ast.AST, ...]) -> Iterator[Replacement]:
    """Another function, other arguments, or what it was called on."""
    name = name_of(node.func)
    if name in SWAPPED:
        yield REDUCTION, called(node, SWAPPED[name])
    if name == "len":
        yield OFF_BY_ONE, plus(node, 1)
        yield OFF_BY_ONE, plus(node, -1)
    if name in LOSSES:
        yield ERROR_KIND, called(node, LOSSES[name])
    if name in ("range", "arange") and node.args:
        at = min(1, len(node.args) - 1)
        for number in (1, -1):
            yield OFF_BY_ONE, with_arguments(node, [*node.args[:at], plus(node.args[at], number), *node.args[at + 1 :]])
            if at:
                yield OFF_BY_ONE, with_arguments(node, [plus(node.args[0], number), *node.args[1:]])
            both = [ast.Constant(0), *node.args] if not at else node.args
            yield OFF_BY_ONE, with_arguments(node, [plus(both[0], number), plus(both[1], number), *both[2:]])
    if len(node.args) >= 2 and not any(isinstance(argument, ast.Starred) for argument in node.args[:2]):
        yield EXCHANGED, with_arguments(node, [node.args[1], node.args[0], *node.args[2:]])
    if node.args and name not in ("range", "arange"):
        yield MISSING_STEP, with_arguments(node, node.args[:-1])
    for at in range(len(node.keywords)):
        yield MISSING_STEP, ast.Call(node.func, node.args, [*node.keywords[:at], *node.keywords[at + 1 :]])
    if isinstance(node.func, ast.Attribute):
        kind = {"detach": DETACHED} | dict.fromkeys(TRANSPOSES, TRANSPOSE)
        yield kind.get(name, MISSING_STEP), node.func.value
    elif len(node.args) == 1:
        yield MISSING_STEP, node.args[0]
    if name_of(node.func) in ("log_softmax", "softmax", "exp", "log", "sqrt", "cos", "abs") and node.args:
        yield MISSING_STEP, node.args[0]


def called(node: ast.Call, name: str) -> ast.Call:
    """The same call of another function."""
    if "." in name:
        owner, attribute = name.split(".")
        return ast.Call(ast.Attribute(ast.Name(owner, ast.Load()), attribute, ast.Load()), node.args, node.keywords)
    function: ast.expr = ast.Name(name, ast.Load())
    if isinstance(node.func, ast.Attribute):
        function = ast.Attribute(node.func.value, name, ast.Load())
    return ast.Call(function, node.args, node.keywords)


def with_arguments(node: ast.Call, arguments: list[ast.expr]) -> ast.Call:
    """The same call with other arguments."""
    return ast.Call(node.func, arguments, node.keywords)


def of_slice(node: ast.Slice, _: object) -> Iterator[Replacement]:
    """Bounds that are one further, or not there."""
    lower, upper = node.lower or ast.Constant(0), node.upper
    yield OFF_BY_ONE, ast.Slice(plus(lower, 1), upper, node.step)
    if node.lower is not None:
        yield OFF_BY_ONE, ast.Slice(plus(lower, -1), upper, node.step)
        yield OFF_BY_ONE, ast.Slice(None, upper, node.step)
    if node.lower is not None and upper is not None:
        for number in (1, -1):
            yield OFF_BY_ONE, ast.Slice(plus(node.lower, number), plus(upper, number), node.step)
    if upper is None:
        yield OFF_BY_ONE, ast.Slice(node.lower, ast.UnaryOp(ast.USub(), ast.Constant(1)), node.step)
    else:
        yield OFF_BY_ONE, ast.Slice(node.lower, plus(upper, 1), node.step)
        yield OFF_BY_ONE, ast.Slice(node.lower, plus(upper, -1), node.step)
        yield OFF_BY_ONE, ast.Slice(node.lower, None, node.step)


def of_attribute(node: ast.Attribute, _: object) -> Iterator[Replacement]:
    """Without a transpose."""
    if node.attr in ("T", "mT", "H"):
        yield TRANSPOSE, node.value


def of_boolean(node: ast.BoolOp, _: object) -> Iterator[Replacement]:
    """`and` for `or`, and each part alone."""
    yield CONDITION, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for at in range(len(node.values)):
        rest = [*node.values[:at], *node.values[at + 1 :]]
        yield CONDITION, ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0]


def of_choice(node: ast.IfExp, _: object) -> Iterator[Replacement]:
    """Always one of the two."""
    yield CONDITION, node.body
    yield CONDITION, node.orelse


def of_if(node: ast.If, _: object) -> Iterator[Replacement]:
    """Never, and always."""
    for value in (False, True):
        yield CONDITION, ast.If(ast.Constant(value), node.body, node.orelse)


def of_statement(node: ast.stmt, _: object) -> Iterator[Replacement]:
    """Left out."""
    yield MISSING_STEP, None


def of_assignment(node: ast.Assign, _: object) -> Iterator[Replacement]:
    """The value that the target had before."""
    [target, *_] = node.targets
    if isinstance(target, ast.Name) and any(
        isinstance(n, ast.Name) and n.id == target.id for n in ast.walk(node.value)
    ):
        yield MISSING_STEP, None


def of_augmented(node: ast.AugAssign, _: object) -> Iterator[Replacement]:
    """Subtracted for added, or overwritten."""
    if type(node.op) in OTHER_SIGN:
        yield SIGN, ast.AugAssign(node.target, OTHER_SIGN[type(node.op)](), node.value)
    yield MISSING_STEP, ast.Assign([node.target], node.value)
    yield MISSING_STEP, None


def of_comprehension(node: ast.comprehension, _: object) -> Iterator[Replacement]:
    """Without its conditions."""
    if node.ifs:
        yield CONDITION, ast.comprehension(node.target, node.iter, [], node.is_async)


def of_tuple(node: ast.Tuple, parents: tuple[ast.AST, ...]) -> Iterator[Replacement]:
    """Neighbours exchanged."""
    for at in range(len(node.elts) - 1):
        if not any(isinstance(part, ast.Slice) for part in node.elts):
            parts = [*node.elts[:at], node.elts[at + 1], node.elts[at], *node.elts[at + 2 :]]
            yield EXCHANGED, ast.Tuple(parts, node.ctx)


CHANGES: dict[type[ast.AST], list[Callable[..., Iterator[Replacement]]]] = {
    ast.BinOp: [of_binary],
    ast.UnaryOp: [of_unary],
    ast.Compare: [of_compare],
    ast.Constant: [of_constant],
    ast.Call: [of_call],
    ast.Slice: [of_slice],
    ast.Attribute: [of_attribute],
    ast.BoolOp: [of_boolean],
    ast.IfExp: [of_choice],
    ast.If: [of_if],
    ast.Expr: [of_statement],
    ast.AugAssign: [of_augmented],
    ast.Assign: [of_assignment],
    ast.comprehension: [of_comprehension],
    ast.Tuple: [of_tuple],
    ast.List: [],
}
"""Which changes are tried at which node."""
