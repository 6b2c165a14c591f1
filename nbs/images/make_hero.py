"""Make nbs/images/hero.gif, the film of the front page, from the policy that ships with the course.

    .venv/bin/python nbs/images/make_hero.py

It plays environment seeds from 100000 on and shows the first three that are solved, at twice real speed.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from vqbet_course.core.io import write_atomically
from vqbet_course.evaluation.videos import video_frames
from vqbet_course.rollout import Rollout, rollouts
from vqbet_course.training.runs import load_run

HERO = Path(__file__).with_name("hero.gif")
SIZE = (256, 320)  # width and height of one film, in pixels
PAUSE = 12  # frames that the end is held


def solved_films(n: int) -> Iterator[Rollout]:
    """The first n episodes that the shipped policy solves, played ten at a time."""
    run = load_run("shipped")
    tens = (rollouts(run.policy, run.normalizer, range(seed, seed + 10)) for seed in range(100_000, 100_100, 10))
    return islice((episode for played in tens for episode in played if episode.success), n)


def small(episode: Rollout) -> list[Image.Image]:
    """Every second frame of an episode, and its last, reduced to SIZE."""
    last = len(episode.actions) - 1
    kept = (picture for step, picture in enumerate(video_frames(episode)) if step % 2 == 0 or step == last)
    return [Image.fromarray(picture).resize(SIZE, Image.Resampling.LANCZOS) for picture in kept]


def side_by_side(films: list[list[Image.Image]]) -> list[Image.Image]:
    """Films in a row; one that is over holds its last frame. All share one palette."""
    length = max(map(len, films)) + PAUSE
    rows = [Image.fromarray(np.hstack([film[min(i, len(film) - 1)] for film in films])) for i in range(length)]
    palette = Image.fromarray(np.vstack(rows[::20])).quantize(128)
    return [row.quantize(palette=palette, dither=Image.Dither.NONE) for row in rows]


def main() -> None:
    pictures = side_by_side([small(episode) for episode in solved_films(3)])
    write_atomically(
        HERO,
        lambda path: pictures[0].save(
            path, format="GIF", save_all=True, append_images=pictures[1:], duration=100, loop=0, optimize=True
        ),
    )
    print(f"{HERO}: {len(pictures)} frames, {HERO.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
