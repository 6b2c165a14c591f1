"""Honest answers pass, however they are written: the whole way from the notebook to the verdict, in this process."""

import ast
import json
import secrets
from typing import Any

import pytest
from grading_labs import notebook_of
from variants import ALGORITHMS, Cells, in_every_style

from vqbet_course.core.notebooks import source_lines
from vqbet_course.grading import checks
from vqbet_course.grading.answers import (
    Answer,
    CellSource,
    answers_in,
    as_python,
    code_of,
    free_names,
    is_constant,
    parsed,
)
from vqbet_course.grading.checks import all_checks
from vqbet_course.grading.grades import Ungradable, Verdict
from vqbet_course.grading.judging import judge_answer, make_job
from vqbet_course.grading.lessons import lab_of
from vqbet_course.grading.runner import attempt, metadata_of, save
from vqbet_course.grading.submissions import find_answers, read_notebook_of, script_cells


@pytest.fixture(autouse=True)
def one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CASES", 1)


def notebook_with(exercise_id: str, cells: Cells, keep_metadata: bool = True) -> dict[str, Any]:
    """The student edition with these cells for one exercise."""
    lab = lab_of(exercise_id)
    notebook = notebook_of(lab.name)
    at = next(i for i, cell in enumerate(notebook["cells"]) if cell["id"] == lab.exercises[exercise_id].cell_id)
    if cells[0]:
        notebook["cells"][at]["source"] = cells[0]
    notebook["cells"][at + 1 : at + 1] = [
        {
            "cell_type": "code",
            "id": f"own-{n}",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for n, source in enumerate(cells[1:])
    ]
    if not keep_metadata:
        notebook["metadata"] = {}
        for cell in notebook["cells"]:
            cell.pop("id")
            cell["metadata"] = {}
    return notebook


def verdicts(exercise_id: str, data: bytes) -> list[Verdict]:
    """What each answer to an exercise is worth; they are tried until one is right."""
    found = []
    for answer in find_answers(read_notebook_of(data))[0].get(exercise_id, []):
        found.append(run(exercise_id, answer))
        if found[-1].status == "passed":
            break
    return found


def run(exercise_id: str, answer: Answer) -> Verdict:
    """The verdict on an answer that runs here."""
    seed = secrets.randbits(62)
    job = make_job(exercise_id, seed, answer, told=True)
    return judge_answer(exercise_id, seed, answer.source, save(*attempt(job, metadata_of(job))))


QUICK = ("1.2", "2.1", "4.2", "7.2", "9.2")
EXERCISES = [pytest.param(id, marks=() if id in QUICK else pytest.mark.slow) for id in all_checks()]


@pytest.mark.parametrize("exercise_id", EXERCISES)
def test_a_right_answer_passes_in_every_style(exercise_id: str) -> None:
    for style, cells in in_every_style(exercise_id).items():
        found = verdicts(exercise_id, json.dumps(notebook_with(exercise_id, cells)).encode())
        assert found and found[-1].status == "passed", f"{style}: {found}"


@pytest.mark.parametrize("exercise_id", list(ALGORITHMS))
def test_another_algorithm_passes(exercise_id: str) -> None:
    for source in ALGORITHMS[exercise_id]:
        found = verdicts(exercise_id, json.dumps(notebook_with(exercise_id, ["", source])).encode())
        assert found[-1].status == "passed", f"{source}\n{found}"


def test_there_are_300_of_them() -> None:
    assert sum(map(len, ALGORITHMS.values())) + sum(len(in_every_style(id)) for id in all_checks()) >= 300


@pytest.mark.parametrize("exercise_id", ["1.2", "2.2", "7.3"])
def test_a_notebook_without_ids_and_metadata_is_known_by_its_code_and_accused_of_nothing(exercise_id: str) -> None:
    notebook = notebook_with(exercise_id, [lab_of(exercise_id).exercises[exercise_id].solution], keep_metadata=False)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")
    data = json.dumps(notebook).encode()
    read = read_notebook_of(data)
    assert read.lab.name == lab_of(exercise_id).name and find_answers(read)[1] == []
    assert verdicts(exercise_id, data)[-1].status == "passed"


@pytest.mark.parametrize("mark", ["# %%", "# In[12]:", "# In[ ]:"])
def test_a_script_made_of_a_notebook_is_read(mark: str) -> None:
    cells = notebook_with("1.2", [lab_of("1.2").exercises["1.2"].solution])["cells"]
    text = f"\n\n{mark}\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert verdicts("1.2", text.encode())[-1].status == "passed"
    with pytest.raises(Ungradable, match="not a lab"):
        read_notebook_of(b"print(3)")


def test_a_method_that_another_cell_sets_belongs_to_the_answer() -> None:
    cells = [
        "class Block(nn.Module):\n    __init__ = None",
        "def forward(self, x):\n    x = x + self.attention("
        "self.norm_attention(x))\n    return x + self.mlp(self.norm_mlp(x))",
        "Block.forward = forward",
    ]
    solution = lab_of("4.2").exercises["4.2"].solution
    cells[0] = solution[: solution.index("    def forward")]
    assert verdicts("4.2", json.dumps(notebook_with("4.2", cells)).encode())[-1].status == "passed"


@pytest.mark.parametrize("own", ["far = 10000.0", "first = 40", "first = torch.ones(40)"])
@pytest.mark.parametrize("as_script", [False, True])
def test_a_constant_of_a_learner_counts_where_the_lesson_says_the_same(own: str, as_script: bool) -> None:
    """The lesson has `far = 10000.0` and `first = 40` in cells of its own."""
    name, solution = own.split(" ")[0], lab_of("1.2").exercises["1.2"].solution
    answer = solution.replace(
        "squared_distances(chunks", f"squared_distances(torch.as_tensor({name}).ndim * 0 + chunks"
    )
    assert answer != solution
    notebook = notebook_with("1.2", [answer, own])
    data = json.dumps(notebook).encode()
    if as_script:
        text = "\n\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
        data = text.encode()
    assert verdicts("1.2", data)[-1].status == "passed"


def test_a_constant_may_call_nothing_that_takes_its_time() -> None:
    sources = ["K = 3", "a: int = K + 1", "g = torch.Generator().manual_seed(K)", "s = [torch.tensor(range(4))][0]"]
    assert all(is_constant(ast.parse(source).body[0]) for source in sources)
    sources = ["K = train()", "a = run.policy()", "f = [load(x) for x in y]", "print(3)", "K: int"]
    assert not any(is_constant(ast.parse(source).body[0]) for source in sources)


def test_a_wrong_copy_takes_nothing_from_a_right_one() -> None:
    wrong = all_checks()["1.2"].misconceptions[0].source(lab_of("1.2").exercises["1.2"].solution)
    right = lab_of("1.2").exercises["1.2"].solution
    for cells in ([wrong, right], [right, wrong]):
        assert verdicts("1.2", json.dumps(notebook_with("1.2", cells)).encode())[-1].status == "passed"
    assert verdicts("1.2", json.dumps(notebook_with("1.2", [wrong])).encode())[0].misconception


@pytest.mark.parametrize(
    "source, words",
    [
        ("def nearest_code(chunks, codebook):\n    return distant(chunks)", "the name `distant` is missing in line 2"),
        ("def nearest_code(chunks, codebook):\n    return (", "a syntax error in line 2"),
        (
            "import sklearn_is_not_here as s\ndef nearest_code(chunks, codebook):\n    return s.fit(chunks)",
            "it uses `sklearn_is_not_here` in line 3",
        ),
    ],
)
def test_errors_are_called_by_their_names(source: str, words: str) -> None:
    assert words in run("1.2", Answer(source)).message


@pytest.mark.parametrize(
    "source", ["def nearest(chunks, codebook):\n    return 0", "if not 1:\n    def nearest_code(): 0"]
)
def test_an_answer_of_another_name_is_told_the_name(source: str) -> None:
    assert "no cell of the notebook defines `nearest_code`" in run("1.2", Answer(source)).message


def test_an_empty_file_is_called_so() -> None:
    for data in (b"", b"\n \n", b"\xef\xbb\xbf"):
        with pytest.raises(Ungradable, match="an empty file"):
            read_notebook_of(data)


def test_a_name_that_is_not_in_the_source_is_not_told() -> None:
    found = run("1.2", Answer("def nearest_code(chunks, codebook):\n    raise NameError('', name=str(chunks))"))
    assert "NameError" in found.message and "missing" not in found.message


def test_cells_are_read_as_ipython_reads_them() -> None:
    assert as_python("%%time\nx = 1").splitlines()[1] == "x = 1"
    assert as_python("%%bash\nrm -rf /") == "" and "get_ipython" in as_python("x = !ls\n%time y = 2")
    assert as_python("x = (") == "x = (" and as_python("x = 5 %\\\n3") == "x = 5 %\\\n3"


@pytest.mark.parametrize("odd", ["\x0c", "\x1c", "\x85", "\u2028"])
def test_what_only_str_splitlines_takes_for_the_end_of_a_line_is_none(odd: str) -> None:
    """Else the statements of a script would be cut at wrong places, and an error would have a wrong line."""
    head = f'"""notes{odd}of{odd}mine"""\n'
    sources = ["import torch", head + lab_of("1.1").exercises["1.1"].solution, "seen = 3"]
    cells = script_cells("\n\n\n".join(sources))
    assert [code_of(cell["source"]) for cell in cells if "seen" in cell["source"]] == [code_of("seen = 3")]
    assert all(parsed(cell["source"]) for cell in cells)
    wrong = f'def nearest_code(chunks, codebook):\n    """{odd}{odd}"""\n    return distant(chunks)'
    assert "missing in line 3" in run("1.2", Answer(wrong)).message
    assert "".join(source_lines(head)) == head and len(source_lines(head)) == 1


def test_free_names_are_what_a_cell_needs_of_others() -> None:
    source = "def f(a, b=c):\n    d = a\n    return [e + d for x in g]\nh = i\nimport j\nprint(j, h)"
    assert free_names(source) == {"c", "e", "g", "i", "print"}


def test_only_what_an_answer_needs_is_collected() -> None:
    sources = [
        CellSource("import os\nslow = train()"),
        CellSource("def other():\n    return 1 / 0\ndef help():\n    return deep"),
        CellSource("deep = 3"),
        CellSource("def f():\n    return help()", exercise="1.1", released=True),
    ]
    [answer] = answers_in(sources, "1.1", "f", ["f"], set(), set())
    assert answer.helpers == ["def help():\n    return deep", "deep = 3"]
