"""Submissions as they arrive: folders and zip files of a class, notebooks and exported scripts, and what is in them."""

import functools
import hashlib
import io
import json
import lzma
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from vqbet_course.core.errors import BadInput
from vqbet_course.core.notebooks import Cell, source_lines, source_of
from vqbet_course.grading.answers import RUNNING_MAGICS, Answer, CellSource, answers_in, as_python, parsed
from vqbet_course.grading.grades import Ungradable
from vqbet_course.grading.lessons import Lab, all_labs

LARGEST = 10 << 20
"""Bytes that a submitted notebook may have; parsed, it can take twenty times as much."""

MOST_IN_ZIP = 20_000
"""Files that a zip file may hold."""

UNREADABLE = (OSError, EOFError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What reading a zip file raises that is damaged, encrypted, or packed in a way that Python does not know."""

HIDDEN = (".ipynb_checkpoints", "__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", ".git", "__pycache__")
"""Files and folders that programs make, and nobody hands in."""

MOODLE = re.compile(r"(?P<name>.+?)_(?P<number>\d+)_assignsubmission_(?P<kind>[a-z]+)(_(?P<file>.*))?")
BRIGHTSPACE = re.compile(
    r"(?P<number>\d+)-\d+ - (?P<name>.+?) - (?P<date>\w{3,9}\.? \d{1,2}, \d{4} .*?[AP]M)( - (?P<file>.*))?"
)
CANVAS = re.compile(r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<number>\d+)_\d+_(?P<file>.+)")
PLATFORMS = {"Moodle": MOODLE, "Brightspace": BRIGHTSPACE, "Canvas": CANVAS}
"""How each learning platform names what it gives."""

IN_FILE, IN_ZIP, BY_PLATFORM = "the file's date", "the date in the zip file", "the date that the learning platform gave"
CLOCKS = ("", IN_FILE, IN_ZIP, BY_PLATFORM)
"""What says when a file was handed in, the best last."""


@dataclass(frozen=True)
class Submission:
    """A file that was handed in: its name, which is its place; whose it is, and where its bytes are.

    `student` and `number` come from the names that a learning platform, `platform`, gives to files; otherwise the
    student is the name. `received`: when it was handed in, in seconds since 1970, or 0 where nothing says it; `clock`:
    what says it. `problem`: why it cannot be graded, in words; `left_out`: that it is no submission at all.
    `collection`: the path of the folder or zip file in which it was found.
    """

    name: str
    student: str
    number: str = ""
    late: bool = False
    received: float = 0.0
    clock: str = ""
    path: Path | None = None
    inside: tuple[str, ...] = field(default=())
    problem: str = ""
    left_out: bool = False
    platform: str = ""
    collection: str = ""

    @property
    def owner(self) -> tuple[str, str, str]:
        """Whose it is: the student's name and number, and the learning platform that gave the number."""
        return self.student, self.number, self.platform

    def read(self) -> bytes:
        """The submitted bytes. Raises Ungradable."""
        if self.problem:
            raise Ungradable(self.problem)
        assert self.path is not None
        if not self.inside:
            return read_file(self.path)
        data: io.BytesIO | Path = self.path
        try:
            for member in self.inside:
                with zipfile.ZipFile(data) as archive, archive.open(member) as file:
                    data = io.BytesIO(file.read(LARGEST + 1))
        except UNREADABLE as error:
            raise Ungradable(f"not readable in its zip file: {type(error).__name__}") from None
        assert isinstance(data, io.BytesIO)
        return within_limit(data.getvalue())


def read_file(path: Path) -> bytes:
    """A submitted file. Links are not followed: they may lead to another student's work. Raises Ungradable."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        why = "it is a link, not a notebook" if path.is_symlink() else f"not readable: {error.strerror}"
        raise Ungradable(why) from None
    with open(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise Ungradable("not a file")
        return within_limit(opened.read(LARGEST + 1))


def within_limit(data: bytes) -> bytes:
    """The data, if a notebook may have so many bytes. Raises Ungradable."""
    if len(data) > LARGEST:
        raise Ungradable(f"larger than {LARGEST >> 20} MB: clear its outputs")
    return data


# --- finding them -------------------------------------------------------------------------------------------


def find_submissions(target: Path) -> list[Submission]:
    """All files in a folder or a zip file, or the one file that is given. Raises BadInput if none can be graded."""
    if target.is_dir():
        found = [
            submission for path in sorted(walk(target)) for submission in members(path, path.relative_to(target), (), 0)
        ]
    elif target.is_file() and (is_one(target) or target.suffix.lower() == ".zip"):
        found = members(target, Path(target.name), (), 0)
    elif target.is_file():
        script = "; if it is a script made of a notebook, rename it to .py" if target.suffix.lower() == ".txt" else ""
        raise BadInput(
            f"{target}: no .ipynb, .py or .zip file{script}; give a submission, or a folder or zip file of them"
        )
    else:
        raise BadInput(f"{target}: no such file or folder; give a submission, or a folder or zip file of them")
    if all(submission.problem for submission in found):
        raise BadInput(
            f"{target}: holds no .ipynb, .py or .txt file, nor a .zip of them, that can be graded; give a submission, or a "
            "folder or zip file of them"
        )
    collection = collection_of(target)
    return [replace(one, collection=collection) for one in with_distinct_names(without_online_texts(found))]


def collection_of(target: Path) -> str:
    """What tells the submissions of a folder or zip file from those of others: its path."""
    return str(target.resolve())


def is_one(target: Path | str) -> bool:
    """Whether a path is that of one notebook or script, and of no class."""
    return Path(target).suffix.lower() in (".ipynb", ".py")


def chosen(submissions: Sequence[Submission], only: Sequence[str]) -> list[Submission]:
    """The submissions of these students or files, each told by its name, or by the student's name or number. Raises
    BadInput for a name that nobody has, or that several students have."""
    found: list[Submission] = []
    for asked in only:
        wanted = plain(asked)
        own = [one for one in submissions if wanted in names_of(one)]
        if not own:
            known = {name: name for one in submissions for name in (one.student, one.name)}
            near = get_close_matches(asked, known, 3, 0.4)
            raise BadInput(
                f"--only {asked}: no student and no file has this name"
                + (f"; did you mean {' or '.join(near)}?" if near else "; class.html has the names")
            )
        if len({one.owner for one in own}) > 1:
            numbers = ", ".join(sorted({one.number or one.name for one in own}))
            raise BadInput(f"--only {asked}: several students have this name; give a number or a file: {numbers}")
        found += [one for one in own if one not in found]
    return found


def names_of(submission: Submission) -> set[str]:
    """What a teacher may call a submission by: its name, with and without its suffix; the student's name or number."""
    place = submission.inside[-1] if submission.inside else submission.path.name if submission.path else ""
    short = PurePosixPath(submission.name).name
    names = {submission.name, short, *(name + PurePosixPath(place).suffix for name in (submission.name, short))}
    names |= {submission.student, submission.number}
    return {plain(name) for name in names if name}


def without_online_texts(found: Sequence[Submission]) -> list[Submission]:
    """The submissions, of which Moodle's online texts are left out where the student also handed in a file."""
    handed_in = {one.owner for one in found if one.problem != ONLINE_TEXT and not one.left_out}
    return [
        replace(one, problem=f"left out: {ONLINE_TEXT}", left_out=True)
        if one.problem == ONLINE_TEXT and one.owner in handed_in
        else one
        for one in found
    ]


NO_SUBMISSION = "neither a notebook nor a script: hand in the .ipynb file"
"""Why a file of another kind has no grade."""

ONLINE_TEXT = "a text typed into Moodle, not a file: hand in the .ipynb file"
"""Why what Moodle calls an online text has no grade."""


def walk(folder: Path) -> Iterator[Path]:
    """The files below a folder, links among them, whatever their names are."""
    for place, below, names in os.walk(folder):
        links = [name for name in below if os.path.islink(os.path.join(place, name))]
        yield from (Path(place) / name for name in (*names, *links))


def members(
    path: Path, place: Path, inside: tuple[str, ...], depth: int, received: float | None = None
) -> list[Submission]:
    """The submission that a file is; of a zip file, those that it holds. `received`: what the zip file around it says
    of the time."""
    name = escaped_path(place)
    base = replace(owner_of(name), path=path, inside=inside)
    if not base.received:
        when, clock = (os.lstat(path).st_mtime, IN_FILE) if received is None else (received, IN_ZIP)
        base = replace(base, received=when, clock=clock if when else "")
    if hidden := next((part for part in PurePosixPath(name).parts if part in HIDDEN or part.startswith("._")), ""):
        return [replace(base, problem=f"left out: {hidden} is made by a program", left_out=True)]
    if any((part := MOODLE.fullmatch(name)) and part["kind"] == "onlinetext" for name in PurePosixPath(name).parts):
        return [replace(base, problem=ONLINE_TEXT)]
    kind = place.suffix.lower()
    if kind == ".zip" and depth < 2:
        return in_zip(base, path, place, inside, depth)
    if kind not in (".ipynb", ".py", ".txt"):  # nbconvert gives a script of no language the suffix .txt
        return [replace(base, problem=NO_SUBMISSION)]
    return [base]


def in_zip(base: Submission, path: Path, place: Path, inside: tuple[str, ...], depth: int) -> list[Submission]:
    """The submissions in a zip file; where it cannot be read, itself, with the reason.

    A learning platform's zip file says when each member was handed in. A zip file in it was made by a student, who may
    write any date into it: its members were handed in when it was.
    """
    try:
        data: Path | io.BytesIO = io.BytesIO(base.read()) if inside else path
        if not inside and path.is_symlink():
            raise Ungradable("it is a link, not a zip file")
        with zipfile.ZipFile(data) as archive:
            held = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    except Ungradable as problem:
        return [replace(base, problem=str(problem))]
    except UNREADABLE as error:
        return [replace(base, problem=f"a damaged zip file: {' '.join(str(error).split())}")]
    if len(held) > MOST_IN_ZIP:
        return [replace(base, problem=f"a zip file with more than {MOST_IN_ZIP} files")]
    if not held:
        return [replace(base, problem="an empty zip file")]
    whole_class = not place.parent.parts and not inside and depth == 0
    folder = Path() if whole_class else place.with_suffix("")
    return [
        found
        for name in sorted(held)
        for found in members(
            path,
            folder / name,
            (*inside, name),
            depth + 1,
            date_in_zip(held[name]) if whole_class else base.received,
        )
    ]


def date_in_zip(info: zipfile.ZipInfo) -> float:
    """When a member of a zip file was last changed, in seconds since 1970; 0 where the zip file does not say it.

    Unix programs add the time in UTC (field 0x5455); the older field is in the clock of the machine that wrote it, and
    1980-01-01 where nobody set it.
    """
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        if kind == 0x5455 and size >= 5 and len(extra) >= 9 and extra[4] & 1:
            return float(struct.unpack("<i", extra[5:9])[0])
        extra = extra[4 + size :]
    if info.date_time <= (1980, 1, 1, 0, 0, 0):
        return 0.0
    with suppress(ValueError):
        return datetime(*info.date_time).timestamp()
    return 0.0


def escaped_path(path: Path) -> str:
    """A place as text: what is none, or would steer a terminal, is escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def owner_of(name: str) -> Submission:
    """Whose a file is, from the names that learning platforms give; its own name ends without its suffix."""
    short = re.sub(r"(?i)\.(ipynb|py)$", "", name) or name
    for part in PurePosixPath(name).parts:
        for platform, pattern in PLATFORMS.items():
            if found := pattern.fullmatch(part):
                about = found.groupdict()
                when = date_in_name(about.get("date") or "")
                late = bool(about.get("late"))
                clock = BY_PLATFORM if when else ""
                student = unicodedata.normalize("NFC", found["name"])
                return Submission(short, student, found["number"], late, when, clock, platform=platform)
    return Submission(short, unicodedata.normalize("NFC", short))


def date_in_name(date: str) -> float:
    """The time that Brightspace writes into a folder's name (`Oct 3, 2026 1159 PM`), in this machine's clock, in
    seconds since 1970; 0 where it is none."""
    words = date.replace(".", "").replace(":", "")
    for month in ("%b", "%B"):
        with suppress(ValueError):
            return datetime.strptime(words, f"{month} %d, %Y %I%M %p").timestamp()
    return 0.0


def plain(name: str) -> str:
    """A name without case and the form of accents."""
    return unicodedata.normalize("NFC", name).casefold()


def alphabetical(name: str) -> tuple[str, str]:
    """What names are sorted by: their letters without case and accents, then the name itself."""
    letters = (c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    return "".join(letters), name


COPY = re.compile(r"( ?\(\d{1,2}\)| ?-? ?[Cc]opy ?\d{0,2})$")
"""What browsers and Jupyter add to the name of a file that is there already."""


def copies(submissions: Sequence[Submission]) -> list[tuple[str, str]]:
    """Pairs of files of which the second has the name of a copy of the first: outside of a learning platform's names each
    file is a student, and these may be one."""
    names = {one.name for one in submissions if not one.number and not one.left_out}
    return [(COPY.sub("", name), name) for name in sorted(names) if COPY.sub("", name) in names - {name}]


def with_distinct_names(found: Sequence[Submission]) -> list[Submission]:
    """The submissions with names that differ on every file system, which may ignore case and the form of accents."""
    often = Counter(plain(submission.name) for submission in found)
    twice = [submission for submission in found if often[plain(submission.name)] > 1]
    apart = {
        id(s): f"{s.name} ({hashlib.sha256(repr((str(s.path), s.inside)).encode()).hexdigest()[:6]})" for s in twice
    }
    return [replace(s, name=apart.get(id(s), s.name)) for s in found]


# --- reading one --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Notebook:
    """The code cells of a submission, their code, and the lab that it answers."""

    lab: Lab
    cells: list[Cell]
    sources: list[CellSource]


def read_notebook_of(data: bytes) -> Notebook:
    """The lab and the code cells of submitted bytes, a notebook or a script made of one. Raises Ungradable."""
    text = text_in(data)
    if not text.strip():
        raise Ungradable("an empty file: save the notebook, and hand it in again")
    if is_script(text):
        if cells := script_cells(text):
            return with_its_lab(cells)
        raise Ungradable("not a notebook: it holds no code")
    try:
        notebook = json.loads(text)
        if "worksheets" in notebook:  # nbformat 3
            raise KeyError("worksheets")
        cells = [c for c in notebook["cells"] if c["cell_type"] == "code" and isinstance(source_of(c), str)]
        for cell in cells:
            cell.setdefault("metadata", {})
        known = [cell for cell in cells if isinstance(cell["metadata"].get("exercise", {}), dict)]
        name = notebook.get("metadata", {}).get("vqbet_course", {}).get("lab")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Ungradable("not a notebook: its JSON is damaged, or in an old format") from None
    return with_its_lab(known, name if isinstance(name, str) else "")


def text_in(data: bytes) -> str:
    """Submitted bytes as text, without the mark of UTF-8 that some editors write first."""
    return data.decode("utf-8", "replace").removeprefix("\ufeff")


def is_script(text: str) -> bool:
    """Whether a submitted text is a script and not the JSON of a notebook."""
    return not text.lstrip().startswith("{")


def with_its_lab(cells: list[Cell], name: str = "") -> Notebook:
    """The notebook with these cells; where no lab has the name, its code says which it is. Raises Ungradable."""
    sources = [
        CellSource(text_of(cell), exercise=str(cell["metadata"].get("exercise", {}).get("id", ""))) for cell in cells
    ]
    lab = all_labs().get(name) or lab_by_code(sources)
    ids = {exercise.cell_id for exercise in lab.exercises.values()}
    for cell, source in zip(cells, sources):
        source.own = not lab.holds(source)
        source.released = isinstance(cell.get("id"), str) and cell["id"] in ids
    return Notebook(lab, cells, sources)


def script_cells(text: str) -> list[Cell]:
    """The cells of a script: those that nbconvert (`# In[3]:`), editors and jupytext (`# %%`) mark, or its statements."""
    text = COMMENTED_OUT.sub(uncommented, text.replace("\r\n", "\n"))
    parts = MARKED_CELL.split(text)
    parts = parts if len(parts) > 1 else script_blocks(text)
    return [{"cell_type": "code", "metadata": {}, "source": part} for part in parts if part.strip()]


MARKED_CELL = re.compile(r"(?m)^# *(?:In ?\[[ \d]*\]:|%%%*(?:[ \t[].*)?)$")
"""The line with which an exported cell begins; `# %%time` is a magic that an export commented out."""

COMMENTED_OUT = re.compile(r"(?m)^# Commented out IPython magic.*\n(# %%\w.*(?:\n#.*)*)")
"""A cell with a magic for all of it, as Colab writes it: every line is a comment."""


def uncommented(found: re.Match[str]) -> str:
    """Such a cell as the student wrote it, where its magic runs it; its lines keep their numbers."""
    magic, *lines = found[1].split("\n")
    if magic.removeprefix("# ").split()[0] not in RUNNING_MAGICS:
        return found[0]
    return "\n".join(["", "", *(re.sub("^# ?", "", line) for line in lines)])


def script_blocks(text: str) -> list[str]:
    """The top-level statements of a script; where one has a syntax error, what stands between empty lines, so that an
    error costs no other exercise."""
    tree = parsed(as_python(text))
    if tree is None:
        return re.split(r"\n\s*\n(?=\S)", text)
    lines = source_lines(as_python(text))
    ends = [statement.end_lineno or 0 for statement in tree.body]
    return ["".join(lines[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def lab_by_code(sources: Sequence[CellSource]) -> Lab:
    """The lab most of whose answers are defined in these cells, for notebooks that lost their metadata. Raises
    Ungradable."""
    shares = {
        lab.name: sum(any(source.defines(name) for source in sources) for name in answer_names(lab))
        / len(answer_names(lab))
        for lab in all_labs().values()
    }
    best = max(shares, key=lambda name: shares[name])
    if shares[best] < 0.5:
        raise Ungradable("not a lab of this course: hand in the .ipynb file that you were given, filled in")
    return all_labs()[best]


def answer_names(lab: Lab) -> set[str]:
    """The names that the exercises of a lab ask for."""
    from vqbet_course.grading.checks import all_checks  # it imports torch, which finding submissions does without

    return {all_checks()[exercise_id].answer for exercise_id in lab.exercises}


def text_of(cell: Cell) -> str:
    """A cell's source as text that a file can hold; JSON may hold halves of characters."""
    return source_of(cell).encode("utf-8", "replace").decode()


def find_answers(notebook: Notebook) -> tuple[dict[str, list[Answer]], list[str]]:
    """The answers by exercise, the most likely first, and what a reader should know about the notebook."""
    lab, notes = notebook.lab, list[str]()
    found: dict[str, list[Answer]] = {}
    for exercise_id in lab.exercises:
        answers = answers_to(exercise_id, lab, notebook.sources)
        if answers:
            found[exercise_id] = answers
        if len(answers) > 1:
            notes.append(f"{exercise_id}: the notebook holds {len(answers)} answers; the first that is right counts")
    return found, notes + changed_cells(notebook)


def answers_to(exercise_id: str, lab: Lab, sources: Sequence[CellSource]) -> list[Answer]:
    """The answers to one exercise among the cells of a notebook or a session, the most likely first."""
    from vqbet_course.grading.checks import all_checks

    check = all_checks()[exercise_id]
    return answers_in(
        sources, exercise_id, check.answer, check.blanks(), lab.names_before[exercise_id], answer_names(lab)
    )


def changed_cells(notebook: Notebook) -> list[str]:
    """Notes about locked cells whose code is not as it was released, told by their code and not by their bytes."""
    held = {source.code for source in notebook.sources}
    statements = functools.cache(lambda: {code for source in notebook.sources for code in source.statement_codes})
    ids = {cell["id"] for cell in notebook.cells if isinstance(cell.get("id"), str)}
    notes = []
    for cell, first_line, code in notebook.lab.locked_code:
        if code.code not in held and not statements().issuperset(code.statement_codes):
            what = "was changed" if cell["id"] in ids else "was removed" if ids else "is not there as it was released"
            notes.append(f"locked cell `{first_line}` {what}: graded with the released one")
    return notes
