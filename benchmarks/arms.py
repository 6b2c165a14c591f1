"""The picture that opens lesson 16: the shipped policies of block_push and of ALOHA's transfer at work, side by side.

    python benchmarks/arms.py

It needs MuJoCo and what it renders with. The picture goes to nbs/images/arms.gif.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from vqbet_course.rollout import rollouts
from vqbet_course.tasks import get_task
from vqbet_course.tasks.task import Task
from vqbet_course.training.runs import load_run

PICTURE = Path(__file__).parents[1] / "nbs" / "images" / "arms.gif"
FRAMES, SIZE, FRAME_MS, LAST_MS = 40, 256, 120, 1500
SEEDS = {"block_push": 100_001, "aloha-transfer": 100_000}


def rendered(task: Task, seed: int) -> list[Image.Image]:
    """A rollout of a task's shipped policy as FRAMES pictures, evenly spaced in time."""
    run = load_run(f"shipped-{task.name}")
    (episode,) = rollouts(run.policy, run.normalizer, [seed], task)
    assert episode.success, f"{task.name}: the policy does not succeed from environment seed {seed}"
    shown = {round(step) for step in np.linspace(0, len(episode.actions) - 1, FRAMES)}
    env = task.make_env()
    env.reset(seed=seed)
    pictures = []
    for step, action in enumerate(episode.actions):
        env.step(action)
        if step in shown:
            pictures.append(Image.fromarray(np.asarray(env.render())).resize((SIZE, SIZE)))
    return pictures


def main() -> None:
    """Draw the picture."""
    frames = []
    for left, right in zip(*(rendered(get_task(name), seed) for name, seed in SEEDS.items()), strict=True):
        frame = Image.new("RGB", (2 * SIZE, SIZE))
        frame.paste(left, (0, 0))
        frame.paste(right, (SIZE, 0))
        frames.append(frame.quantize(64, dither=Image.Dither.NONE))
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    frames[0].save(PICTURE, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)


if __name__ == "__main__":
    main()
