"""Sources that cannot be used: one line that names file, episode and row, nothing written, and the source as it was."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image
from sources import (
    MAKERS,
    aloha,
    csv_folder,
    lerobot,
    lerobot_videos,
    npz,
    parquet_folder,
    replay_zarr,
    robomimic,
    states,
    write_lossless_video,
    zipped_zarr,
)

from vqbet_course import cli
from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.readers import DEMO_FOLDER
from vqbet_course.datasets.writer import write_dataset
from vqbet_course.demos import load_demos
from vqbet_course.tasks import open_source

pytestmark = pytest.mark.fast

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The one line with which a source is refused, by `convert` and, unless only its images are bad, by loading."""

    def run(path: Path, images: bool = False, task: str | None = None) -> str:
        files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        assert (
            cli.main(
                [
                    "demos",
                    "convert",
                    str(path),
                    "--out",
                    str(tmp_path / "converted"),
                    *(["--task", task] if task else []),
                ]
            )
            == 2
        )
        said = capsys.readouterr().err.rstrip("\n").split("\n")
        assert said[-1].startswith("error: ") and "Traceback" not in "".join(said)
        assert not (tmp_path / "converted").exists()
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files
        if not images:
            with pytest.raises(BadInput) as caught:
                load_demos(open_source(str(path), task=task))
            assert f"error: {caught.value}" == said[-1]
        return said[-1]

    return run


# --- replay buffers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"action": np.where(np.arange(10)[:, None] == 7, np.nan, np.full((10, 2), 9.0))},
            "episode 1, row 1: action is not finite",
        ),
        ({"state": np.where(np.arange(10)[:, None] == 5, np.inf, states())}, "episode 0, row 5"),
        ({"state": np.ones(10)}, "does not say how many frames a second"),
        ({"action": np.float64(1)}, "expected (0, size), as many rows as action"),
        ({"state": np.ones((10, 4))}, "does not say how many frames a second"),
        ({"state": states() * [1, 1, 1, 1, 57.3]}, "does not say how many frames a second"),
        ({"state": states() / 512}, "does not say how many frames a second"),
        ({"action": np.ones((9, 2)), "episode_ends": [6, 9]}, "expected (9, size)"),
        ({"action": np.ones((9, 2))}, "state has shape (10, 5), expected (9, size), as many rows as action"),
        ({"action": np.array(["left"] * 10)}, "not numbers"),
        ({"action": np.array([{}] * 10, dtype=object)}, "action holds object, not numbers"),
        ({"action": None}, "no array `action`"),
        ({"episode_ends": None}, "no array `episode_ends`"),
        ({"episode_ends": [6, 9]}, "number of frames 10"),
        ({"episode_ends": [6, 6, 10]}, "an episode is empty or cut off"),
        ({"episode_ends": [0, 10]}, "an episode is empty or cut off"),
        ({"episode_ends": [7, 6, 10]}, "episode_ends must rise"),
        ({"episode_ends": [9, 10]}, "episode 1: 1 frame(s)"),
        ({"episode_ends": [[6, 10]]}, "episode_ends must rise"),
        ({"episode_ends": []}, "no episodes"),
        ({"state": np.ones((0, 5)), "action": np.ones((0, 2)), "episode_ends": []}, "no episodes"),
    ],
)
def test_a_bad_npz(changes: dict, said: str, refused: Refused, tmp_path: Path) -> None:
    path, _ = npz(tmp_path, **changes)
    line = refused(path)
    assert said in line and str(path) in line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": states() * [1, 1, 1, 1, 57.3]}, "convert degrees to radians"),
        ({"state": np.where(np.arange(10)[:, None] == 7, 45, states())}, "episode 1, row 1: the T's angle is 45.0"),
        ({"action": states()[:, :2] / 512}, "episode 0, row 0: actions lie in -1..1"),
        ({"state": np.ones((10, 4))}, "not demonstrations of PushT: observation.environment_state: absent"),
        ({"action": np.ones((10, 3))}, "not demonstrations of PushT: action: 3 numbers"),
    ],
)
def test_numbers_that_cannot_be_those_of_the_task_that_was_named(
    changes: dict, said: str, refused: Refused, tmp_path: Path
) -> None:
    assert said in refused(npz(tmp_path, **changes)[0], task="pusht")


@pytest.mark.parametrize("keep", [0, 1, 100, -20])
def test_a_truncated_npz(keep: int, refused: Refused, tmp_path: Path) -> None:
    path, _ = npz(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path}: not readable" in refused(path)


def test_a_zarr_with_parts_missing(refused: Refused, tmp_path: Path) -> None:
    path, _ = replay_zarr(tmp_path)
    for part, said in [
        ("data/action/1.0", "data/action has 3 of 4 chunks"),
        ("data/action", "no array `action`"),
        ("meta", "no meta/episode_ends"),
        ("data", "no data"),
    ]:
        target = path / part
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        assert said in refused(path)


def test_a_damaged_zarr(refused: Refused, tmp_path: Path) -> None:
    path, _ = replay_zarr(tmp_path)
    (path / "data" / "state" / "2.0").write_bytes(b"not what it was")
    assert f"{path}: not readable" in refused(path)
    path, _ = zipped_zarr(tmp_path)
    path.write_bytes(path.read_bytes()[:-300])
    assert f"{path}: not readable" in refused(path)


def test_images_that_are_no_bytes(refused: Refused, tmp_path: Path) -> None:
    path, _ = replay_zarr(tmp_path)
    pixels = zarr.open_group(path)["data/img"]
    pixels[7] = np.asarray(pixels[7]) / 255  # type: ignore[index]
    assert "episode 1, row 1: pixels must be whole numbers in 0..255" in refused(path, images=True)


# --- HDF5 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [robomimic, aloha])
def test_a_truncated_hdf5(make: Callable, refused: Refused, tmp_path: Path) -> None:
    path, _ = make(tmp_path)
    file = path if path.is_file() else sorted(path.iterdir())[0]
    file.write_bytes(file.read_bytes()[:2000])
    assert str(path) in refused(path) and "not readable" in refused(path)


def test_hdf5_with_parts_missing(refused: Refused, tmp_path: Path) -> None:
    path, _ = robomimic(tmp_path)
    with h5py.File(path, "a") as file:
        del file["data/demo_10/obs/gripper"]
    assert "episode 1 (demo_10): its observations are not those of the first episode (gripper_0, gripper_1)" in refused(
        path
    )
    with h5py.File(path, "a") as file:
        del file["data/demo_10/actions"]
    assert "has no actions or action" in refused(path) and str(path) in refused(path)
    folder, _ = aloha(tmp_path)
    with h5py.File(folder / "episode_10.hdf5", "a") as file:
        del file["action"]
    assert "episode_10.hdf5, episode 1: no action" in refused(folder)


def test_cameras_that_do_not_keep_step(refused: Refused, tmp_path: Path) -> None:
    folder, _ = aloha(tmp_path)
    with h5py.File(folder / "episode_10.hdf5", "a") as file:
        short = file["observations/images/top"][:3]
        del file["observations/images/top"]
        file["observations/images/top"] = short
    assert "episode 1: observation.images.top has only 3 images for 4 rows" in refused(folder, images=True)


# --- folders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0.05,1,2,nan,4,5", "episode 1, row 1: observation.state is not finite"),
        ("0.05,1,2,,4,5", "episode 1, row 1: observation.state is not finite"),
        ("0.05,1,2,three,4,5", "row 1: joint_2 is 'three', not a number"),
        ("0.0,1,2,3,4,5", "row 1: the timestamp does not go on"),
        ("0.05,1,2,3,4", "not readable"),
    ],
)
def test_a_bad_row_of_a_csv(row: str, said: str, refused: Refused, tmp_path: Path) -> None:
    path, _ = csv_folder(tmp_path)
    file = path / "episode_001" / "log.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], row, *lines[3:]]) + "\n")
    line = refused(path)
    assert said in line and str(file) in line


def test_mixed_rates(refused: Refused, tmp_path: Path) -> None:
    path, _ = parquet_folder(tmp_path)
    file = path / "episode_1" / "log.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(0, "time", pa.array(np.arange(4) / 15)), file)
    assert f"{file}, episode 1: 15 frames a second, 30 in the first episode" in refused(path)


def test_folders_with_the_wrong_files(refused: Refused, tmp_path: Path) -> None:
    path, _ = csv_folder(tmp_path)
    last = path / "episode_001"
    (last / "wrist" / "2.png").unlink()
    assert "expected number 2 here" in refused(path, images=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(last / "wrist" / "2.png")
    assert "episode 1, row 2: observation.images.wrist has size (4, 4, 3), elsewhere (8, 12, 3)" in refused(
        path, images=True
    )
    (last / "wrist" / "2.png").write_bytes((last / "wrist" / "1.png").read_bytes()[:60])
    assert "2.png: not readable" in refused(path, images=True)
    shutil.copy(last / "log.csv", last / "again.csv")
    assert f"{last}: 2 tables found" in refused(path)


def test_a_table_without_time_or_action(refused: Refused, tmp_path: Path) -> None:
    path, _ = parquet_folder(tmp_path)
    for file in sorted(path.rglob("*.parquet")):
        pq.write_table(pq.read_table(file).drop_columns("time"), file)
    assert "does not say how many frames a second" in refused(path)
    assert cli.main(["demos", "inspect", str(path), "--fps", "30"]) == 0
    table = pq.read_table(file)
    for bad, said in [
        (table.drop_columns("action"), "no columns for the action"),
        (table.set_column(0, "frame_index", pa.array([0, 1, 1, 2])), "row 2: frame_index does not follow"),
    ]:
        pq.write_table(bad, file)
        with pytest.raises(BadInput) as caught:
            list(open_source(str(path), 30).episodes())
        assert said in str(caught.value) and str(file) in str(caught.value)


# --- LeRobotDatasets --------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return lerobot(tmp_path)[0]


def change(dataset: Path, column: str, values: pa.Array | None) -> Path:
    """Replace a column of the second file, which holds frames 2 and 3 of episode 1, or drop it (None)."""
    file = dataset / "data" / "chunk-000" / "file-001.parquet"
    table = pq.read_table(file)
    index = table.column_names.index(column)
    pq.write_table(table.drop_columns(column) if values is None else table.set_column(index, column, values), file)
    return file


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("action", None, "not readable"),
        ("action", pa.array([[1.0, 2.0], [3.0]]), "action has 1 numbers in row 1, expected 2"),
        ("action", pa.array([[1.0, 2.0], None]), "action has 0 numbers in row 1, expected 2"),
        ("observation.effort", pa.array([1.0, np.nan]), "episode 1, row 3: observation.effort is not finite"),
        ("observation.effort", pa.array([1.0, None]), "episode 1, row 3: observation.effort is not finite"),
        ("observation.effort", pa.array(["a", "b"]), "not readable"),
        ("frame_index", pa.array([3, 2]), "episode 1, row 2: frame_index is not that of frame 2"),
        ("frame_index", pa.array([1, 2]), "episode 1, row 2: frame_index"),
        (
            "timestamp",
            pa.array([2 / 15, 3 / 15], pa.float32()),
            "episode 1, row 2: timestamp is not, at 30 frames a second",
        ),
        ("episode_index", pa.array([1, 0]), "out of order"),
        ("episode_index", pa.array([2, 2]), "episode 2, row 0: frame_index is not that of frame 0"),
    ],
)
def test_a_bad_column(column: str, values: pa.Array | None, said: str, refused: Refused, dataset: Path) -> None:
    change(dataset, column, values)
    line = refused(dataset)
    assert str(dataset) in line and said in line


def test_a_dataset_with_parts_missing(refused: Refused, dataset: Path) -> None:
    for part, said in [
        ("data/chunk-000/file-001.parquet", "2 episodes of 8 frames found, meta/info.json promises 2 of 10"),
        ("data/chunk-000/file-000.parquet", "no parquet file"),
        ("meta/info.json", "no meta/info.json"),
    ]:
        (dataset / part).unlink()
        assert said in refused(dataset)


def test_a_dataset_without_its_episodes(refused: Refused, tmp_path: Path) -> None:
    dataset = shutil.copytree(DEMO_FOLDER, tmp_path / "dataset")
    shutil.rmtree(dataset / "meta" / "episodes")
    assert "nothing in meta/episodes" in refused(dataset)


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """A dataset as `convert` writes it."""
    return write_dataset(open_source(str(npz(tmp_path)[0])), tmp_path / "ours", quiet=True)


def change_rows(dataset: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    """Edit the only file of meta/episodes."""
    (file,) = dataset.glob("meta/episodes/*/*.parquet")
    pq.write_table(edit(pq.read_table(file)), file)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda table: table.drop_columns("checksum"), "no checksum of episode 0"),
        (
            lambda table: table.set_column(table.column_names.index("checksum"), "checksum", pa.array(["", None])),
            "no checksum of episode 0",
        ),
        (lambda table: table.drop_columns("length"), "no column length"),
        (lambda table: table.drop_columns("episode_index"), "no column episode_index"),
        (lambda table: table.take([0, 1, 1]), "has episode 1 twice"),
        (lambda table: table.set_column(0, "episode_index", pa.array([0, None])), "episode_index None"),
        (lambda table: table.set_column(0, "episode_index", pa.array([0.0, 1.0])), "episode_index 0.0"),
    ],
    ids=["no checksums", "empty checksums", "no lengths", "no numbers", "doubled", "null", "fractions"],
)
def test_damage_to_what_is_known_of_the_episodes(
    edit: Callable[[pa.Table], pa.Table], said: str, refused: Refused, converted: Path
) -> None:
    change_rows(converted, edit)
    line = refused(converted)
    assert said in line and str(converted) in line and "copy the dataset again" in line


def test_a_dataset_that_another_tool_changed_needs_no_checksums(converted: Path) -> None:
    change_rows(converted, lambda table: table.drop_columns("checksum"))
    with pytest.raises(BadInput, match="remove meta/contract.json"):
        load_demos(open_source(str(converted)))
    (converted / "meta" / "contract.json").unlink()
    assert len(load_demos(open_source(str(converted), task="none"))) == 2


@pytest.mark.parametrize("keep", [0, 10, -10])
def test_a_truncated_parquet(keep: int, refused: Refused, dataset: Path) -> None:
    path = dataset / "data" / "chunk-000" / "file-001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path}: not readable" in refused(dataset)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"features": {}, "fps": "fast", "total_frames": 9}',
        '{"features": {"observation.x": 3}, "fps": 10, "total_frames": 9}',
        "\udcff",
    ],
)
def test_a_damaged_info(text: str, refused: Refused, dataset: Path) -> None:
    path = dataset / "meta" / "info.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert f"{path}: not valid" in refused(dataset)


def test_an_info_that_does_not_tell_all(refused: Refused, dataset: Path) -> None:
    path = dataset / "meta" / "info.json"
    info = json.loads(path.read_text())
    del info["features"]["observation.effort"]
    path.write_text(json.dumps(info))
    assert "column observation.effort is not in meta/info.json" in refused(dataset)


def test_videos_that_do_not_have_it_all(refused: Refused, tmp_path: Path) -> None:
    path, truth = lerobot_videos(tmp_path)
    file, (images,) = next(path.glob("videos/*/*/*.mp4")), truth.images.values()
    write_lossless_video(file, images[:8], 30)
    assert f"{file}, episode 1, row 2: the video has no image at 0.267 s" in refused(path, images=True)
    write_lossless_video(file, images, 15)
    assert f"{file}, episode 0, row 1: the video has no image at 0.033 s" in refused(path, images=True)
    file.write_bytes(file.read_bytes()[:500])
    assert f"{file}: not readable" in refused(path, images=True)
    file.unlink()
    assert f"{file}: missing; it has the images of episode 0" in refused(path, images=True)


# --- no source at all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["missing.npz", "./missing", "/no/such/folder", "missing", "a/b/c", ""])
def test_what_is_neither_there_nor_a_hub_id(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="no such file"):
        load_demos(open_source(source))


def test_what_is_no_kind_of_source(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert "is none of LeRobotDataset, replay zarr, replay npz" in refused(tmp_path / "notes.txt")


def test_an_unknown_hub_id_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match="nobody/nothing.*network"):
        load_demos(open_source("nobody/nothing"))


@pytest.mark.parametrize("fps", ["0", "-3", "nan", "inf"])
def test_a_rate_that_is_none(fps: str, tmp_path: Path) -> None:
    path, _ = npz(tmp_path)
    assert cli.main(["demos", "inspect", str(path), "--fps", fps]) == 2


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_sound_source_is_not_refused(make: Callable, tmp_path: Path) -> None:
    assert len(load_demos(open_source(str(make(tmp_path)[0])))) == 2
