"""The one error of input from outside."""


class BadInput(ValueError):
    """Something from outside is not usable. The message is one line: what is wrong, and what to do."""


class CannotWrite(BadInput):
    """A file cannot be written: no space, no permission. What was asked for is sound and can be asked for again."""


class CannotRender(BadInput):
    """This machine has nothing to render a simulator with, or it fails. What needs no frames goes on."""
