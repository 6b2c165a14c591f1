"""Make nbs/images/arms.gif, the film of lesson 16, from the policies of block_push and ALOHA's transfer that come with the
course.

    .venv/bin/python nbs/images/make_arms.py        ALOHA is rendered (libegl1 or libosmesa6), block_push is drawn

It plays environment seeds from 100000 on, and shows the first of each task that is solved, both in as many frames.
"""

from pathlib import Path

import numpy as np
from make_hero import side_by_side
from PIL import Image

from vqbet_course.core.io import write_atomically
from vqbet_course.rollout import rollouts
from vqbet_course.tasks import get_task
from vqbet_course.training.runs import load_run

ARMS = Path(__file__).with_name("arms.gif")
SIDE, FRAMES, MILLISECONDS = 256, 40, 120


def frames_of(name: str) -> list[Image.Image]:
    """FRAMES moments of the first episode that a task's policy solves, from its start to its end."""
    run, task = load_run(f"shipped-{name}"), get_task(name)
    played = (rollouts(run.policy, run.normalizer, [seed], task)[0] for seed in range(100_000, 100_100))
    episode = next(episode for episode in played if episode.success)
    env = task.make_env()
    env.reset(seed=episode.seed)
    shown = {round(step) for step in np.linspace(1, len(episode.actions), FRAMES)}
    frames = []
    for step, action in enumerate(episode.actions, 1):
        env.step(action)
        if step in shown:
            frames.append(Image.fromarray(np.asarray(env.render())).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return frames


def main() -> None:
    """Write the film."""
    frames = side_by_side([frames_of(name) for name in ("block_push", "aloha-transfer")])
    rest = {"append_images": frames[1:], "duration": MILLISECONDS, "loop": 0, "optimize": True}
    write_atomically(ARMS, lambda path: frames[0].save(path, format="GIF", save_all=True, **rest))
    print(f"{ARMS}: {len(frames)} frames, {ARMS.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
