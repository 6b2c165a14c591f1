"""Every kind of source is read exactly, and written as a LeRobotDataset that holds the same."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from conftest import REPO
from sources import ENDS, LENGTHS, MAKERS, Make, Truth, aloha, csv_folder, lerobot, npz, photos

from vqbet_course import cli
from vqbet_course.core.errors import BadInput
from vqbet_course.core.specs import Contract, Field
from vqbet_course.datasets import storage, writer
from vqbet_course.datasets.choice import Choice, resized_frame
from vqbet_course.datasets.source import Source
from vqbet_course.demos import load_demos
from vqbet_course.tasks import open_source, with_drawings
from vqbet_course.tasks.pusht.contract import PUSHT
from vqbet_course.tasks.pusht.drawing import drawings_of

HUMAN = REPO / ".." / "shared" / "data"

every_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(source: Source, truth: Truth) -> None:
    """Numbers and images are the true ones, to the last bit."""
    episodes = list(source.sound_episodes())
    assert [len(e) for e in episodes] == list(LENGTHS) and source.n_episodes == len(LENGTHS)
    assert source.rate == truth.fps and set(source.image_sizes) == set(truth.images)
    for name, values in truth.numbers.items():
        read = np.concatenate([e.numbers[name] for e in episodes])
        assert read.dtype == values.dtype == np.float32 and np.array_equal(read, values), name
    for name, images in truth.images.items():
        read = np.stack([image for e in episodes for image in e.images[name]()])
        assert read.dtype == np.uint8 and np.array_equal(read, images) and read.shape[1:] == source.image_sizes[name]


# --- every kind -------------------------------------------------------------------------------------------------


@every_kind
def test_a_source_is_read_exactly_and_converted_exactly(make: Make, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path, truth = make(tmp_path / "in")
    before = contents(tmp_path / "in")
    source = open_source(str(path))
    check(source, truth)
    out = writer.write_dataset(source, tmp_path / "out", quiet=True)
    again = open_source(str(out))
    check(again, truth)
    assert again.kind == "LeRobotDataset" and (again.units, again.task) == (
        dict.fromkeys(again.units, "unstated") | source.units,
        source.task,
    )
    assert contents(tmp_path / "in") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


@every_kind
def test_reading_can_begin_in_the_middle(make: Make, tmp_path: Path) -> None:
    path, _ = make(tmp_path)
    (last,) = open_source(str(path)).sound_episodes(1)
    *_, same = open_source(str(path)).sound_episodes()
    assert last.checksum() == same.checksum() and "episode 1" in last.place


@every_kind
def test_demonstrations_are_loaded_from_any_kind(make: Make, tmp_path: Path) -> None:
    path, truth = make(tmp_path)
    demos = load_demos(open_source(str(path)))
    assert demos.fps == truth.fps and demos.episode_ends.tolist() == ENDS.tolist()
    expected = {k: v for k, v in truth.numbers.items() if k.startswith("observation.")}
    assert demos.observation.keys() == expected.keys()
    assert all(np.array_equal(demos.observation[k], v) for k, v in expected.items())
    assert np.array_equal(demos.action, truth.numbers["action"])


def test_what_a_source_states_about_itself_is_kept(tmp_path: Path) -> None:
    source = open_source(str(MAKERS["robomimic"](tmp_path)[0]))
    assert (source.robot, source.task, source.operator, source.license) == ("Panda", "Lift", "unstated", "unstated")
    stated = replace(source, operator="two students", license="mit")
    again = open_source(str(writer.write_dataset(stated, tmp_path / "out", quiet=True)))
    assert (again.robot, again.task, again.operator, again.license) == ("Panda", "Lift", "two students", "mit")
    assert again.names["observation.state"] == ["eef_pos_0", "eef_pos_1", "eef_pos_2", "gripper_0", "gripper_1"]


def test_jpegs_of_aloha_and_videos_of_a_folder_are_decoded(tmp_path: Path) -> None:
    import av
    from PIL import Image

    path, _ = aloha(tmp_path)
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 64, 3))
    Image.fromarray(smooth).save(tmp_path / "one.jpg", quality=95)
    data = np.frombuffer((tmp_path / "one.jpg").read_bytes(), np.uint8)
    for file, n in zip(sorted(path.iterdir(), reverse=True), LENGTHS, strict=True):  # episode_9, episode_10
        with h5py.File(file, "a") as opened:
            del opened["observations/images/top"]
            opened["observations/images/top"] = np.tile(np.pad(data, (0, 7)), (n, 1))
    source = open_source(str(path))
    assert source.image_sizes == {"observation.images.top": (48, 64, 3)}
    image = next(next(source.episodes()).images["observation.images.top"]())
    assert np.abs(image.astype(int) - smooth).max() < 12

    folder, _ = csv_folder(tmp_path)
    for number, n in enumerate(LENGTHS):
        with av.open(str(folder / f"episode_{number:03d}" / "side.mp4"), "w") as video:
            stream = video.add_stream("libx264", rate=20)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(n):
                video.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(smooth))))
            video.mux(stream.encode())
    frames = [list(e.images["observation.images.side"]()) for e in open_source(str(folder)).episodes()]
    assert [len(f) for f in frames] == list(LENGTHS) and frames[0][0].shape == (48, 64, 3)


def test_a_hub_id_is_downloaded_and_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    asked: list[str] = []
    dataset, _ = lerobot(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **_: asked.append(repo) or str(dataset))
    assert len(load_demos(open_source("lerobot/pusht_keypoints"))) == 2
    assert asked == ["lerobot/pusht_keypoints"]


def test_a_hub_id_in_the_cache_is_read_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    dataset, truth = lerobot(tmp_path)
    repo = tmp_path / "hub" / "datasets--somebody--pushes"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "snapshots").mkdir()
    dataset.rename(repo / "snapshots" / ("0" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    check(open_source("somebody/pushes"), truth)


# --- what is written --------------------------------------------------------------------------------------------

TRAIN = [
    "--policy.type=act",
    "--policy.device=cpu",
    "--policy.push_to_hub=false",
    "--steps=2",
    "--batch_size=2",
    "--policy.pretrained_backbone_weights=null",
    "--dataset.repo_id=local/test",
    "--num_workers=0",
    "--wandb.enable=false",
    "--policy.dim_model=32",
    "--policy.n_heads=2",
    "--policy.dim_feedforward=32",
    "--policy.n_encoder_layers=1",
    "--policy.n_vae_encoder_layers=1",
    "--policy.chunk_size=4",
    "--policy.n_action_steps=4",
]


def test_lerobot_reads_the_same_and_trains_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lerobot")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.scripts import lerobot_train

    path, truth = MAKERS["replay_zarr"](tmp_path)
    big = photos(height=32, width=40)
    group = zarr.open_group(path)
    del group["data/img"]
    group.create_array("data/img", data=big.astype(np.float32), chunks=(3, 32, 40, 3))
    out = writer.write_dataset(open_source(str(path)), tmp_path / "dataset", quiet=True)
    read = LeRobotDataset("local/test", root=out)
    rows = [read[i] for i in range(len(read))]
    stated = (read.fps, read.num_episodes, rows[0]["task"])
    assert stated == (10, 2, "Push the T-shaped block onto the T-shaped target.")
    for name, values in truth.numbers.items():
        assert np.array_equal(np.stack([row[name] for row in rows]), values), name
    images = np.stack([row["observation.image"] for row in rows])
    assert np.array_equal(np.round(images * 255).astype(np.uint8).transpose(0, 2, 3, 1), big)
    stats = read.meta.stats
    np.testing.assert_allclose(stats["action"]["mean"], truth.numbers["action"].mean(0), rtol=1e-6)
    np.testing.assert_allclose(stats["observation.image"]["mean"][:, 0, 0], big.mean((0, 1, 2)) / 255, rtol=1e-6)
    given = [f"--dataset.root={out}", f"--output_dir={tmp_path / 'run'}"]
    monkeypatch.setattr(sys, "argv", ["lerobot-train", *TRAIN, *given])
    lerobot_train.main()
    assert (tmp_path / "run" / "checkpoints" / "000002" / "pretrained_model" / "model.safetensors").exists()


def test_many_files_hold_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "FILE_BYTES", 1)
    monkeypatch.setattr(writer, "GROUP_BYTES", 1)
    monkeypatch.setattr(storage.PngCells, "block", 2)
    path, truth = MAKERS["aloha"](tmp_path)
    out = writer.write_dataset(open_source(str(path)), tmp_path / "out", quiet=True)
    assert len(list(out.glob("data/*/*.parquet"))) == len(list(out.glob("meta/episodes/*/*.parquet"))) == 2
    check(open_source(str(out)), truth)
    rows = [row for file in writer.meta_files(out) for row in writer.read_rows(file)]
    assert [(r["dataset_from_index"], r["dataset_to_index"], r["data/file_index"]) for r in rows] == [
        (0, 6, 0),
        (6, 10, 1),
    ]
    assert pq.read_table(out / "data" / "chunk-000" / "file-001.parquet")["index"].to_pylist() == [6, 7, 8, 9]


@pytest.mark.parametrize("kind", ["npz", "aloha"])
def test_only_videos_end_a_file_by_the_number_of_frames(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "FRAMES_PER_VIDEO", 1)
    source = open_source(str(MAKERS[kind](tmp_path)[0]))
    out = writer.write_dataset(source, tmp_path / "out", quiet=True)
    assert len(list(out.glob("data/*/*.parquet"))) == 1
    if source.image_sizes:
        large = Choice(resize=(64, 64)).of(source)
        in_videos = writer.write_dataset(large, tmp_path / "videos", quiet=True, videos=True)
        assert len(list(in_videos.glob("data/*/*.parquet"))) == len(list(in_videos.glob("videos/*/*/*.mp4"))) == 2
        assert [len(list(e.images["observation.images.top"]())) for e in open_source(str(in_videos)).episodes()] == [
            6,
            4,
        ]


def test_what_is_known_of_the_episodes_is_read_once_to_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "FILE_BYTES", 1)
    source = open_source(str(MAKERS["aloha"](tmp_path)[0]))
    out = writer.write_dataset(source, tmp_path / "out", quiet=True)
    read, real = [], pq.read_table
    monkeypatch.setattr(pq, "read_table", lambda file, **asked: read.append(file) or real(file, **asked))
    writer.verify(source, out, 0.0)
    rows = [file for file in read if "episodes" in str(file)]
    assert len(rows) == len(set(rows)) == 2


def test_statistics_of_images_are_those_of_their_pixels() -> None:
    images = photos(20, 9, 7)
    found = writer.stats_of({}, {"eye": [writer.thinned(image) for image in images]})
    pixels = images.reshape(-1, 3) / 255
    for name, value in {
        "min": pixels.min(0),
        "mean": pixels.mean(0),
        "std": pixels.std(0),
        "q10": np.quantile(pixels, 0.1, axis=0),
        "q99": np.quantile(pixels, 0.99, axis=0),
    }.items():
        np.testing.assert_allclose(np.ravel(found[f"stats/eye/{name}"]), value, rtol=1e-12)
    whole = np.zeros((50, 40, 30, 3), np.uint8)
    assert not np.shares_memory(writer.thinned(whole[3]), whole)


def test_statistics_are_those_of_all_frames(tmp_path: Path) -> None:
    path, truth = npz(tmp_path)
    out = writer.write_dataset(open_source(str(path)), tmp_path / "out", quiet=True)
    stats, action = (
        json.loads((out / "meta" / "stats.json").read_text())["action"],
        truth.numbers["action"].astype(float),
    )
    for name, value in {
        "min": action.min(0),
        "max": action.max(0),
        "mean": action.mean(0),
        "std": action.std(0),
    }.items():
        np.testing.assert_allclose(stats[name], value, rtol=1e-6)
    assert stats["count"] == [10]
    contract = Contract.from_dict(json.loads((out / "meta" / "contract.json").read_text()))
    assert contract == PUSHT and contract.action.low == pytest.approx(action.min())


def test_the_card_tells_what_is_there(tmp_path: Path) -> None:
    out = writer.write_dataset(open_source(str(npz(tmp_path)[0])), tmp_path / "out", quiet=True)
    card = (out / "README.md").read_text()
    assert "2, of 4 to 6 frames, median 5" in card and "10 at 10 a second" in card and "license: " not in card


def test_a_name_by_which_a_task_is_no_longer_recognised_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["demos", "convert", "demo", "--rename"]
    for new, said in (("observation.pusher", True), ("observation.state", False)):
        assert cli.main([*command, f"observation.state={new}", "--out", str(tmp_path / new)]) == 0
        assert ("not recognised as demonstrations of PushT" in capsys.readouterr().err) == said


def test_drawings_are_resized(tmp_path: Path) -> None:
    path, _ = npz(tmp_path)
    asked = ["demos", "convert", str(path), "--render", "--resize", "24x32", "--out", str(tmp_path / "out")]
    assert cli.main(asked) == 0
    drawn = next(with_drawings(open_source(str(path))).episodes()).images["observation.image"]
    small = next(open_source(str(tmp_path / "out")).episodes()).images["observation.image"]
    assert np.array_equal(next(small()), resized_frame(next(drawn()), 24, 32))


def test_states_can_be_drawn(tmp_path: Path) -> None:
    path, truth = npz(tmp_path)
    out = writer.write_dataset(with_drawings(open_source(str(path))), tmp_path / "out", quiet=True)
    episode = next(open_source(str(out)).sound_episodes())
    drawn = np.stack(list(episode.images["observation.image"]()))
    assert drawn.shape == (6, 96, 96, 3) and len({image.tobytes() for image in drawn}) == 6
    for image, (x, y) in zip(drawn, episode.numbers["observation.state"], strict=True):
        red, green, blue = image[int(y * 96 / 512), int(x * 96 / 512)].astype(int)
        assert blue > red + 80  # the pusher is where it should be
    assert "has images already" in complaint(with_drawings, open_source(str(out)))
    assert "not demonstrations of a task that can draw" in complaint(
        with_drawings, open_source(str(MAKERS["parquet_folder"](tmp_path)[0]))
    )


@pytest.mark.skipif(not HUMAN.exists(), reason="the human demonstrations are not here")
def test_the_human_demonstrations_with_their_images() -> None:
    source = open_source(str(HUMAN / "pusht_human_mini.zarr"))
    assert source.n_episodes == 3 and source.image_sizes == {"observation.image": (96, 96, 3)} and source.rate == 10
    mini, whole = (
        next(source.sound_episodes()),
        next(open_source(str(HUMAN / "pusht_human_lowdim.npz")).sound_episodes()),
    )
    assert mini.checksum() == whole.checksum()
    theirs, ours = (
        np.stack(list(frames())[:20]).astype(int) for frames in (mini.images["observation.image"], drawings_of(whole))
    )
    assert np.abs(theirs - ours).mean() < 0.2  # another version of the renderer


@pytest.mark.skipif(not HUMAN.exists(), reason="the human demonstrations are not here")
def test_all_human_demonstrations_are_converted(tmp_path: Path) -> None:
    out = writer.write_dataset(open_source(str(HUMAN / "pusht_human_lowdim.npz")), tmp_path / "out", quiet=True)
    assert json.loads((out / "meta" / "info.json").read_text())["total_frames"] == 25650


MEMORY = """
import re, sys
from pathlib import Path
from vqbet_course.datasets import storage, writer
from vqbet_course.tasks import open_source
for name in sys.argv[1:]:
    writer.write_dataset(open_source(name, fps=10), Path(name).with_name(Path(name).stem + "-out"), quiet=True)
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def videos_of(kind: str, folder: Path, n: int) -> Path:
    """A source of one episode of n large images, 0.9 MB each."""
    numbers, images, path = np.ones((n, 3), np.float32), np.ones((n, 480, 640, 3), np.uint8), folder / f"{n}.{kind}"
    if kind == "npz":
        np.savez(path, img=images, action=numbers, episode_ends=[n])
    elif kind == "zarr":
        group = zarr.create_group(path, zarr_format=2)
        group.create_array("data/img", data=images, chunks=(4, 480, 640, 3), compressors=None)
        group.create_array("data/action", data=numbers)
        group.create_array("meta/episode_ends", data=np.array([n]))
    else:
        with h5py.File(path, "w") as file:
            file["data/demo_0/actions"], file["data/demo_0/obs/eef"], file["data/demo_0/obs/eye"] = (
                numbers,
                numbers,
                images,
            )
    return path


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of a process' memory so")
@pytest.mark.parametrize("kind", ["npz", "zarr", "hdf5"])
def test_memory_does_not_grow_with_the_source(kind: str, tmp_path: Path) -> None:
    paths = [videos_of(kind, tmp_path, n) for n in (20, 420)]
    done = subprocess.run([sys.executable, "-c", MEMORY, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    small, large = map(float, done.stdout.split())
    assert large - small < 180  # MB; the 400 images more are 369 MB


# --- interruptions ----------------------------------------------------------------------------------------------

SLOWLY = """
import sys, time
from dataclasses import replace
from pathlib import Path
from vqbet_course.datasets import storage, writer
from vqbet_course.tasks import open_source
writer.FILE_BYTES = 1
source = open_source(sys.argv[1])
def read(first):
    for episode in source.read(first):
        yield episode
        time.sleep(600)
writer.write_dataset(replace(source, read=read), Path(sys.argv[2]), quiet=True)
"""


def test_a_killed_conversion_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, truth = MAKERS["replay_zarr"](tmp_path)
    out, first = tmp_path / "out", tmp_path / ".out.partial" / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, path, out])
    deadline = time.monotonic() + 60
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists() and first.exists()
    (first.parent / ".file-001.parquet.1.partial").write_text("half")
    source, begun = open_source(str(path)), []
    resumed = replace(source, read=lambda start: begun.append(start) or source.read(start))
    writer.write_dataset(resumed, out, quiet=True)
    assert begun[-1] == 1
    check(open_source(str(out)), truth)
    assert not (tmp_path / ".out.partial").exists() and not list(out.rglob("*.partial"))


def test_parts_hold_every_episode_once_in_files_of_their_own() -> None:
    parts = writer.parts_of([10] * 1500 + [500] * 40, 4)
    assert [part.first for part in parts] == [0, *(part.last for part in parts[:-1])] and parts[-1].last == 1540
    assert [part.frame for part in parts] == [10 * min(p.first, 1500) + 500 * max(0, p.first - 1500) for p in parts]
    chunks = [chunk for part in parts for chunk in part.chunks]
    assert chunks == sorted(set(chunks)) and parts[0].chunks == range(0, 1)
    assert max(p.last - p.first for p in parts) <= 1000 * max(len(p.chunks) for p in parts)
    assert writer.parts_of([5, 7], 8) == [writer.Part(0, 1), writer.Part(1, 2, 5, 1000)]


def test_several_processes_go_on_where_they_stopped_and_write_what_one_does(tmp_path: Path) -> None:
    path, truth = MAKERS["csv_folder"](tmp_path)
    source, out, work = open_source(str(path)), tmp_path / "out", tmp_path / ".out.partial"
    writer.begin(source, work, jobs=2)
    writer.write_part(source, work, False, writer.parts_of([6, 4], 2)[1], quiet=True)
    written = work / "data" / "chunk-001" / "file-000.parquet"
    before = written.stat().st_mtime_ns
    assert cli.main(["demos", "convert", str(path), "--jobs", "2", "--out", str(out)]) == 0
    check(open_source(str(out)), truth)
    assert (out / "data" / "chunk-001" / "file-000.parquet").stat().st_mtime_ns == before
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    camera = "observation.images.wrist"
    theirs = LeRobotDataset("local/out", root=out)
    seen = np.stack([theirs[i][camera].numpy() for i in range(10)])
    assert np.array_equal((seen * 255).round(), truth.images[camera].transpose(0, 3, 1, 2))
    assert [int(theirs[i]["index"]) for i in range(10)] == list(range(10))


def test_a_bad_episode_ends_all_processes_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = MAKERS["csv_folder"](tmp_path)
    (path / "episode_001" / "wrist" / "3.png").unlink()
    assert cli.main(["demos", "convert", str(path), "--jobs", "2", "--out", str(tmp_path / "out")]) == 2
    assert "episode 1: observation.images.wrist has only 3 images for 4 rows" in capsys.readouterr().err
    assert not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".out*"))


def test_a_source_that_changed_is_converted_from_the_beginning(tmp_path: Path) -> None:
    path, truth = npz(tmp_path)
    source = open_source(str(path))
    writer.begin(source, tmp_path / ".out.partial")
    (tmp_path / ".out.partial" / "data" / "chunk-000").mkdir(parents=True)
    (tmp_path / ".out.partial" / "data" / "chunk-000" / "file-000.parquet").write_text("of another source")
    os.utime(path, (1, 1))
    check(open_source(str(writer.write_dataset(open_source(str(path)), tmp_path / "out", quiet=True))), truth)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"drop_episodes": frozenset({0})}, {"drop_episodes": frozenset({1})}),
        ({"rename": (("action", "observation.velocity"), ("observation.velocity", "action"))}, {}),
    ],
    ids=["other episodes", "exchanged names"],
)
def test_another_choice_is_converted_from_the_beginning(before: dict, after: dict, tmp_path: Path) -> None:
    path, _ = MAKERS["aloha"](tmp_path)
    sources = [open_source(str(path), choice=Choice(**chosen)) for chosen in (before, after)]
    work = tmp_path / ".out.partial"
    for source in sources:
        writer.begin(source, work)
        assert not (work / "data").exists()
        (work / "data" / "chunk-000").mkdir(parents=True)
    writer.begin(sources[1], work)
    assert (work / "data").exists()  # of the same choice: to be gone on with


def test_the_first_episode_of_a_source_is_read_once(tmp_path: Path) -> None:
    opened, begun = open_source(str(MAKERS["aloha"](tmp_path)[0])), []
    source = replace(opened, read=lambda start: begun.append(start) or opened.read(start))
    assert source.first.checksum() == source.first.checksum() and source.contract.action.size == 14
    writer.begin(writer.with_safe_names(source), tmp_path / ".out.partial")
    assert begun == [0]


def test_an_occupied_folder_is_refused_and_kept(tmp_path: Path) -> None:
    path, _ = npz(tmp_path)
    assert "not an empty folder" in complaint(writer.write_dataset, open_source(str(path)), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["demos.npz"]


def test_what_does_not_read_back_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = writer.as_column

    def bent(values: np.ndarray) -> Any:
        return put(values + 1 if values.shape[1] == 2 else values)

    monkeypatch.setattr(writer, "as_column", bent)
    said = complaint(writer.write_dataset, open_source(str(npz(tmp_path)[0])), tmp_path / "out")
    assert "checksum" in said and [p.name for p in tmp_path.iterdir()] == ["demos.npz"]


def test_a_full_disk_says_so_and_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, truth = npz(tmp_path)
    monkeypatch.setattr(writer, "FILE_BYTES", 1)
    real, calls = pq.ParquetWriter.write_table, []

    def full(self: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == 3:  # the second data file: before it come a data file and its row of meta/episodes
            raise OSError(28, "No space left on device")
        real(self, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    assert "no space left" in complaint(writer.write_dataset, open_source(str(path)), tmp_path / "out")
    assert len(list((tmp_path / ".out.partial").glob("data/*/*.parquet"))) == 1
    check(open_source(str(writer.write_dataset(open_source(str(path)), tmp_path / "out", quiet=True))), truth)


def complaint(f: Callable[..., object], *args: object, **kwargs: object) -> str:
    """The one line of the BadInput that f raises."""
    with pytest.raises(BadInput) as caught:
        f(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_command_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, truth = MAKERS["aloha"](tmp_path)
    assert cli.main(["demos", "convert", str(path), "--out", str(tmp_path / "out"), "--fps", "25"]) == 0
    assert "written and verified" in capsys.readouterr().out
    check(open_source(str(tmp_path / "out")), replace(truth, fps=25.0))


@pytest.fixture
def point_robot(tmp_path: Path) -> Path:
    """Demonstrations of a robot that is not PushT's; nothing in the file says in which units."""
    path, place = tmp_path / "point.npz", np.linspace(1, 0, 24).reshape(12, 2)
    np.savez(path, state=place, action=-0.1 * place, episode_ends=[6, 12])
    return path


def refusal(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that writes says on stderr when it refuses."""
    assert cli.main([*words, "--out", str(tmp_path / "never")]) == 2 and not (tmp_path / "never").exists()
    return capsys.readouterr().err


def test_the_units_of_another_robot_are_stated_when_it_is_converted(
    point_robot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--fps", "10", "--unit", "observation.state=m", "--unit", "action=m"]
    assert cli.main(["demos", "convert", str(point_robot), "--out", str(tmp_path / "out"), *asked]) == 0
    stated = Contract({"observation.state": Field(2, "m")}, Field(2, "m"), 10.0)
    assert "known are deg, rad" in refusal(
        ["demos", "convert", str(point_robot), "--unit", "action=parsec"], tmp_path, capsys
    )
    assert stated.difference(load_demos(open_source(str(tmp_path / "out"))).contract) is None


@pytest.mark.parametrize("unit", ["m", "action", "action=", "state=m"])
def test_a_unit_of_nothing_is_one_line(
    unit: str, point_robot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        cli.main(["demos", "convert", str(point_robot), "--out", str(tmp_path / "out"), "--fps", "10", "--unit", unit])
        == 2
    )
    assert "a feature out of observation.state, action" in capsys.readouterr().err and not (tmp_path / "out").exists()
