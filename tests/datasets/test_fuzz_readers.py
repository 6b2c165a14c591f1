"""Any kind of source, damaged at random: it is refused in one line or it is read, and its files stay as they were."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources import MAKERS

from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.inspection import inspect_source
from vqbet_course.tasks import open_source

JUNK = [None, 0, -1, 10**12, 0.5, "", "x", "../../etc", [], [10**12, 3], {}, True]


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


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    st.sampled_from(["cut", "flip", "flip", "remove", "swap", "json"]),
    st.floats(0, 0.999),
    st.floats(0, 0.999),
    st.integers(0, 7),
)
def test_damage_is_one_line(make, way: str, which: float, where: float, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder))[0]
        files = files_of(path)
        damage(files[int(which * len(files))], way, where, bit)
        before = {file: file.read_bytes() for file in files_of(path)} if path.exists() else {}
        try:
            source = open_source(str(path))
            for episode in source.sound_episodes():
                for frames in episode.images.values():
                    for _ in zip(range(len(episode)), frames(), strict=False):
                        pass
            inspect_source(source, quiet=True)
        except BadInput as refusal:
            assert "\n" not in str(refusal)
        assert {file: file.read_bytes() for file in before} == before
        shutil.rmtree(path, ignore_errors=True)
