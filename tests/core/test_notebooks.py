"""Cells of notebook files and the directives in them."""

import pytest

from vqbet_course.core.notebooks import (
    directive,
    directives,
    has_directive,
    source_lines,
    source_of,
    without_directives,
)

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("#| export", ("export", "")),
        ("#| fig-alt: a: b", ("fig-alt", "a: b")),
        ("x = 1  #| no", None),
        ("# plain", None),
        ("#| default_exp tokens", ("default_exp", "tokens")),
        ("#|hide", ("hide", "")),
    ],
)
def test_a_directive_is_told_from_a_comment(line: str, found: tuple[str, str] | None) -> None:
    assert directive(line) == found


def test_directives_are_read_by_name_and_taken_out_by_name() -> None:
    source = "#| export\r\n#| fig-alt: a T\nx = 1\n"
    assert directives(source) == {"export": "", "fig-alt": "a T"}
    assert without_directives(source, ["export"]) == "#| fig-alt: a T\nx = 1\n"
    assert without_directives(source) == "x = 1\n"


@pytest.mark.parametrize("source", ["a\nb", ["a\n", "b"]])
def test_a_source_may_be_a_string_or_lines(source: str | list[str]) -> None:
    cell = {"cell_type": "code", "source": source}
    assert source_of(cell) == "a\nb" and source_lines("a\nb") == ["a\n", "b"] and not has_directive(cell, "a")
