"""One door for demonstrations: whatever lies behind a SOURCE is opened as a `Source` of episodes.

Each kind of source is a module of its own with `KIND`, what it is called; `accepts(path)`, whether a path is one;
and `open_source(path, choice)`. To add a kind, write its module and name it here.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np

import vqbet_course
from vqbet_course.core.errors import BadInput
from vqbet_course.core.units import with_stated
from vqbet_course.datasets.choice import Choice
from vqbet_course.datasets.source import Episode, Frames, Source, readable

KINDS = (
    "lerobot_dataset",
    "replay_zarr",
    "replay_npz",
    "robomimic_hdf5",
    "aloha_hdf5",
    "maniskill_hdf5",
    "episode_folders",
    "bet_npy",
    "ros2_bag",
    "gello_pickles",
)

DEMO_FOLDER = Path(vqbet_course.__file__).parent / "data" / "demos"


def open_as_stored(text: str, fps: float | None = None, choice: Choice | None = None) -> Source:
    """Open a SOURCE: `demo` (ships with the course), a path of one of the KINDS, or a dataset id on the hub, whose
    videos are fetched when the first frame is asked for.

    `fps`: frames a second, for sources that do not say; `choice`: what of it is taken, by default all.
    Features are those of the file; `tasks.open_source` turns them
    into those of the task that they are of. Raises BadInput for anything else.
    """
    choice = replace(choice or Choice(), fps=fps if fps is not None else choice.fps if choice else None)
    if choice.fps is not None and not 0 < choice.fps < 1e6:
        raise BadInput(f"{choice.fps:g} frames a second: give a number above 0")
    return choice.of(whole_source(text, choice))


def whole_source(text: str, choice: Choice) -> Source:
    """All of a SOURCE. Raises BadInput as `open_as_stored` does."""
    if text == "demo":
        return replace(open_path(DEMO_FOLDER, choice), path="demo")
    if Path(text).exists() and text:
        return replace(open_path(Path(text), choice), path=text)
    if Path(text).suffix or text.count("/") != 1 or text.startswith((".", "/")):
        raise BadInput(f"{text}: no such file or folder; give demo, a path, or an id on the hub, like name/dataset")
    return fetching_videos(open_path(download(text, videos=False), choice), text)


def fetching_videos(source: Source, repo_id: str) -> Source:
    """A source of the hub that fetches its videos when the first frame is asked for."""

    def fetched(frames: Frames) -> Frames:
        def later() -> Iterator[np.ndarray]:
            download(repo_id, videos=True)
            yield from frames()

        return later

    def read(start: int) -> Iterator[Episode]:
        for episode in source.read(start):
            yield replace(episode, images={name: fetched(frames) for name, frames in episode.images.items()})

    return replace(source, read=read, path=repo_id)


def with_units(source: Source, stated: Sequence[str]) -> Source:
    """A source with units that it does not state itself. Raises BadInput as `with_stated` does."""
    if not stated:
        return source
    return replace(source, units=with_stated(source.units, source.sizes, source.names, stated))


def open_path(path: Path, choice: Choice) -> Source:
    """Open what lies at a path, by the first of the KINDS that accepts it."""
    with readable(str(path)):
        kinds = [import_module(f"vqbet_course.datasets.readers.{name}") for name in KINDS]
        for kind in kinds:
            if kind.accepts(path):
                if choice.topics and not kind.__name__.endswith(".ros2_bag"):
                    raise BadInput(f"{path}: is a {kind.KIND}, and --topics chooses of a ROS 2 bag; leave --topics out")
                return kind.open_source(path, choice)
    raise BadInput(
        f"{path}: is none of {', '.join(kind.KIND for kind in kinds)} (a LeRobotDataset has a meta/info.json)"
    )


@functools.cache
def download(repo_id: str, videos: bool) -> Path:
    """A dataset of the LeRobot hub, cached by huggingface_hub, and then usable offline."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id, repo_type="dataset", ignore_patterns=None if videos else ["videos/*"]))
    except Exception as error:  # offline, unknown, private: the library has a class for each
        raise BadInput(
            f"{repo_id}: no such file, and the hub did not give it "
            f"({type(error).__name__}); check the name and the network"
        ) from None
