"""Faults on purpose, to show and to test what a training survives."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupted_at(owner: type, method: str, call: int) -> Iterator[None]:
    """Inside, call number `call` (from 0) of a method of a class raises KeyboardInterrupt, as Ctrl-C would; the block ends
    there without an error. Afterwards the method is as before. Raises AssertionError where that call never came."""
    as_usual, calls = getattr(owner, method), iter(range(call))

    def until_then(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return as_usual(*args, **kwargs)

    setattr(owner, method, until_then)
    try:
        yield
        raise AssertionError(f"{owner.__name__}.{method} was not called {call + 1} times")
    except KeyboardInterrupt:
        pass
    finally:
        setattr(owner, method, as_usual)
