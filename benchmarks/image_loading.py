"""How fast are windows of images read, and what memory does a training on many of them take?

    python benchmarks/image_loading.py
    python benchmarks/image_loading.py --frames 100000 --name image_memory

A dataset of two cameras, 480 x 640, is written with LeRobot's video settings; it has as many frames as asked, but only
few different ones: its episodes repeat, and refer to the same videos. Both read the same random windows, resized to
--resize: ours from decoded images on the disk, LeRobot's DataLoader from the videos, with as many workers. Then
`vqbet-course train` runs for a few steps in a process of its own, whose memory is watched. Writes results/NAME.json.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vqbet_course.core.records import made_by
from vqbet_course.datasets.choice import Choice, height_and_width
from vqbet_course.datasets.source import Episode, Frames, Source
from vqbet_course.datasets.stored_images import ImageCache, stored_in
from vqbet_course.datasets.writer import write_dataset
from vqbet_course.demos import load_demos
from vqbet_course.tasks import open_source
from vqbet_course.training.data import fitting, prepare

RESULTS = Path(__file__).parent / "results"
HEIGHT, WIDTH, FPS = 480, 640, 30
CAMERAS = ("observation.images.front", "observation.images.wrist")
STATE = "observation.state"
LENGTH, DIFFERENT = 250, 4  # frames of an episode; episodes that are different
SAMPLES = 512  # windows that are read by each


def views(seed: int) -> Frames:
    """Images of an episode: a bright square that wanders over a background with some texture."""

    def frames() -> Iterator[np.ndarray]:
        draw = np.random.default_rng(seed)
        rough = draw.integers(40, 90, (HEIGHT // 20, WIDTH // 20, 3), np.uint8)
        background = np.kron(rough, np.ones((20, 20, 1), np.uint8))
        for t in range(LENGTH):
            image = background.copy()
            y, x = (int(side * (0.4 + 0.3 * np.sin(0.05 * t + seed + lag))) for side, lag in ((HEIGHT, 0), (WIDTH, 1)))
            image[y : y + 60, x : x + 60] = 230
            yield image

    return frames


def different_episodes() -> Source:
    """The episodes that are repeated, with six numbers of state and of action."""

    def read(start: int) -> Iterator[Episode]:
        for number in range(start, DIFFERENT):
            t = np.arange(LENGTH)[:, None] / FPS
            state = np.sin(t * np.arange(1, 7) + number).astype(np.float32)
            images = {name: views(2 * number + camera) for camera, name in enumerate(CAMERAS)}
            yield Episode({STATE: state, "action": np.roll(state, -1, 0)}, f"episode {number}", images)

    sizes: dict[str, tuple[int, ...]] = dict.fromkeys(CAMERAS, (HEIGHT, WIDTH, 3))
    return Source("made", "made for a benchmark", DIFFERENT, read, float(FPS), sizes, task="none")


def repeated(small: Path, times: int, out: Path) -> Path:
    """A dataset whose episodes are those of a small one, several times; its videos are the same files."""
    shutil.copytree(small, out, copy_function=os.link)
    data, meta = (
        pq.read_table(small / folder / "chunk-000" / "file-000.parquet") for folder in ("data", "meta/episodes")
    )
    frames, episodes = len(data), len(meta)
    many, rows = pa.concat_tables([data] * times), meta.to_pylist() * times
    for name, unit in (("index", frames), ("episode_index", episodes)):
        shift = np.repeat(np.arange(times) * unit, frames)
        values = pa.array(many[name].to_numpy() + shift)
        many = many.set_column(many.column_names.index(name), name, values)
    for number, row in enumerate(rows):
        later = number // episodes * frames
        places = {name: row[name] + later for name in ("dataset_from_index", "dataset_to_index")}
        rows[number] = row | places | {"episode_index": number}
    info = json.loads((small / "meta" / "info.json").read_text())
    info |= {"total_episodes": len(rows), "total_frames": frames * times, "splits": {"train": f"0:{len(rows)}"}}
    written = [out / name for name in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet")]
    for path in (*written, out / "meta/info.json"):
        path.unlink()  # it is a link to that of the small one
    pq.write_table(many, written[0])
    pq.write_table(pa.Table.from_pylist(rows, meta.schema), written[1])
    (out / "meta/info.json").write_text(json.dumps(info))
    return out


def ours(data: Path, resize: str, cache: Path, jobs: int, batch: int) -> dict[str, float]:
    """Images decoded a second, once, and windows read a second, then, each with its two cameras."""
    source = open_source(str(data), choice=Choice(resize=height_and_width(resize)))
    demos = load_demos(source, [*CAMERAS, STATE], ImageCache(cache, jobs, quiet=True))
    images = len(CAMERAS) * len(demos.action)
    start = time.perf_counter()
    stored_in(demos.observation)[CAMERAS[0]].fill()
    decoding = time.perf_counter() - start
    config = fitting(demos)
    windows = prepare(demos, config, augment=False).windows
    draw, rates = torch.Generator().manual_seed(0), []
    for _ in range(3):
        start = time.perf_counter()
        for rows in torch.randint(len(windows.chunk_index), (SAMPLES,), generator=draw).split(batch):
            windows.seen(rows)
        rates.append(SAMPLES / (time.perf_counter() - start))
    return {"decoded_images_per_s": images / decoding, "windows_per_s": sorted(rates)[1], "steps": config.n_obs_steps}


def lerobots(data: Path, resize: str, workers: int, batch: int, steps: int) -> dict[str, float]:
    """Windows read a second by LeRobot's DataLoader, each with its two cameras, after the first batches."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from torchvision.transforms import v2

    window = [-i / FPS for i in reversed(range(steps))]
    dataset = LeRobotDataset(
        "local/made",
        root=data,
        delta_timestamps=dict.fromkeys((*CAMERAS, STATE), window),
        image_transforms=v2.Resize(height_and_width(resize)),
    )
    draw = torch.utils.data.RandomSampler(dataset, num_samples=SAMPLES, generator=torch.Generator().manual_seed(0))
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch, sampler=draw, num_workers=workers)
    taken, start = 0, 0.0
    for number, found in enumerate(loader):
        if number == workers:  # each has begun
            start = time.perf_counter()
        elif number > workers:
            taken += len(found[STATE])
    return {"windows_per_s": taken / (time.perf_counter() - start), "workers": workers}


def watched(*command: str) -> dict[str, Any]:
    """The memory (GB) of a command while it runs: anonymous and of files, at most, and the first over time."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    began, seen = time.perf_counter(), []
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        found = {
            line.split(":")[0]: int(line.split()[1]) / 1e6 for line in status.splitlines() if line.startswith("Rss")
        }
        if found:
            seen.append((time.perf_counter() - began, found["RssAnon"], found["RssFile"]))
        time.sleep(0.2)
    assert process.stderr is not None
    said = process.stderr.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{said[-2000:]}")
    return {
        "command": " ".join(command[1:]),
        "said": [line for line in said.splitlines() if line.startswith(("memory", "images"))],
        "seconds": seen[-1][0],
        "anonymous_gb": max(row[1] for row in seen),
        "of_files_gb": max(row[2] for row in seen),
        "anonymous_gb_over_time": [round(row[1], 3) for row in seen[:: max(1, len(seen) // 40)]],
    }


@click.command()
@click.option("--frames", default=5000, show_default=True)
@click.option("--resize", default="96x128", show_default=True)
@click.option(
    "--jobs", default=2, show_default=True, help="Threads of ours that decode, processes of LeRobot's that read."
)
@click.option("--batch", default=32, show_default=True)
@click.option("--steps", default=12, show_default=True, help="Of the training that is watched.")
@click.option("--memory-only", is_flag=True, help="Only train, and watch the memory.")
@click.option("--name", default="image_loading", show_default=True, help="What the result is called.")
def main(frames: int, resize: str, jobs: int, batch: int, steps: int, memory_only: bool, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        small = write_dataset(different_episodes(), work / "small", quiet=True, videos=True)
        times = max(1, frames // (LENGTH * DIFFERENT))
        data = repeated(small, times, work / "data")
        result: dict[str, Any] = {
            "command": " ".join(["python", *sys.argv]),
            "seed": 0,
            "made_by": made_by(),
            "frames": LENGTH * DIFFERENT * times,
            "cameras": len(CAMERAS),
            "size": [HEIGHT, WIDTH],
            "resized": resize,
        }
        if not memory_only:
            result["ours"] = ours(data, resize, work / "cache", jobs, batch)
            result["lerobot"] = lerobots(data, resize, jobs, batch, int(result["ours"]["steps"]))
            result["ratio"] = result["ours"]["windows_per_s"] / result["lerobot"]["windows_per_s"]
        train = [
            "--data",
            str(data),
            "--observe",
            ",".join([*CAMERAS, STATE]),
            "--steps",
            str(steps),
            "--resize",
            resize,
        ]
        tool = str(Path(sys.executable).with_name("vqbet-course"))
        result["training"] = watched(tool, "train", *train, "--out", str(work / "run"))
        result["training"]["command"] = result["training"]["command"].replace(folder, "FOLDER")
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print({key: value for key, value in result.items() if key in ("ours", "lerobot", "ratio")})
    print(f"a training on {result['frames']} frames: {result['training']['anonymous_gb']:.2f} GB of anonymous memory")


if __name__ == "__main__":
    main()
