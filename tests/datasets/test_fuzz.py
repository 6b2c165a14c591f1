"""A sound dataset, corrupted at random: it is refused in one line, or it still says exactly the same."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import npz

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets import writer
from vqbet_course.demos import Demos, load_demos
from vqbet_course.tasks import open_source

Corruption = Callable[[Path], object]

FILES = [
    "data/chunk-000/file-000.parquet",
    "data/chunk-000/file-001.parquet",
    "meta/info.json",
    "meta/contract.json",
    "meta/episodes/chunk-000/file-000.parquet",
    "meta/episodes/chunk-000/file-001.parquet",
    "meta/tasks.parquet",
]
JUNK: list[Any] = [None, 0, -1, 7, 1e9, 0.5, "", "x", "float64", [], [3], {}, True]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Demos]:
    """A dataset of two files with an episode each, as `convert` writes it."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "FILE_BYTES", 1)
        out = writer.write_dataset(open_source(str(npz(folder)[0])), folder / "dataset", quiet=True)
    return out, load_demos(open_source(str(out)))


def cut(file: str, keep: float) -> Corruption:
    def corrupt(dataset: Path) -> None:
        data = (dataset / file).read_bytes()
        (dataset / file).write_bytes(data[: int(keep * len(data))])

    return corrupt


def flip(file: str, where: float, bit: int) -> Corruption:
    def corrupt(dataset: Path) -> None:
        data = bytearray((dataset / file).read_bytes())
        data[int(where * len(data))] ^= 1 << bit
        (dataset / file).write_bytes(data)

    return corrupt


def remove(file: str) -> Corruption:
    return lambda dataset: (dataset / file).unlink()


def replace_by(file: str, other: str) -> Corruption:
    return lambda dataset: shutil.copy(dataset / other, dataset / file) if file != other else None


def rows(file: int, order: list[int]) -> Corruption:
    """Other rows than there were: fewer, doubled, out of order."""

    def corrupt(dataset: Path) -> None:
        path = dataset / FILES[file]
        table = pq.read_table(path)
        pq.write_table(table.take([i % len(table) for i in order]), path)

    return corrupt


def column_of(table: pa.Table, column: int | str) -> str:
    """A column by its name, where the table has it, or by number."""
    if isinstance(column, int):
        return table.column_names[column % len(table.column_names)]
    return column if column in table.column_names else table.column_names[0]


def cell(file: int, column: int | str, row: int, value: float | None) -> Corruption:
    """One value of a column."""

    def corrupt(dataset: Path) -> None:
        path = dataset / FILES[file]
        table = pq.read_table(path)
        name = column_of(table, column)
        values = table[name].to_pylist()
        old = values[row % len(values)]
        values[row % len(values)] = [value, *old[1:]] if isinstance(old, list) else value
        pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(values)), path)

    return corrupt


def drop(file: int, column: int | str) -> Corruption:
    def corrupt(dataset: Path) -> None:
        path = dataset / FILES[file]
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(column_of(table, column)), path)

    return corrupt


def json_value(file: str, steps: list[int], value: object) -> Corruption:
    """Somewhere in a JSON file, another value; -1 removes it."""

    def corrupt(dataset: Path) -> None:
        whole = place = json.loads((dataset / file).read_text())
        for step in steps:
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key, before = list(keys)[step % len(keys)], place
            place = place[key]
            if not isinstance(place, dict | list):
                break
        if value == -1:
            del before[key]
        else:
            before[key] = value
        (dataset / file).write_text(json.dumps(whole))

    return corrupt


a_file, a_share, a_number = st.sampled_from(FILES), st.floats(0, 0.999), st.integers(0, 80)
a_table, a_json = st.sampled_from([0, 1, 4, 5, 6]), st.sampled_from(["meta/info.json", "meta/contract.json"])
a_column = a_number | st.sampled_from(["checksum", "episode_index", "length", "action", "observation.state"])
a_value = st.none() | st.floats(width=32) | st.sampled_from([0.0, -1.0, 1.0, 45.0, 1e6])

corruptions = st.one_of(
    st.builds(cut, a_file, a_share),
    st.builds(flip, a_file, a_share, st.integers(0, 7)),
    st.builds(remove, a_file),
    st.builds(replace_by, a_file, a_file),
    st.builds(rows, a_table, st.lists(a_number, max_size=8)),
    st.builds(cell, a_table, a_column, a_number, a_value),
    st.builds(drop, a_table, a_column),
    st.builds(json_value, a_json, st.lists(a_number, min_size=1, max_size=4), st.sampled_from(JUNK)),
)


def says(demos: Demos) -> tuple[bytes, ...]:
    """Everything that a policy would learn from."""
    arrays = {**demos.observation, "action": demos.action, "ends": demos.episode_ends, "fps": np.array(demos.fps)}
    return tuple(
        part for name in sorted(arrays) for part in (name.encode(), np.ascontiguousarray(arrays[name]).tobytes())
    )


@settings(max_examples=400, deadline=None)
@given(st.lists(corruptions, min_size=1, max_size=2))
def test_a_corrupted_dataset_is_refused_or_says_the_same(sound: tuple[Path, Demos], chosen: list[Corruption]) -> None:
    original, demos = sound
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(shutil.copytree(original, Path(folder) / "dataset"))
        for corrupt in chosen:
            try:
                corrupt(dataset)
            except Exception:  # the second cannot be done to what the first has left
                break
        before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
        try:
            read = load_demos(open_source(str(dataset)))
        except BadInput as refusal:
            assert "\n" not in str(refusal) and str(dataset) in str(refusal)
        else:
            assert says(read) == says(demos)
        assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before
