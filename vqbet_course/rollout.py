import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor
from tqdm.auto import tqdm

from vqbet_course.contract import PUSHT, BadInput
from vqbet_course.demos import Normalizer
from vqbet_course.files import write_atomically, write_text
from vqbet_course.policy import VQBeTPolicy
from vqbet_course.train import Run

MAX_STEPS = 300
SUCCESS_COVERAGE = 0.95


def make_pusht() -> gym.Env:
    """PushT with keypoint observations; frames are drawn only when asked for."""
    import gym_pusht  # noqa: F401  registers the environment

    return gym.make("gym_pusht/PushT-v0", obs_type="environment_state_agent_pos", render_mode="rgb_array",
                    visualization_width=512, visualization_height=512, max_episode_steps=MAX_STEPS).unwrapped


@dataclass
class Episode:
    """One rollout: seed of the environment; per step the coverage (0..1), the action (A,) in pixels, the tokens
    (G,) in force and whether they were decided there; success: coverage above 0.95, which ends it."""

    seed: int
    success: bool = False
    coverage: list[float] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    tokens: list[tuple[int, ...]] = field(default_factory=list)
    decided: list[bool] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        return {"seed": self.seed, "success": self.success, "max_coverage": max(self.coverage),
                "final_coverage": self.coverage[-1], "steps": len(self.coverage)}


def observe(observations: Sequence[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """What B PushT environments show -> {name: (B, size)} in pixels."""
    names = {"observation.environment_state": "environment_state", "observation.state": "agent_pos"}
    return {name: torch.from_numpy(np.stack([o[key] for o in observations])).float() for name, key in names.items()}


def act(policy: VQBeTPolicy, normalizer: Normalizer, observation: dict[str, Tensor]) -> np.ndarray:
    """{name: (B, size)} in pixels -> actions (B, A) in pixels, inside the board."""
    normalised = {name: normalizer.normalize(name, values) for name, values in observation.items()}
    action = normalizer.unnormalize("action", policy.select_action(normalised))
    return action.clamp(0, 512).double().numpy()


def rollouts(policy: VQBeTPolicy, normalizer: Normalizer, seeds: Iterable[int], quiet: bool = True) -> list[Episode]:
    """One episode per environment seed, all stepped together. Each episode owns its draws: the result of one does
    not depend on the others, except through the size of the batch (the last bit of a matrix product)."""
    episodes = [Episode(int(seed)) for seed in seeds]
    envs = [make_pusht() for _ in episodes]
    seen = [env.reset(seed=e.seed)[0] for env, e in zip(envs, episodes, strict=True)]
    policy.eval()
    policy.reset([torch.Generator().manual_seed(e.seed) for e in episodes])
    running = list(range(len(episodes)))
    for _ in tqdm(range(MAX_STEPS), desc="rollouts", unit="step", disable=quiet):
        before = policy.decision
        actions = act(policy, normalizer, observe(seen))  # finished episodes ride along: the batch stays the same
        assert policy.decision is not None
        for i in running:
            seen[i], _, done, _, info = envs[i].step(actions[i])
            episodes[i].coverage.append(float(info["coverage"]))
            episodes[i].actions.append(actions[i])
            episodes[i].tokens.append(tuple(policy.decision.codes[i].tolist()))
            episodes[i].decided.append(policy.decision is not before)
            episodes[i].success = bool(done)
        running = [i for i in running if not episodes[i].success]
        if not running:
            break
    return episodes


def measures(episodes: list[Episode]) -> dict[str, Any]:
    """The figures of an evaluation: success with a Wilson 95 % interval, reward as LeRobot averages it (best
    coverage / 0.95, clipped to 1), best and final coverage as the paper reports them."""
    best = np.array([max(e.coverage) for e in episodes])
    wins = sum(e.success for e in episodes)
    interval = binomtest(wins, len(episodes)).proportion_ci(method="wilson")
    return {
        "episodes": len(episodes),
        "success_rate": wins / len(episodes),
        "success_ci95": [interval.low, interval.high],
        "avg_max_reward": float(np.clip(best / SUCCESS_COVERAGE, 0, 1).mean()),
        "avg_max_coverage": float(best.mean()),
        "avg_final_coverage": float(np.mean([e.coverage[-1] for e in episodes])),
    }


def describe(metrics: dict[str, Any]) -> str:
    """The figures of `measures` in one line."""
    low, high = metrics["success_ci95"]
    return (f"{metrics['episodes']} episodes: success {metrics['success_rate']:.0%} (95 % interval {low:.0%} to "
            f"{high:.0%}), average max reward {metrics['avg_max_reward']:.3f}, average max coverage "
            f"{metrics['avg_max_coverage']:.3f}, average final coverage {metrics['avg_final_coverage']:.3f}")


def latency(policy: VQBeTPolicy, normalizer: Normalizer, seed: int, decisions: int = 100) -> dict[str, float]:
    """Milliseconds from observation to action when a decision is due: one environment, one thread, p50 and p95."""
    env = make_pusht()
    seen = observe([env.reset(seed=seed)[0]])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spent = []
    for i in range(decisions + 5):
        policy.reset([torch.Generator().manual_seed(i)])
        start = time.perf_counter()
        act(policy, normalizer, seen)
        spent.append(1000 * (time.perf_counter() - start))
    torch.set_num_threads(threads)
    p50, p95 = np.percentile(spent[5:], [50, 95])  # the first few warm the caches
    return {"p50": float(p50), "p95": float(p95)}


def frames(episode: Episode) -> Iterable[np.ndarray]:
    """An episode played again from its actions, drawn: (H, W, 3) uint8, one frame per step."""
    env = make_pusht()
    env.reset(seed=episode.seed)
    for step, action in enumerate(episode.actions):
        env.step(action)
        yield draw_frame(env.render(), episode, step)


def draw_frame(board: np.ndarray, episode: Episode, step: int) -> np.ndarray:
    """The board (512, 512, 3), below it the tokens spoken so far and the coverage -> (608, 512, 3) uint8."""
    from matplotlib import colormaps
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (512, 608), "white")
    image.paste(Image.fromarray(board))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    said = [tokens for tokens, new in zip(episode.tokens[:step + 1], episode.decided, strict=False) if new]
    for slot, tokens in enumerate(said[-10:]):
        for row, code in enumerate(tokens[:2]):
            red, green, blue, _ = colormaps["viridis"](code / 15, bytes=True)
            box = (8 + 50 * slot, 518 + 28 * row, 54 + 50 * slot, 542 + 28 * row)
            draw.rounded_rectangle(box, 5, fill=(red, green, blue))
            ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "white"
            draw.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), str(code), ink, font, anchor="mm")
    draw.rectangle((8, 580, 504, 600), outline="black")
    draw.rectangle((8, 580, 8 + 496 * min(1.0, episode.coverage[step]), 600), fill="#009e73")
    draw.text((14, 590), f"coverage {episode.coverage[step]:.2f}", "black", font, anchor="lm")
    return np.asarray(image)


def write_film(path: Path, pictures: Iterable[np.ndarray], fps: int = 10) -> None:
    """An H.264 film of (H, W, 3) uint8 pictures, written whole or not at all."""
    import av

    def encode(partial: Path) -> None:
        with av.open(str(partial), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "26"})
            for picture in pictures:
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            container.mux(stream.encode())

    write_atomically(path, encode)


def evaluate(run: Run, episodes: int = 50, seed: int = 100_000, out: Path | None = None, videos: int = 3,
             quiet: bool = False) -> dict[str, Any]:
    """Roll a trained policy out on environment seeds seed, seed + 1, ...; write run.json and films of the first
    episodes into `out` (RUN/eval/seed-SEED unless given). Returns what run.json holds."""
    if episodes < 1 or videos < 0 or seed < 0:
        raise BadInput("episodes must be at least 1, videos and seed at least 0")
    differs = run.contract.difference(PUSHT)
    if differs:
        raise BadInput(f"{run.path}: trained on other data than PushT gives; {differs}")
    out = Path(out) if out else run.path / "eval" / f"seed-{seed}"
    played = rollouts(run.policy, run.normalizer, range(seed, seed + episodes), quiet)
    result = {
        "schema": "vqbet_course/run/1",
        "config": run.policy.config.to_dict(),
        "data": run.plan.data,
        "training": asdict(run.plan),
        "seed": seed,
        "metrics": measures(played) | {"latency_ms": latency(run.policy, run.normalizer, seed)},
        "episodes": [e.summary() for e in played],
        "made_by": {"command": ["vqbet-course", *sys.argv[1:]], "threads": torch.get_num_threads(),
                    "cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version(),
                    **{name: version(name) for name in ("torch", "gym-pusht", "pymunk")}},
    }
    write_text(out / "run.json", json.dumps(result, indent=2) + "\n")
    for episode in tqdm(played[:videos], desc="films", disable=quiet or not videos):
        write_film(out / f"episode-{episode.seed}.mp4", frames(episode))
    return result
