"""The grader's own computations: inputs, expected values, and what is wrong with an answer, in words.

Runs outside of the sandbox and never runs a student's code, except in `feedback`, which the student calls.
"""
import builtins
import importlib
import inspect
import json
import linecache
import secrets
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from vqbet_course.grading.checks import Check, Misconception, all_checks
from vqbet_course.grading.grades import Verdict
from vqbet_course.grading.lessons import Lab, lab_of
from vqbet_course.grading.runner import Outputs, ask, attempt, metadata_of, untouched

LONGEST_HEADER = 100_000
"""Bytes of names that an answer may have; reading them takes many times as much memory."""

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def released_module(lab: Lab) -> Any:
    """The module that a lab's lesson exports."""
    return importlib.import_module(f"vqbet_course.{lab.module}")


def make_job(exercise_id: str, seed: int, source: str) -> bytes:
    """What the sandbox needs to run a student's cell: see `runner`."""
    check, lab = all_checks()[exercise_id], lab_of(exercise_id)
    about = {"given": json.dumps(lab.before(lab.exercises[exercise_id])), "source": source,
             "probe": check.probe_source(), "answer": check.answer}
    return save(check.inputs(seed), about)


def judge_answer(exercise_id: str, seed: int, answer: bytes) -> Verdict:
    """What an answer from the sandbox is worth. Nothing in it is trusted: it may be any bytes."""
    try:
        if int.from_bytes(answer[:8], "little") > LONGEST_HEADER:
            raise ValueError
        about, got = metadata_of(answer), load(answer)
        status, error, line = (str(about.get(key, "")) for key in ("status", "error", "line"))
    except Exception:  # whatever a damaged file makes the reader say
        return Verdict("error", "the code ended its process before it gave an answer")
    if status == "not attempted":
        return Verdict("not attempted", "not attempted yet")
    if status == "error":
        error = error if isinstance(getattr(builtins, error, None), type) else "an error of its own"
        where = f" in line {line}" if line.isdecimal() and len(line) < 6 else ""
        return Verdict("error", f"it raises {error}{where}")
    return verdict(all_checks()[exercise_id], lab_of(exercise_id), seed, got)


def verdict(check: type[Check], lab: Lab, seed: int, got: Outputs) -> Verdict:
    """Compare outputs with the solution's, then with those of the known misconceptions."""
    inputs = check.inputs(seed)
    expected = ask(check.probe, getattr(released_module(lab), check.answer), inputs)
    wrong = difference(expected, got, check.tolerance)
    if not wrong:
        return Verdict("passed", "passed")
    for misconception in check.misconceptions:
        if not difference(outputs_of(misconception, check, lab, inputs), got, check.tolerance):
            return Verdict("wrong", wrong, misconception.name, misconception.hint)
    return Verdict("wrong", wrong, hint=check.hint)


def outputs_of(misconception: Misconception, check: type[Check], lab: Lab, inputs: Outputs) -> Outputs:
    """What a wrong implementation answers."""
    names = dict(vars(released_module(lab)))
    exec(misconception.source(lab.exercises[check.id].solution), names)
    return ask(check.probe, names[check.answer], inputs)


def difference(expected: Outputs, got: Outputs, tolerance: float) -> str:
    """The first thing that differs, in words; empty if the outputs agree. Inputs first: a changed one spoils others."""
    names = {key: key.split(".", 1)[1] for key in expected}
    for key, name in sorted(names.items(), key=lambda item: not item[1].startswith("input ")):
        if key not in got:
            return f"`{name}` is missing"
        if wrong := tensor_difference(expected[key], got[key], tolerance):
            changed = name.removeprefix("input ")
            return f"`{name}` {wrong}" if changed == name else f"it changes its input `{changed}`"
    return ""


def tensor_difference(right: Tensor, mine: Tensor, tolerance: float) -> str:
    """What is wrong with one tensor. Floats may be of any width, and a single number is just a number."""
    if mine.shape != right.shape:
        small = len(mine.shape) < 5 and max(mine.shape, default=0) < 100  # a large one could tell what was asked
        return f"has {f'shape {tuple(mine.shape)}' if small else 'another shape'}, expected {tuple(right.shape)}"
    if mine.dtype != right.dtype and not {mine.dtype, right.dtype} <= FLOATS:
        return f"is of type {str(mine.dtype)[6:]}, expected {str(right.dtype)[6:]}"
    mine, right = mine.double(), right.double()
    if mine.isnan().any() and not right.isnan().any():
        return "holds NaN"
    close = torch.isclose(mine, right, rtol=tolerance, atol=tolerance, equal_nan=True)
    return "" if close.all() else "is wrong"


def alone(check: type[Check], answer: Callable[..., Any], seed: int) -> str:
    """What goes wrong when the cell of an answer runs alone, as it is graded; nothing where its source is not known."""
    written = getattr(answer, check.blank[0], answer) if check.blank else answer
    code = getattr(inspect.unwrap(written), "__code__", None)
    source = "".join(linecache.getlines(code.co_filename)) if code else ""
    job = make_job(check.id, seed, source)
    about = attempt(job, metadata_of(job))[1] if source else {}
    return (f", but not alone, as it is graded: {about['error']} in line {about['line']}. Move what your cell takes "
            "from other cells into it") if about.get("status") == "error" else ""


def feedback(answer: Callable[..., Any]) -> str:
    """What `check` says in the notebook, about a function or class as it is there."""
    name = getattr(answer, "__name__", str(answer))
    check = next((check for check in all_checks().values() if check.answer == name), None)
    if check is None:
        return f"{name}: no exercise has this name"
    if (inspect.getmodule(answer) or check).__name__.startswith("vqbet_course."):
        return f"{check.id} {name}: this is the released one; run the cell with yours, then this one again"
    seed = secrets.randbits(62)
    try:
        found = verdict(check, lab_of(check.id), seed, ask(check.probe, answer, check.inputs(seed)))
    except KeyboardInterrupt:
        return f"{check.id} {name}: still running when you interrupted it; is there a loop that does not end?"
    except BaseException as error:  # a check reports, whatever happens: the notebook has to go on
        if untouched(error):
            return f"{check.id} {name}: not attempted yet. Hint: {check.hint}"
        return f"{check.id} {name}: it raises {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if found.status == "passed":
        return f"{check.id} {name}: passed{alone(check, answer, seed)}"
    known = f" This looks like: {found.misconception}." if found.misconception else ""
    return f"{check.id} {name}: {found.message}.{known} Hint: {found.hint}"
