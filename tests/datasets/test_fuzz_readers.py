"""Any kind of source, damaged at random: it is refused in one line or it is read, and its files stay as they were."""

import json
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources import MAKERS, Truth, authors
from test_robots import write_bag

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.inspection import inspect_source
from vqbet_course.datasets.readers import KINDS
from vqbet_course.tasks import open_source

JUNK: list[Any] = [None, 0, -1, 10**12, 0.5, "", "x", "../../etc", [], [10**12, 3], {}, True]


def bag(folder: Path) -> tuple[Path, Truth | None]:
    """ROS 2 bags of two episodes."""
    pytest.importorskip("rosbags")
    for number, rows in enumerate((range(6), range(6, 10))):
        write_bag(folder / "bags" / f"rosbag2_{number}", "SQLITE3", rows)
    return folder / "bags", None


TOPICS = (("observation.state", "/joint_states"), ("observation.images.raw", "/raw"), ("action", "/command"))
EVERY: dict[str, Any] = MAKERS | {"authors": authors, "bag": bag}


def files_of(path: Path) -> list[Path]:
    """All files of a source, in order."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def damage(file: Path, way: str, where: float, bit: int) -> None:
    """Cut a file off, change one of its bits, take it away, swap two halves, or put junk into its JSON."""
    data = bytearray(file.read_bytes())
    at = int(where * len(data))
    if way == "cut":
        file.write_bytes(data[:at])
    elif way == "flip" and data:
        data[at] ^= 1 << bit
        file.write_bytes(data)
    elif way == "remove":
        file.unlink()
    elif way == "swap":
        file.write_bytes(data[at:] + data[:at])
    elif way == "json" and (file.suffix == ".json" or file.name.startswith(".z")):
        values = json.loads(data)
        if not isinstance(values, dict) or not values:
            return
        values[sorted(values)[int(where * len(values))]] = JUNK[bit] if where < 0.5 else JUNK[-1 - bit]
        file.write_text(json.dumps(values))


def test_every_reader_is_tried(tmp_path: Path) -> None:
    tried = {"ros2_bag"}  # whose maker needs a package
    readers = {name: import_module(f"vqbet_course.datasets.readers.{name}") for name in KINDS}
    for name in EVERY.keys() - {"bag"}:
        (tmp_path / name).mkdir()
        path = EVERY[name](tmp_path / name)[0]
        tried.add(next(kind for kind, reader in readers.items() if reader.accepts(path)))
    assert tried == set(KINDS)


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    st.sampled_from(["cut", "flip", "flip", "remove", "swap", "json"]),
    st.floats(0, 0.999),
    st.floats(0, 0.999),
    st.integers(0, 7),
)
def test_damage_is_one_line(make: Any, way: str, which: float, where: float, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder))[0]
        files = files_of(path)
        damage(files[int(which * len(files))], way, where, bit)
        before = {file: file.read_bytes() for file in files_of(path)} if path.exists() else {}
        try:
            source = open_source(str(path), choice=Choice(fps=10, topics=TOPICS) if make is bag else None)
            for episode in source.sound_episodes():
                for frames in episode.images.values():
                    for _ in zip(range(len(episode)), frames(), strict=False):
                        pass
            inspect_source(source, quiet=True)
        except BadInput as refusal:
            assert "\n" not in str(refusal)
        assert {file: file.read_bytes() for file in before} == before
        shutil.rmtree(path, ignore_errors=True)
