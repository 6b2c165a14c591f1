"""The one error of input from outside."""


class BadInput(ValueError):
    """Something from outside is not usable. The message is one line: what is wrong, and what to do."""
