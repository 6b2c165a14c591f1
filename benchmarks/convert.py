"""How long does it take to write demonstrations as a LeRobotDataset? Our writer against LeRobot's own.

    python benchmarks/convert.py
    python benchmarks/convert.py --data pusht_human_lowdim.npz --name convert_human
    python benchmarks/convert.py --images 2x120x160 --name convert_images
    python benchmarks/convert.py --images 2x120x160 --videos --name convert_videos

The same frames, each written once by either, in one run; `--images` makes them: cameras of that height and width, with
the states of SOURCE. Times are CPU seconds of this process and its threads. Writes results/NAME.json.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np

from vqbet_course.core.io import write_json
from vqbet_course.core.records import made_by
from vqbet_course.datasets.choice import height_and_width, only_episodes
from vqbet_course.datasets.source import Episode, Source
from vqbet_course.datasets.writer import write_dataset
from vqbet_course.tasks import open_source

RESULTS = Path(__file__).parent / "results"


def write_with_lerobot(source: Source, out: Path, videos: bool) -> None:
    """The same by LeRobot's own class, frame by frame, as its documentation does."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    numbers = source.first.numbers
    features = {
        name: {"dtype": "float32", "shape": values.shape[1:], "names": None} for name, values in numbers.items()
    }
    for name, size in source.image_sizes.items():
        names = ["height", "width", "channels"]
        features[name] = {"dtype": "video" if videos else "image", "shape": size, "names": names}
    dataset = LeRobotDataset.create("local/benchmark", int(source.rate), features, root=out, use_videos=videos)
    for episode in source.episodes():
        images = {name: frames() for name, frames in episode.images.items()}
        for i in range(len(episode)):
            frame = {name: values[i].astype("float32") for name, values in episode.numbers.items()}
            frame |= {name: next(frames) for name, frames in images.items()}
            dataset.add_frame(frame | {"task": source.task})
        dataset.save_episode()
    dataset.finalize()


def moving_square(height: int, width: int, n: int, seed: int) -> Iterator[np.ndarray]:
    """n frames (height, width, 3) of a square that moves over a background with noise, like a camera's."""
    draw = np.random.default_rng(seed)
    background = draw.integers(90, 110, (height, width, 3), dtype=np.uint8)
    for i in range(n):
        frame = background + draw.integers(0, 6, (height, width, 3), dtype=np.uint8)
        left = i * (width - 16) // n
        frame[height // 2 : height // 2 + 16, left : left + 16] = (200, 30, 30)
        yield frame


def with_cameras(source: Source, cameras: int, height: int, width: int) -> Source:
    """A source whose episodes are also seen by so many cameras."""
    names = [f"observation.images.camera_{i}" for i in range(cameras)]

    def read(start: int) -> Iterator[Episode]:
        for number, episode in enumerate(source.read(start), start):
            frames = {
                name: partial(moving_square, height, width, len(episode), 100 * number + i)
                for i, name in enumerate(names)
            }
            yield replace(episode, images=frames)

    return replace(source, read=read, image_sizes=dict.fromkeys(names, (height, width, 3)))


def cpu_seconds(write: Callable[[Source, Path], object], source: Source) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        write(source, Path(folder) / "out")
        return time.process_time() - start


@click.command()
@click.option("--data", default="demo", show_default=True, metavar="SOURCE")
@click.option("--images", metavar="NxHxW", help="Also write images of N cameras of this height and width.")
@click.option("--videos", is_flag=True, help="Images as MP4 instead of PNG, by both.")
@click.option("--episodes", type=int, help="Only the first episodes.  [default: all]")
@click.option("--name", default="convert", show_default=True, help="What the result is called.")
def main(data: str, images: str | None, videos: bool, episodes: int | None, name: str) -> None:
    import lerobot.datasets.lerobot_dataset  # noqa: F401  its import is not counted

    source = open_source(data)
    if episodes is not None:
        source = only_episodes(source, range(min(episodes, source.n_episodes)))
    if images is not None:
        cameras, _, size = images.partition("x")
        if not cameras.isdecimal() or (shape := height_and_width(size)) is None:
            raise click.UsageError(f"--images {images}: give cameras x height x width, like 2x120x160")
        source = with_cameras(source, int(cameras), *shape)
    ours = cpu_seconds(lambda source, out: write_dataset(source, out, quiet=True, videos=videos), source)
    theirs = cpu_seconds(lambda source, out: write_with_lerobot(source, out, videos), source)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "seed": 0,
        "made_by": made_by(),
        "episodes": source.n_episodes,
        "images": {name: list(size) for name, size in source.image_sizes.items()},
        "videos": videos,
        "cpu_seconds": {"ours": ours, "lerobot": theirs},
        "ratio": ours / theirs,
    }
    write_json(RESULTS / f"{name}.json", result)
    print(
        f"{source.n_episodes} episodes: ours {ours:.1f} s, LeRobot's writer {theirs:.1f} s, ratio {ours / theirs:.2f}"
    )


if __name__ == "__main__":
    main()
