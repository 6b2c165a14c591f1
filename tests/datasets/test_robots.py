"""Layouts of real robots' data: the numbers come out as they went in, or one line says what to do."""

import io
import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image
from sources import (
    ENDS,
    LENGTHS,
    aloha,
    csv_folder,
    gello,
    lerobot,
    lerobot_videos,
    npz,
    photos,
    replay_zarr,
    robomimic,
    some_numbers,
    spans,
)

from vqbet_course import cli
from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.choice import Choice, choice_of, joined
from vqbet_course.datasets.inspection import inspect_source
from vqbet_course.datasets.readers import DEMO_FOLDER, ros2_bag
from vqbet_course.datasets.source import BadEpisode, Source
from vqbet_course.datasets.splits import read_split
from vqbet_course.datasets.writer import write_dataset
from vqbet_course.demos import load_demos
from vqbet_course.tasks import open_source

pytestmark = pytest.mark.fast


def numbers(source: Source, name: str) -> np.ndarray:
    """A feature of all episodes, end to end."""
    return np.concatenate([episode.numbers[name] for episode in source.sound_episodes()])


def complaint(f: Callable[..., object], *args: object, **kwargs: object) -> str:
    """The one line of the BadInput that f raises."""
    with pytest.raises(BadInput) as caught:
        f(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused(capsys: pytest.CaptureFixture[str], out: Path, *words: str) -> str:
    """The one line with which `demos convert` refuses, leaving nothing behind."""
    assert cli.main(["demos", "convert", *words, "--out", str(out)]) == 2
    assert not out.exists() and not list(out.parent.glob(".*.partial"))
    return capsys.readouterr().err.rstrip("\n").split("\n")[-1]


# --- tasks --------------------------------------------------------------------------------------------------------

TASKS = ("open the drawer", "close the drawer", "pick up the cup")


def with_tasks(folder: Path, index_name: str | None = "task", jsonl: bool = False) -> Path:
    """A dataset of two episodes, tasks 2 and 0; its table of tasks is not in the order of task_index."""
    import pandas as pd

    dataset, _ = lerobot(folder)
    for file, index in zip(sorted(dataset.glob("data/*/*.parquet")), ([2] * 6 + [0] * 2, [0] * 2), strict=True):
        table = pq.read_table(file)
        pq.write_table(table.set_column(table.column_names.index("task_index"), "task_index", pa.array(index)), file)
    if jsonl:
        lines = [json.dumps({"task_index": i, "task": TASKS[i]}) for i in (1, 0, 2)]
        (dataset / "meta" / "tasks.jsonl").write_text("\n".join(lines) + "\n")
    else:
        frame = pd.DataFrame({"task_index": [1, 0, 2]}, index=pd.Index([TASKS[i] for i in (1, 0, 2)], name=index_name))
        frame.to_parquet(dataset / "meta" / "tasks.parquet")
    return dataset


@pytest.mark.parametrize(("index_name", "jsonl"), [("task", False), (None, False), (None, True)])
def test_tasks_are_read_by_their_index_listed_and_written_as_they_were(
    index_name: str | None, jsonl: bool, tmp_path: Path
) -> None:
    source = open_source(str(with_tasks(tmp_path, index_name, jsonl)))
    assert source.all_tasks == TASKS
    assert inspect_source(source, quiet=True).report["tasks"] == {TASKS[2]: 1, TASKS[0]: 1}
    again = open_source(str(write_dataset(source, tmp_path / "out", quiet=True)))
    assert again.all_tasks == TASKS
    assert [again.tasks_of(episode) for episode in again.sound_episodes()] == [[TASKS[2]], [TASKS[0]]]
    rows = pq.read_table(tmp_path / "out" / "data" / "chunk-000" / "file-000.parquet")["task_index"].to_pylist()
    assert rows == [2] * 6 + [0] * 4


def test_a_rate_that_the_dataset_contradicts_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert cli.main(["demos", "convert", str(DEMO_FOLDER), "--fps", "30", "--out", out]) == 2
    assert "states 10 frames a second, not 30" in capsys.readouterr().err
    assert cli.main(["demos", "convert", "demo", "--fps", "30", "--out", out]) == 2
    assert cli.main(["demos", "inspect", str(DEMO_FOLDER), "--fps", "10"]) == 0


def test_one_task_alone_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = with_tasks(tmp_path)
    chosen = open_source(str(dataset), choice=Choice(only_task=TASKS[0]))
    assert [len(episode) for episode in chosen.sound_episodes()] == [4]
    assert chosen.all_tasks == (TASKS[0],) == (chosen.task,)
    out = write_dataset(chosen, tmp_path / "one", quiet=True)
    assert open_source(str(out)).all_tasks == (TASKS[0],)
    assert not any(
        name in file.read_text() for name in TASKS[1:] for file in (out / "README.md", out / "meta/info.json")
    )
    assert "'close the drawer'" in complaint(open_source, str(dataset), choice=Choice(only_task="sing"))
    assert cli.main(["demos", "inspect", str(dataset)]) == 0
    assert f"1 episode: {TASKS[2]}" in capsys.readouterr().out


def test_names_of_motors_in_a_dictionary_are_kept(tmp_path: Path) -> None:
    dataset, _ = lerobot(tmp_path)
    info = json.loads((dataset / "meta" / "info.json").read_text())
    info["features"]["action"]["names"] = {"motors": ["pan", "lift"]}
    (dataset / "meta" / "info.json").write_text(json.dumps(info))
    out = write_dataset(open_source(str(dataset)), tmp_path / "out", quiet=True)
    assert json.loads((out / "meta" / "info.json").read_text())["features"]["action"]["names"] == ["pan", "lift"]


# --- time ---------------------------------------------------------------------------------------------------------


def logs(folder: Path, **clock: Any) -> Path:
    """Two episodes of 40 rows as CSV; clock {column: a function of the row's number, or of it and the episode}."""
    for episode in range(2):
        place = folder / "logs" / f"episode_{episode}"
        place.mkdir(parents=True, exist_ok=True)
        rows = np.arange(40)
        columns = {name: make(rows, episode) for name, make in clock.items()}
        columns |= {f"joint_{i}": np.sin(rows / 9 + i) for i in range(3)} | {"action_0": np.cos(rows / 9)}
        pyarrow.csv.write_csv(pa.table(columns), place / "log.csv")
    return folder / "logs"


SINCE_1970 = 1_730_000_000_123_456_789


@pytest.mark.parametrize(
    "clock",
    [
        {"timestamp": lambda row, _: SINCE_1970 + row * 20_000_000},
        {"timestamp": lambda row, _: SINCE_1970 // 1_000_000 + row * 20},
        {"timestamp": lambda row, _: SINCE_1970 // 1_000 + row * 20_000},
        {"timestamp": lambda row, _: SINCE_1970 / 1e9 + row / 50},
        {"timestamp_ms": lambda row, _: row * 20},
        {
            "header.stamp.sec": lambda row, _: (SINCE_1970 + row * 20_000_000) // 10**9,
            "header.stamp.nanosec": lambda row, _: (SINCE_1970 + row * 20_000_000) % 10**9,
        },
    ],
    ids=["ns", "ms", "us", "s", "named ms", "sec and nanosec"],
)
def test_clocks_are_known_by_their_unit_and_never_state(clock: dict, tmp_path: Path) -> None:
    source = open_source(str(logs(tmp_path, **clock)))
    assert source.rate == 50 and source.names["observation.state"] == ["joint_0", "joint_1", "joint_2"]
    assert set(clock) <= set(source.left_out)


def test_a_clock_of_an_unknown_unit_is_one_line(tmp_path: Path) -> None:
    folder = logs(tmp_path, timestamp=lambda row, _: row * 20)
    assert "timestamp_ms" in complaint(open_source, str(folder)) and open_source(str(folder), 50).rate == 50


@pytest.mark.parametrize(
    ("late", "row"),
    [(lambda row: np.where(row > 30, 2.0, 0.0), 31), (lambda row: np.clip(row - 20, 0, 10) / 20, 21)],
    ids=["gap", "slow stretch"],
)
def test_gaps_are_refused_by_row_and_shown(
    late: Callable, row: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = logs(tmp_path, timestamp=lambda rows, episode: rows / 20 + (late(rows) if episode else 0))
    assert f"episode 1, row {row}: comes" in refused(capsys, tmp_path / "out", str(folder))
    report = inspect_source(open_source(str(folder)), quiet=True)
    assert [outlier["episode"] for outlier in report.report["outliers"]] == [1] and len(report.intervals) == 2
    for option in (["--ignore-gaps"], ["--drop-episodes", "1"]):
        assert cli.main(["demos", "convert", str(folder), "--out", str(tmp_path / option[0]), *option]) == 0
    assert cli.main(["demos", "inspect", str(folder), "--out", str(tmp_path / "plots")]) == 0


# --- by name ------------------------------------------------------------------------------------------------------


def test_columns_in_another_order_are_the_same_numbers(tmp_path: Path) -> None:
    folder, truth = csv_folder(tmp_path)
    file = folder / "episode_001" / "log.csv"
    table = pyarrow.csv.read_csv(file)
    pyarrow.csv.write_csv(table.select(table.column_names[::-1]), file)
    source = open_source(str(folder))
    assert np.array_equal(numbers(source, "observation.state"), truth.numbers["observation.state"])
    assert np.array_equal(numbers(source, "action"), truth.numbers["action"])
    pyarrow.csv.write_csv(table.rename_columns([name.replace("joint_1", "elbow") for name in table.column_names]), file)
    assert "not those of the first episode (elbow, joint_1)" in complaint(numbers, open_source(str(folder)), "action")


def robomimic_of(path: Path, task: str, widths: dict[str, int]) -> str:
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": task, "env_kwargs": {"control_freq": 20}})
        for i, start, end in spans():
            file[f"data/demo_{i}/actions"] = some_numbers(7, 9)[start:end]
            for seed, (name, width) in enumerate(widths.items()):
                file[f"data/demo_{i}/obs/{name}"] = some_numbers(width, seed)[start:end]
    return str(path)


def test_files_whose_numbers_mean_other_things_are_not_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lift = robomimic_of(tmp_path / "a.hdf5", "Lift", {"eef_pos": 3, "gripper": 2})
    can = robomimic_of(tmp_path / "b.hdf5", "Can", {"eef_vel": 3, "wrench": 2})
    assert "observation.state holds other numbers" in refused(capsys, tmp_path / "out", lift, can)
    same = robomimic_of(tmp_path / "c.hdf5", "Can", {"eef_pos": 3, "gripper": 2})
    both = joined([open_source(lift), open_source(same)])
    assert [both.tasks_of(episode) for episode in both.sound_episodes()] == [["Lift"], ["Lift"], ["Can"], ["Can"]]


def test_joined_numbers_are_matched_by_name(tmp_path: Path) -> None:
    first, truth = csv_folder(tmp_path)
    opened = open_source(str(first))
    turned = replace(
        opened,
        names={name: parts[::-1] for name, parts in opened.names.items()},
        read=lambda start: (
            replace(e, numbers={n: v[:, ::-1] for n, v in e.numbers.items()}) for e in opened.read(start)
        ),
    )
    both = joined([opened, turned])
    assert np.array_equal(numbers(both, "action"), np.tile(truth.numbers["action"], (2, 1)))
    (last,) = both.sound_episodes(3)
    assert np.array_equal(last.numbers["observation.state"], truth.numbers["observation.state"][LENGTHS[0] :])


# --- nothing dropped in silence -----------------------------------------------------------------------------------


def test_the_base_of_mobile_aloha_is_part_of_the_action(tmp_path: Path) -> None:
    folder, truth = aloha(tmp_path)
    base = some_numbers(2, 8)
    for file, (_, start, end) in zip(sorted(folder.iterdir(), reverse=True), spans(), strict=True):
        with h5py.File(file, "a") as opened:
            opened["base_action"], opened["observations/tactile"] = base[start:end], base[start:end]
    source = open_source(str(folder))
    assert np.array_equal(numbers(source, "action"), np.hstack([truth.numbers["action"], base]))
    assert (
        source.names["action"][-2:] == ["base_0", "base_1"] and "--features" in source.left_out["observations.tactile"]
    )
    taken = open_source(str(folder), choice=Choice(features=("observation.state", "observation.tactile")))
    assert np.array_equal(numbers(taken, "observation.tactile"), base)
    assert "observations.tactile" not in taken.left_out and "observation.velocity" in taken.left_out


def test_jpegs_and_videos_in_folders_below_are_cameras(tmp_path: Path) -> None:
    from sources import write_lossless_video

    folder, _ = csv_folder(tmp_path)
    for i, start, end in spans():
        place = folder / f"episode_{i:03d}"
        (place / "colors").mkdir()
        for row in range(end - start):
            for camera, shade in enumerate((20, 200)):
                image = Image.fromarray(np.full((16, 24, 3), shade + row, np.uint8))
                image.save(place / "colors" / f"{row:06d}_color_{camera}.jpg", quality=100)
        write_lossless_video(place / "videos" / "side.mp4", photos(end - start, 16, 24), 20)
        (place / "notes.txt").write_text("hello")
        Image.fromarray(np.zeros((4, 4), np.uint16)).save(place / "colors" / "depth.png")
    source = open_source(str(folder))
    assert set(source.image_sizes) == {
        f"observation.images.{name}" for name in ("wrist", "side", "colors.color_0", "colors.color_1")
    }
    shades = [frame.mean() for frame in list(source.sound_episodes())[1].images["observation.images.colors.color_1"]()]
    assert np.allclose(shades, 200 + np.arange(4), atol=1.5)
    assert "*.txt" in source.left_out and "depth" in str(source.left_out)


def test_nested_observations_are_left_out_with_the_option_that_takes_them(tmp_path: Path) -> None:
    path, truth = robomimic(tmp_path)
    with h5py.File(path, "a") as file:
        for i, start, end in spans():
            demo = file[f"data/demo_{2 + 8 * i}"]
            demo["obs/datagen/pose"] = np.tile(np.eye(4), (end - start, 1, 1))
            demo["obs/eye_depth"] = np.zeros((end - start, 80, 80, 1), np.float32)
    source = open_source(str(path))
    assert np.array_equal(numbers(source, "observation.state"), truth.numbers["observation.state"])
    assert "--features observation.datagen.pose" in source.left_out["obs/datagen.pose"]
    assert "obs/eye_depth" in source.left_out
    taken = open_source(str(path), choice=Choice(features=("observation.datagen.pose",)))
    assert numbers(taken, "observation.datagen.pose").shape == (10, 16)


# --- splits that a source states ----------------------------------------------------------------------------------


def test_masks_of_robomimic_are_listed_and_make_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = robomimic(tmp_path)
    assert cli.main(["demos", "inspect", str(path)]) == 0
    assert "all 2, train 1, valid 1" in capsys.readouterr().out
    file = tmp_path / "split.json"
    assert cli.main(["demos", "split", str(path), "--parts", "train,valid", "--out", str(file)]) == 0
    split = read_split(file)
    assert (split.train, split.val, split.stress) == ([1], [0], [])  # demo_10 is the second by its number
    assert len(split.training(load_demos(open_source(str(path)))).action) == LENGTHS[1]
    for parts, said in (
        ("train,test", "has no part test; its parts: all, train, valid"),
        ("all,valid", "each in one part"),
    ):
        assert cli.main(["demos", "split", str(path), "--parts", parts, "--out", str(file)]) == 2
        assert said in capsys.readouterr().err
    assert cli.main(["demos", "split", str(tmp_path / "x.npz"), "--out", str(file)]) == 2


def test_splits_follow_the_episodes_that_are_taken(tmp_path: Path) -> None:
    path, _ = robomimic(tmp_path)
    without = open_source(str(path), choice=Choice(drop_episodes=frozenset({0})))
    assert without.splits == {"all": (0,), "train": (0,), "valid": ()}
    both = joined([open_source(str(path)), open_source(str(path))])
    assert both.splits == {"all": (0, 1, 2, 3), "train": (1, 3), "valid": (0, 2)}


def test_a_mask_of_demonstrations_that_are_not_there_is_left_out(tmp_path: Path) -> None:
    path, _ = robomimic(tmp_path)
    with h5py.File(path, "a") as file:
        file["mask/gone"] = [b"demo_2", b"demo_7"]
    source = open_source(str(path))
    assert "gone" not in source.splits and "demo_7" in source.left_out["mask/gone"]


def test_five_and_two_numbers_are_not_pusht(tmp_path: Path) -> None:
    t = np.linspace(0, 3, 10)[:, None]
    path, _ = npz(tmp_path, state=3 * np.sin(t * np.arange(1, 6)), action=np.cos(t * np.arange(1, 3)))
    assert {n: f.size for n, f in open_source(str(path)).contract.features().items()} == {
        "observation.state": 5,
        "action": 2,
    }


def test_actions_and_states_under_other_usual_names(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, actions=some_numbers(3, 0), qpos=some_numbers(4, 1), episode_ends=ENDS)
    source = open_source(str(path), 20)
    assert np.array_equal(numbers(source, "observation.state"), some_numbers(4, 1))


def test_a_zip_with_a_folder_inside_is_read(tmp_path: Path) -> None:
    import shutil

    path, truth = replay_zarr(tmp_path)
    (tmp_path / "inside").mkdir()
    path.rename(tmp_path / "inside" / "demos.zarr")
    shutil.make_archive(str(tmp_path / "demos.zarr"), "zip", tmp_path / "inside")
    assert np.array_equal(numbers(open_source(str(tmp_path / "demos.zarr.zip")), "action"), truth.numbers["action"])


# --- episodes that differ -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("kind", ["aloha", "csv"])
def test_a_camera_that_one_episode_lacks(
    kind: str, missing: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "aloha":
        path, _ = aloha(tmp_path)
        with h5py.File(path / f"episode_{9 + missing}.hdf5", "a") as file:
            del file["observations/images"]
    else:
        path, _ = csv_folder(tmp_path)
        for image in (path / f"episode_{missing:03d}" / "wrist").iterdir():
            image.unlink()
    line = refused(capsys, tmp_path / "out", str(path))
    assert f"episode {missing}: has no camera observation.images." in line and "--drop-episodes" in line
    assert cli.main(["demos", "inspect", str(path)]) == 0
    assert len(load_demos(open_source(str(path)))) == 2  # who does not look at images may have them all
    for number, option in enumerate((["--drop-episodes", str(missing)], ["--cameras", "none"])):
        assert cli.main(["demos", "convert", str(path), "--out", str(tmp_path / f"out{number}"), *option]) == 0


def test_a_bad_episode_can_be_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    action = some_numbers(2, 1)
    action[7] = np.nan
    path, _ = npz(tmp_path, state=some_numbers(3, 0), action=action)
    line = refused(capsys, tmp_path / "out", str(path), "--fps", "10")
    assert line.endswith("vqbet-course demos convert ... --drop-episodes 1, or repair it")
    kept = open_source(str(path), 10, choice=Choice(drop_episodes=frozenset({1})))
    assert np.array_equal(numbers(kept, "action"), action[:6])
    assert "has no episode 5" in refused(capsys, tmp_path / "out", str(path), "--fps", "10", "--drop-episodes", "5")
    assert "leaves no episode" in refused(capsys, tmp_path / "out", str(path), "--fps", "10", "--drop-episodes", "0-1")


def test_the_command_that_drops_names_what_was_dropped_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    action = np.arange(96.0).reshape(48, 2)
    action[[13, 37]] = np.nan
    path = tmp_path / "raw.npz"
    np.savez(path, state=np.ones((48, 3)), action=action, episode_ends=[12, 24, 36, 48])
    asked = [str(path), "--fps", "10"]
    assert "--drop-episodes 1, or" in refused(capsys, tmp_path / "out", *asked)
    assert "--drop-episodes 1,3, or" in refused(capsys, tmp_path / "out", *asked, "--drop-episodes", "1")
    assert cli.main(["demos", "inspect", str(path), "--drop-episodes", "1"]) == 0
    assert "convert ... --drop-episodes 1,3" in capsys.readouterr().out
    assert cli.main(["demos", "convert", *asked, "--drop-episodes", "1,3", "--out", str(tmp_path / "out")]) == 0


def test_what_cannot_be_read_can_be_dropped(tmp_path: Path) -> None:
    for e, columns in enumerate(("a,action", "a,action", "b,action", "a,action")):
        (tmp_path / "raw" / f"episode_{e}").mkdir(parents=True)
        rows = "".join(f"{i / 10},{i},{i}\n" for i in range(12))
        (tmp_path / "raw" / f"episode_{e}" / "log.csv").write_text(f"timestamp,{columns}\n{rows}")
    said = complaint(lambda: list(open_source(str(tmp_path / "raw")).sound_episodes()))
    assert "vqbet-course demos convert ... --drop-episodes 2" in said
    kept = open_source(str(tmp_path / "raw"), choice=Choice(drop_episodes=frozenset({2})))
    assert len(list(kept.sound_episodes())) == 3


@pytest.mark.parametrize("option", [[], ["--drop-episodes", "0"]])
def test_images_that_cannot_be_used_name_the_episode_to_drop(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = csv_folder(tmp_path)
    shutil.copytree(path / "episode_001", path / "episode_002")
    (path / "episode_002" / "wrist" / "3.png").unlink()
    dropped = ",".join([*option[1:], "2"])
    line = refused(capsys, tmp_path / "out", str(path), *option)
    assert "only 3 images for 4 rows; leave" in line and line.endswith(f"--drop-episodes {dropped}")
    if not option:  # train decodes them elsewhere
        with pytest.raises(BadInput, match="only 3 images for 4 rows; .* --drop-episodes 2$"):
            images: Any = load_demos(open_source(str(path)), ["observation.images.wrist"]).observation
            images["observation.images.wrist"].fill()


def test_what_is_said_of_a_bad_episode_survives_a_process() -> None:
    error = BadEpisode("raw.npz, episode 3", "a is not finite", "or repair it", 5, 7)
    said = "raw.npz, episode 3, row 5: a is not finite; leave the episode out with: "
    said += "vqbet-course demos convert ... --drop-episodes 7, or repair it"
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == said
    assert error.reason == "row 5: a is not finite"


def test_an_episode_that_was_removed_by_hand_can_be_passed_over(tmp_path: Path) -> None:
    path, truth = lerobot(tmp_path)
    files = sorted(path.glob("data/*/*.parquet"))
    whole = pa.concat_tables([pq.read_table(file) for file in files])
    pq.write_table(whole.slice(6), files[0])
    files[1].unlink()
    assert "--drop-episodes 0" in complaint(open_source, str(path))
    source = open_source(str(path), choice=Choice(drop_episodes=frozenset({0})))
    assert source.n_episodes == 1 and np.array_equal(numbers(source, "action"), truth.numbers["action"][6:])


# --- what is taken ------------------------------------------------------------------------------------------------


def test_features_and_cameras_are_chosen_renamed_and_resized(tmp_path: Path) -> None:
    path, truth = robomimic(tmp_path)
    asked = choice_of(
        features="observation.environment_state",
        rename=["observation.environment_state=observation.state"],
        resize="4x6",
    )
    source = open_source(str(path), choice=asked)
    assert np.array_equal(numbers(source, "observation.state"), truth.numbers["observation.environment_state"])
    out = open_source(str(write_dataset(source, tmp_path / "out", quiet=True)))
    assert out.image_sizes == {"observation.images.eye_image": (4, 6, 3)}
    small = next(next(out.episodes()).images["observation.images.eye_image"]())
    averages = photos()[0].reshape(4, 2, 6, 2, 3).mean((1, 3))
    assert np.abs(small - averages).max() <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--features", "observation.smell"], "--features observation.smell"),
        (["--cameras", "top"], "--cameras top"),
        (["--rename", "a=b"], "--rename a=b"),
        (["--rename", "action"], "give OLD=NEW"),
        (["--rename", "action=observation.state"], "would be the name of two features"),
        (["--resize", "big"], "give height x width"),
        (["--resize", "0x4"], "give height x width"),
        (["--resize", "99999x99999"], "each from 1 to 9999"),
        (["--drop-episodes", "1-0"], "give numbers of episodes"),
        (["--topics", "action=/command"], "leave --topics out"),
        (["--jobs", "0"], "--jobs"),
        (["--drop-episodes", "x"], "give numbers of episodes"),
        (["--only-task", "x"], "has no task 'x'"),
        (["--topics", "x"], "give FEATURE=TOPIC"),
    ],
)
def test_a_wrong_option_is_one_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = robomimic(tmp_path)
    assert said in refused(capsys, tmp_path / "out", str(path), *options)


# --- readers of their own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_time", [True, False])
def test_the_authors_own_arrays_are_read_by_their_mask(by_time: bool, tmp_path: Path) -> None:
    lengths, draw = [5, 3], np.random.default_rng(0)
    seen, done, mask = (
        draw.normal(size=(2, 5, 4)),
        draw.normal(size=(2, 5, 2)),
        np.arange(5) < np.array(lengths)[:, None],
    )
    names = (
        ("observations_seq", "actions_seq", "existence_mask")
        if by_time
        else ("multimodal_push_observations", "multimodal_push_actions", "multimodal_push_masks")
    )
    for name, values in zip(names, (seen, done, mask), strict=True):
        np.save(tmp_path / f"{name}.npy", values.swapaxes(0, 1) if by_time else values)
    source = open_source(str(tmp_path), 10)
    assert [len(episode) for episode in source.sound_episodes()] == lengths
    assert np.allclose(numbers(source, "action"), np.concatenate([done[0], done[1, :3]]))
    np.save(tmp_path / f"{names[2]}.npy", np.random.default_rng(0).integers(0, 2, (5, 2)))
    assert "mask" in complaint(open_source, str(tmp_path), 10)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    path, truth = gello(tmp_path, protocol)
    assert np.array_equal(numbers(open_source(str(path)), "action"), truth.numbers["action"])


class Evil:
    def __reduce__(self) -> tuple:
        return open, ("/tmp/owned-by-a-pickle", "w")


@pytest.mark.parametrize(
    "content", [Evil(), {"control": Evil()}, {"control": np.array([Evil()])}, {"control": np.array(["text"])}, [1, 2]]
)
def test_a_pickle_makes_numbers_and_nothing_else(content: object, tmp_path: Path) -> None:
    path, _ = gello(tmp_path)
    file = sorted(path.rglob("*.pkl"))[0]
    file.write_bytes(pickle.dumps(content))
    assert str(file) in complaint(lambda: list(open_source(str(path)).sound_episodes()))
    assert not Path("/tmp/owned-by-a-pickle").exists()


def test_a_pickle_that_declares_more_than_it_has(tmp_path: Path) -> None:
    path, _ = gello(tmp_path)
    file = sorted(path.rglob("*.pkl"))[0]
    sound = pickle.dumps({"control": np.zeros(7, np.float64)}, 2)
    file.write_bytes(sound.replace(b"K\x07\x85", b"J\xff\xff\xff\x7f\x85"))
    assert str(file) in complaint(lambda: list(open_source(str(path)).sound_episodes()))


def test_poses_make_actions_where_none_are_stored(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "umi.zarr", zarr_format=2)
    pose = {
        "robot0_eef_pos": some_numbers(3, 0),
        "robot0_eef_rot_axis_angle": some_numbers(3, 1),
        "robot0_gripper_width": some_numbers(1, 2),
    }
    for name, values in {**pose, "robot0_demo_start_pose": some_numbers(6, 3)}.items():
        group.create_array(f"data/{name}", data=values)
    group.create_array("meta/episode_ends", data=ENDS)
    source = open_source(str(tmp_path / "umi.zarr"), 60)
    state = np.hstack(list(pose.values()))
    kept = np.delete(np.arange(10), ENDS - 1)
    assert np.array_equal(numbers(source, "observation.state"), state[kept])
    assert np.array_equal(numbers(source, "action"), state[kept + 1])
    assert "robot0_demo_start_pose" in source.left_out


def test_images_as_jpeg_xl_need_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = replay_zarr(tmp_path)
    file = path / "data" / "img" / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"compressor": {"id": "imagecodecs_jpegxl"}}))
    monkeypatch.setitem(sys.modules, "imagecodecs.numcodecs", None)  # as where it is not installed
    assert "vqbet_course[umi]" in complaint(open_source, str(path))


def test_images_as_jpeg_xl(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs.numcodecs")
    imagecodecs.register_codecs(verbose=False)
    group = zarr.create_group(tmp_path / "umi.zarr", zarr_format=2)
    group.create_array(
        "data/camera0_rgb",
        shape=(10, 32, 48, 3),
        chunks=(1, 32, 48, 3),
        dtype=np.uint8,
        compressors=imagecodecs.Jpegxl(level=99, lossless=True),
    )[:] = photos(10, 32, 48)
    group.create_array("data/action", data=some_numbers(2, 0))
    group.create_array("meta/episode_ends", data=ENDS)
    source = open_source(str(tmp_path / "umi.zarr"), 60)
    frames = [f for e in source.sound_episodes() for f in e.images["observation.images.camera0_rgb"]()]
    assert np.array_equal(np.stack(frames), photos(10, 32, 48))


def test_a_bag_needs_a_package_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "metadata.yaml").write_text("rosbag2_bagfile_information:\n  version: 5\n")
    monkeypatch.setitem(sys.modules, "rosbags.highlevel", None)  # as where it is not installed
    assert "vqbet_course[ros]" in complaint(open_source, str(tmp_path / "bag"))


class Joints(SimpleNamespace):
    """A message of a bag: joints by name, and their positions."""


class Bag:
    """A bag of one episode: {topic: messages}, which come at 10 Hz."""

    def __init__(self, recorded: dict[str, list[Joints]]):
        self.recorded, self.paths = recorded, ["bag"]
        self.connections = [SimpleNamespace(topic=topic, msgtype="sensor_msgs/msg/JointState") for topic in recorded]

    def __enter__(self) -> "Bag":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def messages(self, connections: list[Any]) -> Iterator[tuple[Any, int, Joints]]:
        for connection in connections:
            for row, message in enumerate(self.recorded[connection.topic]):
                yield connection, 10**9 + row * 10**8, message

    def deserialize(self, data: Joints, _: str) -> Joints:
        return data


def joints(names: list[str]) -> list[Joints]:
    """Three messages; the position of a joint is its number, plus a tenth for each message."""
    return [Joints(name=names, position=[int(name[-1]) + row / 10 for name in names]) for row in range(3)]


def bags(folder: Path, monkeypatch: pytest.MonkeyPatch, second: list[str]) -> Path:
    """Two bags; the joints of the second are named in another order than those of the first."""
    found = {}
    for number, names in enumerate((["joint_1", "joint_2"], second)):
        place = folder / "bags" / f"{number}"
        place.mkdir(parents=True)
        (place / "metadata.yaml").write_text("rosbag2_bagfile_information:\n  version: 5\n")
        found[place] = Bag({"/state": joints(names), "/action": joints(["joint_1", "joint_2"])})
    monkeypatch.setattr(ros2_bag, "reader_class", lambda path: lambda opened: found[opened[0]])
    return folder / "bags"


TOPICS = Choice(fps=10, topics=(("observation.state", "/state"), ("action", "/action")))


@pytest.mark.parametrize("second", [["joint_2", "joint_1"], ["joint_0", "joint_2", "joint_1"]], ids=["turned", "more"])
def test_joints_of_every_bag_are_those_of_the_first(
    second: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(str(bags(tmp_path, monkeypatch, second)), choice=TOPICS)
    assert source.names["observation.state"] == ["joint_1", "joint_2"]
    for episode in source.sound_episodes():
        assert np.allclose(episode.numbers["observation.state"], [[1.0, 2.0], [1.1, 2.1], [1.2, 2.2]])


def test_a_joint_that_a_later_bag_lacks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(str(bags(tmp_path, monkeypatch, ["joint_1", "joint_3"])), choice=TOPICS)
    assert "episode 1: a message has no joint joint_2" in complaint(numbers, source, "action")


def write_bag(folder: Path, storage: str, rows: range) -> None:
    """A bag as a robot records it: joints, a command without a header, and two cameras, at 10 Hz; the clock of the
    recording is 5 ms late."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.ROS2_HUMBLE)
    make = types.types
    topics = {
        "/joint_states": "sensor_msgs/msg/JointState",
        "/command": "std_msgs/msg/Float64MultiArray",
        "/raw": "sensor_msgs/msg/Image",
        "/packed": "sensor_msgs/msg/CompressedImage",
        "/spoken": "std_msgs/msg/String",
    }
    with Writer(folder, version=9, storage_plugin=StoragePlugin[storage]) as writer:
        opened = {topic: writer.add_connection(topic, kind, typestore=types) for topic, kind in topics.items()}
        for step, row in enumerate(rows):
            nanoseconds = 10**18 + step * 10**8
            stamp = make["builtin_interfaces/msg/Time"](nanoseconds // 10**9, nanoseconds % 10**9)
            header = make["std_msgs/msg/Header"](stamp, "base")
            image, packed = photos()[row], io.BytesIO()
            Image.fromarray(image).save(packed, "PNG")
            layout = make["std_msgs/msg/MultiArrayLayout"]([], 0)
            none, place = np.zeros(0), np.array([row, row + 0.5])
            messages = {
                "/joint_states": make[topics["/joint_states"]](header, ["pan", "lift"], place, none, none),
                "/command": make[topics["/command"]](layout, place + 1),
                "/raw": make[topics["/raw"]](header, 8, 12, "bgr8", 0, 36, image[:, :, ::-1].ravel()),
                "/packed": make[topics["/packed"]](header, "png", np.frombuffer(packed.getvalue(), np.uint8)),
                "/spoken": make[topics["/spoken"]]("now"),
            }
            for topic, message in messages.items():
                data = types.serialize_cdr(message, topics[topic])
                writer.write(opened[topic], nanoseconds + 5 * 10**6 * (topic != "/command"), data)


@pytest.mark.parametrize("storage", ["SQLITE3", "MCAP"])
def test_bags_are_read_as_they_were_recorded(storage: str, tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    for number, rows in enumerate((range(6), range(6, 10))):
        write_bag(tmp_path / "bags" / f"rosbag2_{number}", storage, rows)
    topics = {"state": "/joint_states", "images.raw": "/raw", "images.packed": "/packed"}
    asked = tuple((f"observation.{name}", topic) for name, topic in topics.items())
    source = open_source(str(tmp_path / "bags"), choice=Choice(fps=10, topics=(*asked, ("action", "/command"))))
    assert [len(episode) for episode in source.sound_episodes()] == list(LENGTHS)
    expected = np.arange(10)[:, None] + [0.0, 0.5]
    assert np.array_equal(numbers(source, "observation.state"), expected)
    assert np.array_equal(numbers(source, "action"), expected + 1)
    assert source.names["observation.state"] == ["pan", "lift"] and "/spoken" in source.left_out
    demos = load_demos(source, ["observation.images.raw", "observation.images.packed"])
    for images in demos.observation.values():
        assert np.array_equal(images, photos().transpose(0, 3, 1, 2))


def test_frames_have_the_last_message_that_is_not_newer() -> None:
    from vqbet_course.datasets.readers.ros2_bag import nearest_before

    began = 1_700_000_000_123_456_789  # nanoseconds: seconds as a float would be off by a message at such times
    milliseconds = {"action": [0, 110, 190, 400], "observation.state": [50, 150, 250, 350]}
    times = {name: began + 10**6 * np.array(values) for name, values in milliseconds.items()}
    chosen = nearest_before(times, 10, "bag")  # at 50, 150, 250, 350
    assert chosen["action"].tolist() == [0, 1, 2, 2] and chosen["observation.state"].tolist() == [0, 1, 2, 3]
    assert "do not overlap" in complaint(nearest_before, {"a": np.array([0]), "b": np.array([10**9])}, 10, "bag")
    thirtieths = began + np.cumsum([33_333_334, 33_333_333, 33_333_333] * 20)
    assert nearest_before({"a": thirtieths}, 30, "bag")["a"].tolist() == list(range(60))


# --- safe ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        "../secret/{video_key}.mp4",
        "/etc/{video_key}",
        "videos/../../x.mp4",
        "{video_key.__class__}",
        "{file_index:0999999999d}",
        "{video_key!r}",
        "{secret}",
        "C:\\{video_key}",
    ],
)
def test_a_template_cannot_lead_out_of_the_dataset(template: str, tmp_path: Path) -> None:
    path, _ = lerobot_videos(tmp_path)
    info = json.loads((path / "meta" / "info.json").read_text())
    (path / "meta" / "info.json").write_text(json.dumps(info | {"video_path": template}))
    source = open_source(str(path))
    assert "video_path" in complaint(lambda: next(next(source.episodes()).images["observation.images.top"]()))


@pytest.mark.parametrize("way", ["link", "storage", "virtual"])
def test_hdf5_that_points_into_other_files_is_refused(way: str, tmp_path: Path) -> None:
    path, _ = robomimic(tmp_path)
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["x"] = np.ones((6, 7))
    with h5py.File(path, "a") as file:
        del file["data/demo_2/actions"]
        demo = file["data/demo_2"]
        if way == "link":
            demo["actions"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "x")
        elif way == "storage":
            (tmp_path / "raw").write_bytes(bytes(6 * 7 * 8))
            demo.create_dataset("actions", (6, 7), "f8", external=[(str(tmp_path / "raw"), 0, 6 * 7 * 8)])
        else:
            layout = h5py.VirtualLayout((6, 7), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (6, 7))
            demo.create_virtual_dataset("actions", layout)
    assert "another file" in complaint(open_source, str(path))


def giant_hdf5(folder: Path) -> Path:
    path, _ = robomimic(folder)
    with h5py.File(path, "a") as file:
        del file["data/demo_2/actions"]
        file.create_dataset("data/demo_2/actions", (10**9, 7), "f8", chunks=(1000, 7))
    return path


def giant_npz(folder: Path) -> Path:
    path, _ = npz(folder)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (10**12,)})
    import zipfile

    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (parts | {"episode_ends.npy": header.getvalue()}).items():
            archive.writestr(name, data)
    return path


def giant_zarr(folder: Path) -> Path:
    path, _ = replay_zarr(folder)
    file = path / "data" / "action" / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shape": [10**12, 2], "chunks": [10**12, 2]}))
    return path


@pytest.mark.parametrize("make", [giant_hdf5, giant_npz, giant_zarr])
def test_a_giant_shape_is_refused_before_memory_is_asked_for(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert "declares" in complaint(lambda: list(open_source(str(make(tmp_path)), 10).sound_episodes()))


def test_names_of_features_are_safe_in_paths(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    np.savez(path, **{"action": some_numbers(2, 0), "../../x y": some_numbers(2, 1), "episode_ends": ENDS})
    out = write_dataset(open_source(str(path), 10), tmp_path / "out", quiet=True)
    names = json.loads((out / "meta" / "info.json").read_text())["features"]
    assert not any(set(name) & set("/ \\") or ".." in name for name in names)


def test_a_damaged_file_is_to_be_copied_again_and_a_strange_one_is_not(tmp_path: Path) -> None:
    path, _ = npz(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    assert "copy it again" in complaint(open_source, str(path))
    other, _ = robomimic(tmp_path)
    with h5py.File(other, "a") as file:
        del file["data"]
        file["data"] = np.zeros(3)
    assert "copy it again" not in complaint(open_source, str(other))


def test_switches_and_few_episodes_raise_no_alarm(tmp_path: Path) -> None:
    t = np.linspace(0, 9, 60)
    action = np.tile(np.column_stack([np.sin(t), np.sign(np.sin(3 * t))]), (2, 1))[:100]
    path, _ = npz(tmp_path, state=np.tile(np.cos(t)[:, None], (2, 1))[:100], action=action, episode_ends=[60, 100])
    assert inspect_source(open_source(str(path), 30), quiet=True).report["outliers"] == []


# --- images as videos ---------------------------------------------------------------------------------------------


def shades(folder: Path, n: int = 12) -> str:
    """A source of two episodes, whose every image says by its shade which frame it is."""
    images = np.stack([np.full((64, 80, 3), 20 + 15 * row % 220, np.uint8) for row in range(n)])
    np.savez(folder / "shades.npz", action=np.arange(2.0 * n).reshape(n, 2), img=images, episode_ends=[7, n])
    return str(folder / "shades.npz")


def test_images_are_written_as_videos_that_lerobots_layout_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["demos", "convert", shades(tmp_path), "--fps", "30", "--out", str(tmp_path / "out"), "--videos"]
    assert cli.main(asked) == 0
    assert "first image of each episode, to 6 of 255" in capsys.readouterr().out
    info = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    assert info["features"]["observation.image"]["dtype"] == "video"
    assert (
        tmp_path / "out" / info["video_path"].format(video_key="observation.image", chunk_index=0, file_index=0)
    ).is_file()
    source = open_source(str(tmp_path / "out"))
    found = [frame.mean() for e in source.sound_episodes() for frame in e.images["observation.image"]()]
    assert np.allclose(found, [20 + 15 * row % 220 for row in range(12)], atol=3)
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_videos_of_odd_sizes_are_refused_with_the_option_that_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = robomimic(tmp_path)
    assert "--resize" in refused(capsys, tmp_path / "out", str(path), "--videos")
    assert (
        cli.main(["demos", "convert", str(path), "--out", str(tmp_path / "out"), "--videos", "--resize", "64x96"]) == 0
    )


def test_an_image_that_does_not_read_back_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vqbet_course.datasets import storage

    right = storage.as_png
    monkeypatch.setattr(storage, "as_png", lambda image: right(image[::-1]))
    path, _ = robomimic(tmp_path)
    assert "the first image of observation.images.eye_image is" in complaint(
        write_dataset, open_source(str(path)), tmp_path / "out", quiet=True
    )
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.partial").exists()
