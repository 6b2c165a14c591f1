"""Faults on purpose."""

import pytest

from vqbet_course.training.faults import interrupted_at


class Counter:
    """Counts its calls."""

    seen = 0

    def count(self) -> int:
        self.seen += 1
        return self.seen


def test_the_call_is_interrupted_and_later_ones_work_again() -> None:
    counter, usual, after = Counter(), Counter.count, []
    with interrupted_at(Counter, "count", call=2):
        after.append(counter.count())
        after.append(counter.count())
        after.append(counter.count())
    assert after == [1, 2]
    assert Counter.count is usual and counter.count() == 3


def test_another_error_is_not_hidden() -> None:
    with pytest.raises(ValueError), interrupted_at(Counter, "count", call=9):
        raise ValueError
    assert Counter().count() == 1


def test_a_call_that_never_comes_is_told() -> None:
    with pytest.raises(AssertionError, match="not called 3 times"), interrupted_at(Counter, "count", call=2):
        Counter().count()
