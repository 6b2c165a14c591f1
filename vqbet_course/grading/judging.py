"""The grader's own computations: inputs, expected values, and what is wrong with an answer, in words.

Runs outside of the sandbox and never runs a student's code.
"""

import builtins
import importlib
import json
import re
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from vqbet_course.core.errors import BadInput
from vqbet_course.grading.answers import Answer, as_python, is_stub, parsed
from vqbet_course.grading.checks import Check, all_checks
from vqbet_course.grading.diagnosis import diagnose, gives, smallest_example
from vqbet_course.grading.grades import Verdict
from vqbet_course.grading.lessons import Lab, lab_of
from vqbet_course.grading.runner import OTHER_ERROR, Outputs, ask, metadata_of

LONGEST_HEADER = 100_000
"""Bytes of names that an answer may have; reading them takes many times as much memory."""


def released_module(lab: Lab) -> Any:
    """The module that a lab's lesson exports."""
    return importlib.import_module(f"vqbet_course.{lab.module}")


def make_job(exercise_id: str, seed: int, answer: Answer, told: bool = False) -> bytes:
    """What the sandbox needs to run a student's answer: see `runner`. `told`: an error's words come back, too."""
    check, lab = all_checks()[exercise_id], lab_of(exercise_id)
    about = {
        "given": json.dumps(lab.before(lab.exercises[exercise_id])),
        "source": answer.source,
        "helpers": json.dumps(answer.helpers),
        "after": json.dumps(answer.after),
        "probe": check.probe_source(),
        "answer": check.answer,
        "told": "told" if told else "",
    }
    return save(check.inputs(seed), about)


def judge_answer(exercise_id: str, seed: int, source: str, answer: bytes) -> Verdict:
    """What an answer from the sandbox is worth. Nothing in it is trusted: it may be any bytes.

    `source`: the student's cell; a name that an error misses is told only if it stands there.
    """
    check = all_checks()[exercise_id]
    try:
        if int.from_bytes(answer[:8], "little") > LONGEST_HEADER:
            raise ValueError
        about, got = metadata_of(answer), load(answer)
        status, error, line, name, words = (
            str(about.get(key, "")) for key in ("status", "error", "line", "name", "words")
        )
    except Exception:  # whatever a damaged file makes the reader say
        return Verdict("error", "the code ended its process before it gave an answer")
    if status == "not attempted":
        return unwritten(check, source, str(about.get("function", "")), line)
    if status == "error":
        if said := return_message(check, str(about.get("returned", "")), name):
            return Verdict("error", said)
        if error == "NameError" and name == check.answer:
            return Verdict("error", f"no cell of the notebook defines `{name}` so that it can be called")
        return Verdict("error", error_message(error, line, name if name_in(name, source) else "", words))
    return verdict(check, lab_of(exercise_id), seed, got)


def unwritten(check: type[Check], source: str, function: str, line: str) -> Verdict:
    """The verdict on an answer in which `raise NotImplementedError` is left, in this function and line."""
    tree, blanks = parsed(as_python(source)), check.blanks()
    left = [name for name in blanks if tree is not None and is_stub(tree, (name,))]
    if function in blanks and function not in left:
        where = f", in line {line} of its cell" if line.isdecimal() and len(line) < 6 else ""
        return Verdict("unfinished", f"`raise NotImplementedError` is still in `{function}`{where}")
    if left and len(left) < len(blanks):
        verb = "is" if len(left) == 1 else "are"
        return Verdict("unfinished", f"{' and '.join(f'`{name}`' for name in left)} {verb} still to be written")
    return Verdict("not attempted", "not attempted yet: write your code in place of `raise NotImplementedError`")


NUMBERS = dict(enumerate(("nothing", "one thing", "two", "three", "four", "five")))

RETURNS = {
    "nothing": "it returns nothing: is there a `return`?",
    "form": "what it returns cannot be used as the docstring says",
    "several": "it returns {0}, {1} are asked for",
    "kind": "it returns a {0} where a number or a tensor is asked for",
    "missing": "`{0}` is missing in what it returns",
    "no method": "the class has no `{0}`",
}
"""Forms of what an answer returned that cannot be compared; see `runner.wrong_return`."""


def return_message(check: type[Check], form: str, words: str) -> str:
    """What an answer returned instead of what was asked for, in words; empty where that is not known. Words from the
    sandbox are told only if they are no news: the check's own, the names of Python's types, small numbers."""
    if form in ("nothing", "form"):
        return RETURNS[form]
    if form == "several":
        held = [NUMBERS.get(int(number), "more") for number in words.split() if number.isdecimal() and len(number) < 6]
        return RETURNS[form].format(*held) if len(held) == 2 else ""
    if form == "kind":
        known = isinstance(getattr(builtins, words, None), type)
        return RETURNS[form].format(words) if known else "it returns something that is no number and no tensor"
    if form in ("missing", "no method") and name_in(words, check.probe_source()):
        return RETURNS[form].format(words)
    return ""


def name_in(name: str, source: str) -> bool:
    """Whether a name stands in a source, as a name of its own."""
    return name.replace(".", "_").isidentifier() and re.search(rf"\b{re.escape(name)}\b", source) is not None


def error_message(error: str, line: str, name: str, words: str) -> str:
    """An error of the student's code in words: the kind, its line, and what a missing name or module is called."""
    known = error == BadInput.__name__ or isinstance(getattr(builtins, error, None), type)
    error = error if known else "an error of its own"
    where = f" in line {line} of its cell" if line.isdecimal() and len(line) < 6 else ""
    if name and error == "NameError":
        return f"the name `{name}` is missing{where}: define it there, or in another cell with def, class, import or ="
    if name and error in ("ImportError", "ModuleNotFoundError"):
        return f"it uses `{name}`{where}, which is not there where exercises are graded"
    if error == "SyntaxError":
        return f"it is not Python: there is a syntax error{where}"
    return f"it raises {error}{where}" + (f": {words}" if words else "")


def verdict(check: type[Check], lab: Lab, seed: int, got: Outputs) -> Verdict:
    """Compare outputs with the solution's; where they differ, find out what the mistake is."""
    inputs, names = check.inputs(seed), vars(released_module(lab))
    expected = ask(check.probe, names[check.answer], inputs)
    wrong = difference(expected, got, check)
    if not wrong:
        return Verdict("passed", "passed")

    def differ(right: Outputs, mine: Outputs) -> bool:
        return bool(difference(right, mine, check))

    solution = lab.exercises[check.id].solution
    for known in check.misconceptions:
        if gives(known.source(solution), check, names, inputs, got, differ):
            return Verdict("wrong", wrong, known.name, known.hint)
    kind, hint, example = "", "", ""
    try:
        kind, hint = diagnose(check, lab, names, inputs, expected, got, differ)
        if not kind:
            example = smallest_example(
                inputs, expected, got, lambda right, mine: bool(tensor_difference(right, mine, check))
            )
    except Exception:  # whatever an answer holds: it is wrong, and only the words about it are missing
        pass
    return Verdict("wrong", wrong, kind, hint or check.hint, example)


def difference(expected: Outputs, got: Outputs, check: type[Check]) -> str:
    """The first thing that differs, in words; empty if the outputs agree. Inputs first: a changed one spoils others."""
    names = {key: key.split(".", 1)[1] for key in expected}
    for key, name in sorted(names.items(), key=lambda item: not item[1].startswith("input ")):
        if key not in got:
            return f"the result `{name}` is missing"
        if wrong := tensor_difference(expected[key], got[key], check):
            changed = name.removeprefix("input ")
            return f"the result `{name}` {wrong}" if changed == name else f"it changes its input `{changed}`"
    return ""


def tensor_difference(right: Tensor, mine: Tensor, check: type[Check]) -> str:
    """What is wrong with one tensor. A number may come as any kind of number, unless the exercise asks for whole ones;
    and a single number is just a number."""
    if mine.numel() == right.numel() == 1:
        mine = mine.reshape(right.shape)
    if mine.shape != right.shape:
        small = len(mine.shape) < 5 and max(mine.shape, default=0) < 100  # a large one could tell what was asked
        return f"has {f'shape {tuple(mine.shape)}' if small else 'another shape'}, expected {tuple(right.shape)}"
    if mine.is_complex() or (check.whole and mine.is_floating_point() and not right.is_floating_point()):
        return f"is of type {str(mine.dtype)[6:]}, expected {str(right.dtype)[6:]}"
    if right.dtype == torch.bool and bool((mine == OTHER_ERROR).any()):
        return "is wrong: an error is raised, but not one of the class ValueError (BadInput is one)"
    mine, right = mine.double(), right.double()
    if mine.isnan().any() and not right.isnan().any():
        return "holds NaN"
    close = torch.isclose(mine, right, rtol=check.tolerance, atol=check.tolerance, equal_nan=True)
    return "" if close.all() else "is wrong"
