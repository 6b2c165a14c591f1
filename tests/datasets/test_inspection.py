"""The report on a source: its figures, its outliers with their reasons, its plots."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sources import MAKERS, npz, states

from vqbet_course import cli
from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.inspection import inspect_source, longest_run, plot, table_of
from vqbet_course.datasets.readers import with_units
from vqbet_course.demos import Normalizer, load_demos, make_windows
from vqbet_course.tasks import open_source

SMALL = VQBeTConfig.laptop(observation_sizes={"observation.state": 2}, action_chunk_size=3, n_action_steps=3)


def walk(tmp_path: Path, n_episodes: int = 9, n: int = 60) -> dict[str, np.ndarray]:
    """Pushers that go round steadily beside a T; the arrays of an .npz."""
    phase = np.tile(np.arange(n) / 10, n_episodes)
    pusher = 256 + 150 * np.column_stack([np.cos(phase), np.sin(phase)])
    state = np.column_stack([pusher, np.full((len(phase), 2), 256), np.zeros(len(phase))])
    draw = np.random.default_rng(0)
    return {
        "state": state,
        "action": pusher + draw.uniform(5, 10, pusher.shape),
        "episode_ends": n * np.arange(1, n_episodes + 1),
    }


def reasons(folder: Path, **arrays: np.ndarray) -> dict[int, str]:
    """{episode: reason} for the outliers of an .npz."""
    np.savez(folder / "walk.npz", **arrays)  # type: ignore[arg-type]
    report = inspect_source(open_source(str(folder / "walk.npz"))).report
    return {outlier["episode"]: outlier["reason"] for outlier in report["outliers"]}


def test_the_report_counts_what_there_is(tmp_path: Path) -> None:
    path, truth = npz(tmp_path)
    report = json.loads(json.dumps(inspect_source(open_source(str(path)), SMALL).report))
    assert (report["episodes"], report["frames"], report["fps"]) == (2, 10, 10.0)
    assert report["lengths"] == {"shortest": 4, "median": 5.0, "longest": 6}
    assert [report[k] for k in ("robot", "operator", "license", "cameras")] == ["unstated"] * 3 + [[]]
    action = truth.numbers["action"]
    found = report["features"]["action"]
    ends = list(zip(action.min(0).tolist(), action.max(0).tolist(), strict=True))
    assert [(row["low"], row["high"]) for row in found.pop("numbers")] == ends
    assert found == {
        "shape": [2],
        "unit": "px",
        "low": float(action.min()),
        "high": float(action.max()),
        "missing": 0,
    }
    demos = load_demos(open_source(str(path)))
    windows = make_windows(demos, Normalizer.fit(demos), SMALL.n_obs_steps, SMALL.n_queries, SMALL.action_chunk_size)
    assert (report["windows"], report["chunks"]) == (len(windows.chunk_index), len(windows.chunks))
    long = replace(SMALL, action_chunk_size=8, n_action_steps=8)
    assert inspect_source(open_source(str(path)), long).report["too_short"] == 2


def test_what_is_missing_is_counted_not_refused(tmp_path: Path) -> None:
    state = states()
    state[7, 0] = np.nan
    report = inspect_source(open_source(str(npz(tmp_path, state=state)[0]))).report
    assert report["features"]["observation.state"]["missing"] == 1
    assert {"episode": 1, "reason": "1 rows with missing values"} in report["outliers"]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_kind_is_inspected_and_plotted(make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, truth = make(tmp_path)
    assert cli.main(["demos", "inspect", str(path), "--json", "--out", str(tmp_path / "plots")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fps"] == truth.fps and set(truth.images) == set(report["cameras"])
    for name, values in truth.images.items():
        assert report["features"][name]["shape"] == list(values.shape[1:])
    assert (tmp_path / "plots" / "inspect.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(["demos", "inspect", str(path)]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in report["features"]) and "unstated" in table


def test_ordinary_episodes_are_no_outliers(tmp_path: Path) -> None:
    assert reasons(tmp_path, **walk(tmp_path)) == {}


def test_a_joint_that_rests_at_its_end_in_most_episodes_makes_none_an_outlier(tmp_path: Path) -> None:
    arrays = walk(tmp_path)
    for start in range(0, len(arrays["action"]), 60):
        arrays["action"][start : start + 30, 1] = 0.0
    arrays["action"][60 * 3 : 60 * 4, 1] = 0.0
    assert reasons(tmp_path, **arrays) == {
        3: "saturated: target_y is at the end of its range in 100% of the frames, usually in 50%"
    }


def test_outliers_are_found_with_their_reasons(tmp_path: Path) -> None:
    arrays = walk(tmp_path)
    arrays["state"][60 * 2 + 30 : 60 * 2 + 32, :2] += 200  # teleported
    arrays["state"][60 * 4 + 10 : 60 * 4 + 50, :2] = arrays["state"][60 * 4 + 10, :2]  # stands still for 39 steps
    arrays["action"][60 * 6 : 60 * 6 + 20] = 511
    found = reasons(tmp_path, **arrays)
    assert found.keys() == {2, 4, 6}
    assert found[2].startswith("jump: the state moves by 2") and "in row 3" in found[2]
    assert found[4] == "stuck: the state stands still for 3.9 s"
    assert found[6] == "saturated: target_x is at the end of its range in 33% of the frames, usually in 0%"
    arrays = walk(tmp_path)
    arrays["episode_ends"] = np.delete(arrays["episode_ends"], 7)  # two in one
    assert reasons(tmp_path, **arrays) == {7: "length: 120 frames, the median is 60"}


@pytest.mark.parametrize(("flags", "expected"), [([], 0), ([0, 0], 0), ([1], 1), ([1, 1, 0, 1], 2), ([0, 1, 1, 1], 3)])
def test_longest_run(flags: list[int], expected: int) -> None:
    assert longest_run(np.array(flags, bool)) == expected


def test_a_source_without_a_rate_is_inspected(tmp_path: Path) -> None:
    source = replace(open_source(str(npz(tmp_path)[0])), fps=None)
    inspection = inspect_source(source)
    assert inspection.report["fps"] == "unstated" and "unstated frames a second" in table_of(inspection.report)
    plot(inspection, tmp_path / "plot.png")


def test_every_number_has_its_name_unit_and_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = np.column_stack([np.linspace(-40, 50, 60), np.full(60, 0.25), np.linspace(0.25, 0.26, 60)])
    np.savez(tmp_path / "raw.npz", state=state, action=state[:, :2], episode_ends=[30, 60])
    source = with_units(open_source(str(tmp_path / "raw.npz"), 10), ["observation.state=deg"])
    rows = inspect_source(source, quiet=True).report["features"]["observation.state"]["numbers"]
    assert [(row["low"], row["varies"]) for row in rows] == [
        (-40.0, "varies"),
        (0.25, "constant"),
        (0.25, "hardly varies"),
    ]
    assert all(row["unit"] == "deg" for row in rows)
    table = table_of(inspect_source(replace(source, names={"action": ["pan", "grip"]}), quiet=True).report)
    lines = [line.split() for line in table.splitlines()]
    assert ["pan", "unstated", "-40", "50"] in lines and ["grip", "unstated", "0.25", "0.25", "constant"] in lines


def test_what_cannot_be_used_is_dropped_by_one_command(tmp_path: Path) -> None:
    arrays = walk(tmp_path, 4)
    arrays["state"][70, 0] = np.nan
    arrays["episode_ends"] = np.array([60, 120, 122, 240])
    np.savez(tmp_path / "walk.npz", **arrays)  # type: ignore[arg-type]
    table = table_of(inspect_source(open_source(str(tmp_path / "walk.npz"), task="none"), quiet=True).report)
    assert "episode 2: 2 frames, too few for a window" in table
    assert table.endswith("vqbet-course demos convert ... --drop-episodes 1,2")


def unequal(path: Path, *shapes: tuple[int, int]) -> Path:
    """Demonstrations in an HDF5 file of robomimic, with 20 states and actions of these shapes."""
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for number, shape in enumerate(shapes):
            file[f"data/demo_{number}/actions"] = np.random.default_rng(number).normal(size=shape)
            file[f"data/demo_{number}/obs/eef_pos"] = np.zeros((20, 3))
    return path


@pytest.mark.parametrize("spoiled", [0, 1])
def test_an_episode_whose_features_differ_in_rows_or_width_is_listed(spoiled: int, tmp_path: Path) -> None:
    shapes = [(20, 7), (20, 7), (20, 7), (20, 14)]
    shapes[spoiled] = (19, 7)
    inspection = inspect_source(open_source(str(unequal(tmp_path / "lift.hdf5", *shapes))), SMALL, quiet=True)
    assert inspection.report["episodes"] == 4 and inspection.report["unusable"] == [spoiled, 3]
    reasons = {outlier["episode"]: outlier["reason"] for outlier in inspection.report["outliers"]}
    assert "expected (19, size)" in reasons[spoiled] and "14 numbers a frame, elsewhere 7" in reasons[3]
    plot(inspection, tmp_path / "plot.png")


def test_a_source_without_any_usable_episode_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no episode can be used; 0 for one: .* expected \(19, size\)"):
        inspect_source(open_source(str(unequal(tmp_path / "lift.hdf5", (19, 7)))), quiet=True)


def test_each_number_is_judged_by_the_scale_of_its_own_unit(tmp_path: Path) -> None:
    degrees, metres = np.linspace(-90, 90, 60), np.linspace(0.0, 0.05, 60)
    state = np.column_stack([degrees, degrees / 1e6, metres])
    np.savez(tmp_path / "raw.npz", state=state, action=state, episode_ends=[30, 60])
    names = {"observation.state": ["pan", "still", "reach"], "action": ["pan", "still", "reach"]}
    source = replace(open_source(str(tmp_path / "raw.npz"), 10), names=names)
    source = with_units(source, ["observation.state=deg", "action=deg"])
    source = replace(source, units=dict.fromkeys(names, "deg,deg,m"))
    report = inspect_source(source, quiet=True).report
    varies = [row["varies"] for row in report["features"]["observation.state"]["numbers"]]
    assert varies == ["varies", "hardly varies", "varies"]
    (line,) = (line for line in table_of(report).splitlines() if line.startswith("observation.state "))
    assert line.split() == ["observation.state", "3", "mixed_units", "0"]  # no range across units


def test_a_jump_is_one_in_its_own_unit(tmp_path: Path) -> None:
    """A gripper that jumps by 0.04 m beside joints that move by degrees."""
    t = np.tile(np.arange(40), 6)
    state = np.column_stack([30 * np.sin(t / 10), 0.01 + 0.0001 * np.sin(t / 10)])
    state[100:120, 1] += 0.04
    np.savez(tmp_path / "raw.npz", state=state, action=state, episode_ends=40 * np.arange(1, 7))
    source = replace(open_source(str(tmp_path / "raw.npz"), 10), units={"observation.state": "deg,m"})
    (jump,) = (o for o in inspect_source(source, quiet=True).report["outliers"] if o["reason"].startswith("jump"))
    assert jump["episode"] == 2 and "0.04 m at once in row 20" in jump["reason"]


def test_episodes_have_the_numbers_that_options_take(tmp_path: Path) -> None:
    arrays = walk(tmp_path, 5)
    arrays["state"][60 * 3 + 7, 0] = np.nan
    arrays["state"][60 * 4 + 10 : 60 * 4 + 50] = arrays["state"][60 * 4 + 10]
    np.savez(tmp_path / "walk.npz", **arrays)  # type: ignore[arg-type]
    source = open_source(str(tmp_path / "walk.npz"), task="none", choice=Choice(drop_episodes=frozenset({0, 1})))
    inspection = inspect_source(source, quiet=True)
    assert [outlier["episode"] for outlier in inspection.report["outliers"]] == [3, 4]
    assert [*inspection.states] == [2, 3, 4] and inspection.report["unusable"] == [0, 1, 3]
    assert "  episode 3: 1 rows with missing values" in table_of(inspection.report)
