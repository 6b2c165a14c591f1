"""The one error of input from outside."""

from collections.abc import Callable
from typing import Any


class BadInput(ValueError):
    """Something from outside is not usable. The message is one line: what is wrong, and what to do."""


class CannotWrite(BadInput):
    """A file cannot be written: no space, no permission. What was asked for is sound and can be asked for again."""


class CannotRender(BadInput):
    """This machine has nothing to render a simulator with, or it fails. What needs no frames goes on."""


def refusal(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """The message of the BadInput that a call raises. Raises AssertionError where it raises none."""
    try:
        call(*args, **kwargs)
    except BadInput as error:
        return str(error)
    raise AssertionError(f"{call.__name__} accepts this input")
