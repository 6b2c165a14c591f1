"""Images on the disk: the same bytes as decoded ones, decoded once, only where they are asked for, and resumed."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from sources import MAKERS, csv_folder, lerobot_videos, photos

from vqbet_course import cli
from vqbet_course.core.errors import BadInput
from vqbet_course.datasets.source import Episode, Frames, Source
from vqbet_course.datasets.splits import Split
from vqbet_course.datasets.stored_images import ImageCache, ImageFiles, StoredImages, alone_in, stored_in
from vqbet_course.demos import Demos, load_demos
from vqbet_course.tasks import open_source
from vqbet_course.training.data import fitting, prepare

WRIST = "observation.images.wrist"


def loaded(path: Path, cache: Path | None = None) -> Demos:
    """The demonstrations of `csv_folder` with its camera."""
    return load_demos(open_source(str(path)), [WRIST], ImageCache(cache, 2, quiet=True) if cache else None)


def read(demos: Demos, camera: str = WRIST) -> np.ndarray:
    return stored_in(demos.observation)[camera].read()


@pytest.mark.parametrize(
    "kind", [name for name in MAKERS if name not in ("npz", "parquet_folder", "lerobot", "recorded")]
)
def test_the_images_of_every_kind_of_source_are_those_that_were_kept(kind: str, tmp_path: Path) -> None:
    path, truth = MAKERS[kind](tmp_path)
    demos = load_demos(open_source(str(path)), list(truth.images))
    for name, images in truth.images.items():
        stored = demos.observation[name]
        assert isinstance(stored, StoredImages) and stored.shape == (10, 3, *images.shape[1:3]) and stored.ndim == 4
        assert np.array_equal(stored, images.transpose(0, 3, 1, 2))


def test_threads_that_read_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """An array in an .npz is read in order: each thread has a place of its own in it."""
    images, ends = photos(600, 32, 32), np.arange(20, 601, 20)
    numbers = np.zeros((600, 2), np.float32)
    np.savez_compressed(tmp_path / "d.npz", state=numbers, action=numbers, img=images, episode_ends=ends)
    demos = load_demos(
        open_source(str(tmp_path / "d.npz"), 10), ["observation.image"], ImageCache(tmp_path / "c", 8, True)
    )
    assert np.array_equal(read(demos, "observation.image"), images.transpose(0, 3, 1, 2))


def test_choosing_rows_reads_nothing_and_reading_takes_only_their_episodes(tmp_path: Path) -> None:
    demos = loaded(csv_folder(tmp_path)[0], tmp_path / "cache").select([1])
    assert not (tmp_path / "cache").exists()
    assert np.array_equal(read(demos), photos()[6:].transpose(0, 3, 1, 2))
    assert next((tmp_path / "cache").glob("*.episodes")).read_text() == "1\n"
    windows = stored_in(demos.observation)[WRIST][torch.tensor([[0, 0], [2, 3]])]
    assert np.array_equal(windows.read(), photos()[[[6, 6], [8, 9]]].transpose(0, 1, 4, 2, 3))


def test_images_are_decoded_once(tmp_path: Path) -> None:
    path, _ = csv_folder(tmp_path)
    first = read(loaded(path, tmp_path / "cache"))
    with patch.object(ImageFiles, "decode", side_effect=AssertionError("decoded again")):
        assert np.array_equal(read(loaded(path, tmp_path / "cache")), first)


def test_what_was_decoded_before_the_process_was_killed_is_kept(tmp_path: Path) -> None:
    """The list of whole episodes may end within a line; the file may lack a whole episode."""
    path, _ = csv_folder(tmp_path)
    whole = read(loaded(path, tmp_path / "cache"))
    listed = next((tmp_path / "cache").glob("*.episodes"))
    listed.write_text("0\n1")
    with open(next((tmp_path / "cache").glob("*.bytes")), "r+b") as file:
        file.seek(6 * 8 * 12 * 3)
        file.write(bytes(100))
    decoded, decode_unit = [], ImageFiles.decode_unit

    def counted(files: ImageFiles, name: str, number: int) -> None:
        decoded.append(number)
        decode_unit(files, name, number)

    with patch.object(ImageFiles, "decode_unit", counted):
        assert np.array_equal(read(loaded(path, tmp_path / "cache")), whole)
    assert decoded == [1]
    assert listed.read_text() == "0\n1\n"


def test_images_whose_file_was_removed_are_decoded_anew(tmp_path: Path) -> None:
    path, _ = csv_folder(tmp_path)
    whole = read(loaded(path, tmp_path / "cache"))
    next((tmp_path / "cache").glob("*.bytes")).unlink()
    images = loaded(path, tmp_path / "cache")
    held = stored_in(images.observation)[WRIST]
    held[len(held) - 1 :].fill()
    assert np.array_equal(read(loaded(path, tmp_path / "cache")), whole)


def test_other_images_are_decoded_anew(tmp_path: Path) -> None:
    """Here only a picture changes; states and actions stay."""
    path, _ = csv_folder(tmp_path)
    before = read(loaded(path, tmp_path / "cache"))
    picture = path / "episode_000" / "wrist" / "0.png"
    shutil.copy(path / "episode_000" / "wrist" / "1.png", picture)
    os.utime(picture, (2e9, 2e9))
    after = read(loaded(path, tmp_path / "cache"))
    assert np.array_equal(after[0], before[1]) and np.array_equal(after[1:], before[1:])


def test_a_disk_that_is_too_small_is_found_out_before_anything_is_written(tmp_path: Path) -> None:
    demos = loaded(csv_folder(tmp_path)[0], tmp_path / "cache")
    with patch("vqbet_course.datasets.stored_images.free_bytes", return_value=10 * 8 * 12 * 3 - 1):
        with pytest.raises(BadInput, match=r"10 images take .* GB .*--resize HxW.*--cache DIR"):
            read(demos)
    assert not (tmp_path / "cache").exists()


def spoiled(path: Path) -> None:
    """Remove the last image of the last episode."""
    (path / "episode_001" / "wrist" / "9.png").unlink(missing_ok=True)
    (path / "episode_001" / "wrist" / "3.png").unlink()


def test_an_episode_without_all_its_images_leaves_nothing_behind(tmp_path: Path) -> None:
    path, _ = csv_folder(tmp_path)
    spoiled(path)
    with pytest.raises(BadInput, match="episode 1: .*only 3 images for 4 rows"):
        read(loaded(path, tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()
    command = ["train", "--data", str(path), "--observe", WRIST, "--steps", "3", "--set", "action_chunk_size=2"]
    assert cli.main([*command, "--set", "n_obs_steps=1", "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


def test_one_process_at_a_time_decodes(tmp_path: Path) -> None:
    demos, found = loaded(csv_folder(tmp_path)[0], tmp_path / "cache"), []
    with alone_in(tmp_path / "cache"):
        waiting = threading.Thread(target=lambda: found.append(read(demos)))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and not list((tmp_path / "cache").glob("*.bytes"))
    waiting.join(20)
    assert np.array_equal(found[0], photos().transpose(0, 3, 1, 2))


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_images_take_no_memory_however_many_there_are(tmp_path: Path) -> None:
    n, size = 1000, (120, 120, 3)

    def episodes(start: int) -> Iterator[Episode]:
        for number in range(start, 4):
            numbers = np.random.default_rng(number).normal(size=(n, 2)).astype(np.float32)
            images: dict[str, Frames] = {WRIST: lambda: (np.full(size, t % 256, np.uint8) for t in range(n))}
            yield Episode({"observation.state": numbers, "action": numbers}, f"episode {number}", images)

    source = Source("made", "made", 4, episodes, 10.0, {WRIST: size})
    before = most = anonymous_bytes()
    demos = load_demos(source, [WRIST, "observation.state"], ImageCache(tmp_path, 2, quiet=True))
    windows = prepare(demos, fitting(demos), augment=False).windows
    for rows in torch.randperm(len(windows.chunk_index))[:2000].split(4):
        assert windows.seen(rows)[WRIST].shape[2:] == (3, 120, 120)
        most = max(most, anonymous_bytes())
    assert most - before < 0.3 * 4 * n * np.prod(size)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., int]:
    """Trains on the images of a video for a moment, as the command line does."""
    path, _ = lerobot_videos(tmp_path)
    settings = [
        f"--set={name}={value}" for name, value in {"gpt_n_layer": 1, "gpt_n_head": 1, "gpt_hidden_dim": 16}.items()
    ]
    small = [
        "--set",
        "n_obs_steps=2",
        "--set",
        "action_chunk_size=2",
        "--set",
        "batch_size=4",
        "--set",
        "crop_shape=null",
    ]

    def run(*options: str) -> int:
        observe = ["--observe", "observation.images.top,observation.state"]
        return cli.main(["train", "--data", str(path), *observe, "--steps", "3", *settings, *small, *options])

    return run


def test_a_run_keeps_its_images_until_it_has_trained(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--out", str(tmp_path / "run")) == 0
    told = capsys.readouterr().err
    assert "10 frames of 1 camera, 16 x 24: 0.00 GB on the disk" in told and "GB of images in a batch" in told
    assert (tmp_path / "run" / "model.safetensors").exists() and not (tmp_path / "run" / "images").exists()


def test_runs_that_share_a_cache_decode_once_and_evaluate_from_it(train: Callable[..., int], tmp_path: Path) -> None:
    split = Split(str(tmp_path / "dataset"), 2, [0], [1]).to_dict()
    (tmp_path / "split.json").write_text(json.dumps(split))
    shared = ["--cache", str(tmp_path / "cache"), "--resize", "8x12", "--split", str(tmp_path / "split.json")]
    assert train(*shared, "--out", str(tmp_path / "one")) == 0
    assert [file.read_text() for file in (tmp_path / "cache").glob("*.episodes")] == ["0\n"]
    assert cli.main(["eval", str(tmp_path / "one"), "--offline", str(tmp_path / "dataset")]) == 0
    with patch.object(ImageFiles, "decode", side_effect=AssertionError("decoded again")):
        assert train(*shared, "--out", str(tmp_path / "two")) == 0
        assert cli.main(["eval", str(tmp_path / "two"), "--offline", str(tmp_path / "dataset")]) == 0
    assert [file.stat().st_size for file in (tmp_path / "cache").glob("*.bytes")] == [10 * 3 * 8 * 12]
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()
