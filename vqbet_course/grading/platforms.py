"""Grade books in the form that a learning platform imports: Moodle's grading worksheet, Canvas's grade book."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vqbet_course.core.errors import BadInput
from vqbet_course.grading.submissions import alphabetical


def as_csv(entries: Sequence[dict[str, Any]], kind: str) -> str:
    """A grade book that Moodle or Canvas imports. Raises BadInput for what they would not take."""
    need_numbers(entries, kind.capitalize())
    return csv_text(canvas_rows(entries) if kind == "canvas" else moodle_rows(entries))


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as the text of a CSV file."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def need_numbers(entries: Sequence[dict[str, Any]], platform: str) -> None:
    """Raise BadInput where no student has a number of this platform: it would not know whose the grades are."""
    if any(one["number"] and one["platform"] == platform for one in entries):
        return
    others = {one["platform"] for one in entries if one["number"]}
    instead = " or ".join(f"--format {other.lower()}" for other in sorted(others & {"Moodle", "Canvas"}))
    raise BadInput(
        f"no file has a name as {platform} gives it ({NAMED[platform]})"
        + (f", these are {' and '.join(sorted(others))}'s" if others else "")
        + f", so {platform} would not know whose the grades are; "
        + (f"use {instead} or json" if instead else "grade its zip file of all submissions as it comes, or use json")
    )


NAMED = {
    "Moodle": "Ada Lovelace_12345_assignsubmission_file_",
    "Canvas": "lovelaceada_12345_67890_01_tokens.ipynb",
}
"""A name of a file or folder as each platform gives it."""


def without_number(entries: Sequence[dict[str, Any]], kind: str) -> list[str]:
    """The students whom a platform will not find in the grade book, since no file of theirs has a name as it gives it."""
    names = {one["student"] for one in entries if not number_on(one, kind.capitalize())}
    return sorted(names, key=alphabetical) if kind.capitalize() in NAMED else []


def number_on(entry: dict[str, Any], platform: str) -> str:
    """A student's number on this platform; empty for one that another platform gave."""
    return str(entry["number"]) if entry["platform"] == platform else ""


def canvas_rows(entries: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
    """The rows of Canvas's grade book: one per student, a column per lab."""
    labs = sorted({entry["lab"] for entry in entries if entry["lab"]})
    most = {entry["lab"]: entry["max_score"] for entry in entries}
    points = {(entry["student"], entry["number"], entry["lab"]): entry["points"] for entry in entries}
    yield ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *labs]
    yield ["    Points Possible", "", "", "", "", *(most[lab] for lab in labs)]
    numbers = {(entry["student"], entry["number"]): number_on(entry, "Canvas") for entry in entries}
    for (student, number), shown in sorted(numbers.items(), key=lambda item: (alphabetical(item[0][0]), item)):
        own = [in_digits(points.get((student, number, lab))) for lab in labs]
        yield [as_text(student), shown, "", "", "", *own]


def moodle_rows(entries: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
    """The rows of Moodle's grading worksheet in English, which is of one assignment: one per student.

    Moodle finds a student by the identifier, and keeps a grade that was changed there after `Last modified (grade)`."""
    need_one_lab(entries)
    yield ["Identifier", "Full name", "Grade", "Last modified (grade)", "Feedback comments"]
    for entry in entries:
        if entry["points"] is None and not entry["problems"]:
            continue  # nothing to say, and an empty comment would take the place of one that stands in Moodle
        number = number_on(entry, "Moodle")
        said = as_text("; ".join(entry["problems"]))
        name = f"Participant {number}" if number else ""
        yield [name, as_text(entry["student"]), in_digits(entry["points"]), entry["graded"], said]


def need_one_lab(entries: Sequence[dict[str, Any]]) -> None:
    """Raise BadInput for grades of several labs."""
    labs = sorted({entry["lab"] for entry in entries if entry["lab"]})
    if len(labs) > 1:
        raise BadInput(
            f"these are grades of {', '.join(labs)}, and Moodle's worksheet is of one assignment; choose one with "
            f"--lab {labs[0].split('_')[0]}"
        )


def filled_worksheet(entries: Sequence[dict[str, Any]], path: Path, grade_column: str | None = None) -> str:
    """Moodle's own grading worksheet, downloaded in whatever language, with the grades filled in; all else stays.

    Its students are told by the number at the end of a cell (`Participant 12345`), and the grades' column by its name or
    by its place before the column that holds the maximum grade. Raises BadInput where a column or a student is missing.
    """
    need_one_lab(entries)
    need_numbers(entries, "Moodle")
    graded = [one for one in entries if one["points"] is not None]
    points = {number: in_digits(one["points"]) for one in graded if (number := number_on(one, "Moodle"))}
    header, *rows = worksheet_rows(path)
    at = identifier_column(rows, points)
    if at is None:
        raise BadInput(f"{path}: no column has these students' numbers (Participant 12345): is it of this assignment?")
    grade = grade_column_of(path, header, rows, grade_column)
    if missing := points.keys() - {participant(row[at]) for row in rows}:
        names = ", ".join(sorted(one["student"] for one in graded if one["number"] in missing))
        raise BadInput(f"{path}: has no row of {names}; download it anew, for all groups, without a filter")
    for row in rows:
        row[grade] = points.get(participant(row[at])) or row[grade]
    return "\ufeff" + csv_text([header, *rows])


def worksheet_rows(path: Path) -> list[list[str]]:
    """The rows of a worksheet, its header first, all equally long. Raises BadInput."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not readable as Moodle's grading worksheet, a CSV file in UTF-8 ({error})") from None
    if len(rows) < 2 or len({len(row) for row in rows}) > 1 or len(rows[0]) < 3:
        raise BadInput(f"{path}: not a table with commas between its columns; give Moodle's worksheet as it comes")
    return rows


def participant(cell: str) -> str:
    """The number at the end of an identifier (`Participant 12345`), in any language; empty for what is none."""
    found = re.fullmatch(r"\D+?(\d+)", cell)
    return found[1] if found else ""


def identifier_column(rows: Sequence[list[str]], numbers: dict[str, str]) -> int | None:
    """The column in which most of the cells are identifiers with these numbers; None: no column has one."""
    hits = [sum(participant(row[at]) in numbers for row in rows) for at in range(len(rows[0]))]
    return hits.index(max(hits)) if max(hits) else None


def grade_column_of(path: Path, header: Sequence[str], rows: Sequence[list[str]], name: str | None) -> int:
    """The place of the column for grades. Raises BadInput where it cannot be told."""
    if (name or "Grade") in header:
        return header.index(name or "Grade")
    most = [at for at in range(1, len(header)) if {holds_number(row[at]) for row in rows} == {True}]
    same = [at for at in most if len({row[at] for row in rows}) == 1]
    if name is None and len(same) == 1:
        return same[0] - 1
    asked = f"no column {name!r}" if name else "which column is for the grades is not clear"
    raise BadInput(f"{path}: {asked}; name it with --grade-column, one of: {', '.join(header)}")


def holds_number(cell: str) -> bool:
    """Whether a cell holds a number, with a point or a comma."""
    return re.fullmatch(r"\d+([.,]\d+)?", cell) is not None


def in_digits(points: float | None) -> str:
    """Points as a grade book has them; empty for no grade."""
    return "" if points is None else f"{points:g}"


def as_text(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
