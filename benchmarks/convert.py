"""How long does it take to write demonstrations as a LeRobotDataset? Our writer against LeRobot's own.

    python benchmarks/convert.py
    python benchmarks/convert.py --data pusht_human_lowdim.npz --name convert_human

The same frames, numbers only, each written once. Times are CPU seconds of this process. Writes results/NAME.json.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from vqbet_course.core.records import made_by
from vqbet_course.datasets.source import Source
from vqbet_course.datasets.writer import write_dataset
from vqbet_course.tasks import open_source

RESULTS = Path(__file__).parent / "results"


def write_with_lerobot(source: Source, out: Path) -> None:
    """The same by LeRobot's own class, frame by frame, as its documentation does."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    first = next(source.episodes()).numbers
    features = {name: {"dtype": "float32", "shape": values.shape[1:], "names": None} for name, values in first.items()}
    dataset = LeRobotDataset.create("local/benchmark", int(source.rate), features, root=out, use_videos=False)
    for episode in source.episodes():
        for i in range(len(episode)):
            numbers = {name: values[i].astype("float32") for name, values in episode.numbers.items()}
            dataset.add_frame(numbers | {"task": source.task})
        dataset.save_episode()
    dataset.finalize()


def cpu_seconds(write: Callable[[Source, Path], object], data: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        write(open_source(data), Path(folder) / "out")
        return time.process_time() - start


@click.command()
@click.option("--data", default="demo", show_default=True, metavar="SOURCE")
@click.option("--name", default="convert", show_default=True, help="What the result is called.")
def main(data: str, name: str) -> None:
    import lerobot.datasets.lerobot_dataset  # noqa: F401  its import is not counted

    source = open_source(data)
    ours = cpu_seconds(lambda source, out: write_dataset(source, out, quiet=True), data)
    theirs = cpu_seconds(write_with_lerobot, data)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "seed": 0,
        "made_by": made_by(),
        "episodes": source.n_episodes,
        "cpu_seconds": {"ours": ours, "lerobot": theirs},
        "ratio": ours / theirs,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{source.n_episodes} episodes: ours {ours:.1f} s, LeRobot's writer {theirs:.1f} s, ratio {ours / theirs:.2f}"
    )


if __name__ == "__main__":
    main()
