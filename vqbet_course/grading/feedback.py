"""What `check` says in the notebook: the learner's answer is run as it will be when it is graded.

The answer is found by name in what the session has executed, and run in a sandbox of the grader's kind, in a process of
its own that stays alive while the notebook is open. So what passes here passes there: the same modules can be
imported, the answer is alone, and its limits are the same.
"""

import inspect
import linecache
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vqbet_course.core.pages import render
from vqbet_course.grading.answers import Answer, CellSource
from vqbet_course.grading.checks import Check, all_checks
from vqbet_course.grading.explanations import EXPLANATIONS
from vqbet_course.grading.grades import Ungradable, Verdict
from vqbet_course.grading.judging import judge_answer, make_job
from vqbet_course.grading.lessons import Lab, lab_of
from vqbet_course.grading.limits import Limits
from vqbet_course.grading.report import coded
from vqbet_course.grading.sandbox import Sandbox, kept_sandbox
from vqbet_course.grading.submissions import answers_to

PASSED: dict[str, set[str]] = {}
"""The exercises that this session has solved, by lab."""


@dataclass(frozen=True)
class Card:
    """What `check` shows: the exercise, its mark, the points so far, and what to look at."""

    title: str
    verdict: Verdict
    points: str = ""
    note: str = ""

    def __str__(self) -> str:
        said = "passed" if self.verdict.status == "passed" else self.verdict.message
        known = f" This looks like: {self.verdict.misconception}." if self.verdict.misconception else ""
        example = f" {self.verdict.example}." if self.verdict.example else ""
        hint = f" Hint: {self.verdict.hint}" if self.verdict.hint else ""
        end = "" if said.endswith((".", "?")) or not (known or example or hint or self.note) else "."
        return f"{self.title}: {said}{end}{known}{example}{hint}{' ' + self.note if self.note else ''}"

    def html(self) -> str:
        """The card as HTML."""
        return render("check_card.html", card=self, coded=coded)


def show_card(answer: Callable[..., Any]) -> None:
    """Show the card of an answer; plain text where there is no notebook. Never raises."""
    card = card_of(answer)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel"):
        print(card)
        return
    from IPython.display import display

    display({"text/html": card.html(), "text/plain": str(card)}, raw=True)


def card_of(answer: Callable[..., Any]) -> Card:
    """What is to be said of an answer, which is a function or class of the session."""
    name = str(getattr(answer, "__name__", answer))
    check = next((check for check in all_checks().values() if check.answer == name), None)
    if check is None:
        return Card(name, Verdict("error", "no exercise has this name"))
    if isinstance(answer, str):
        return Card(name, Verdict("error", f"write `check({name})`, without quotes: it takes your function or class"))
    title = f"{check.id} {name}"
    if (inspect.getmodule(answer) or check).__name__.startswith("vqbet_course."):
        return Card(title, Verdict("error", "this is the released one; run the cell with yours, then this one again"))
    lab = lab_of(check.id)
    try:
        found, note = answer_of(answer, check, lab)
        with kept_sandbox(lab) as sandbox:
            verdict = try_answer(check, found, sandbox)
    except KeyboardInterrupt:
        verdict, note = (
            Verdict("stopped", "interrupted while your code was running; is there a loop that does not end?"),
            "",
        )
    except Exception as error:  # a check reports, whatever happens: the notebook has to go on
        verdict, note = Verdict("error", f"it could not be checked ({type(error).__name__}: {error})"), ""
    if verdict.status == "passed":
        PASSED.setdefault(lab.name, set()).add(check.id)
        note = " ".join(filter(None, (note, EXPLANATIONS[check.id])))
    so_far = sum(lab.exercises[solved].points for solved in PASSED.get(lab.name, ()))
    return Card(title, verdict, f"{so_far} of {lab.max_score} points", note)


def answer_of(answer: Callable[..., Any], check: type[Check], lab: Lab) -> tuple[Answer, str]:
    """The answer as it stands in the session's cells, and a note where its last version has a syntax error."""
    mine = CellSource(source_code(answer, check))
    sources = [CellSource(text) for text in executed_cells()]
    note = ""
    for source in reversed(sources):
        if source.text == mine.text:
            break
        if source.mentions(check.answer):
            note = "The last version of this cell has a syntax error and was not run: this is about the one before it."
            break
    others = [source for source in sources if not source.defines(check.answer)]
    for source in others:
        source.own = not lab.holds(source)
    [found, *_] = answers_to(check.id, lab, [*others, mine])
    return found, note


def source_code(answer: Callable[..., Any], check: type[Check]) -> str:
    """The source of the cell that defines an answer. Raises OSError where nobody kept it."""
    written = getattr(answer, check.blank[0], answer) if check.blank else answer
    for part in (written, *vars(answer).values()):
        code = getattr(inspect.unwrap(part), "__code__", None) if callable(part) else None
        lines = linecache.getlines(code.co_filename) if code else []
        source = "".join(lines)
        if CellSource(source).defines(check.answer):
            # IPython keeps lines that end where `str.splitlines` ends them; Python ends fewer
            as_written = (cell for cell in executed_cells() if cell.splitlines() == source.splitlines())
            return next(as_written, source)
    for source in reversed(executed_cells()):
        if CellSource(source).defines(check.answer):
            return source
    raise OSError(f"the source of {check.answer} is not known: define it in a cell of the notebook")


def executed_cells() -> list[str]:
    """The sources of the cells that this session has executed, in their order; none outside of IPython."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return [*shell.history_manager.input_hist_raw][-1000:] if shell is not None else []


def try_answer(check: type[Check], answer: Answer, sandbox: Sandbox) -> Verdict:
    """The verdict on an answer, run in the sandbox with fresh inputs."""
    from vqbet_course.grading.grader import stopped

    seed, limits = secrets.randbits(62), Limits()
    try:
        ended, said = sandbox.run(make_job(check.id, seed, answer, told=True), limits)
    except Ungradable as problem:
        return Verdict("error", str(problem))
    verdict = stopped(ended, limits) or judge_answer(check.id, seed, answer.source, said)
    return verdict if verdict.hint or verdict.status in ("passed", "stopped") else verdict.with_hint(check.hint)
