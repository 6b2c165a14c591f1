"""Lesson 07: demonstrations."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqbet_course.demos import Demos, Normalizer
from vqbet_course.grading.checks import Check, Misconception, integers, normal
from vqbet_course.grading.runner import refuses, several


class MinMax(Check):
    """Exercise 7.1: `Normalizer`."""

    id = "7.1"
    answer = "Normalizer"
    blank = ("fit", "normalize", "unnormalize")
    hint = (
        "One lowest and one highest value per number, over all frames. A number that never changes must "
        "not divide by 0."
    )
    misconceptions = [
        Misconception(
            "0..1 instead of -1..1",
            {
                "return 2 * (values - low) / span_of(low, high) - 1": "return (values - low) / span_of(low, high)",
            },
            "Where do the lowest and the highest value go? The docstring says where they should.",
        ),
        Misconception(
            "0..1 there and back",
            {
                "return 2 * (values - low) / span_of(low, high) - 1": "return (values - low) / span_of(low, high)",
                "return (values + 1) / 2 * (high - low) + low": "return values * (high - low) + low",
            },
            "Where do the lowest and the highest value go? The docstring says where they should.",
        ),
        Misconception(
            "one range for all numbers",
            {
                "torch.from_numpy(v.min(0)), torch.from_numpy(v.max(0))": "torch.full((v.shape[1],), v.min().item()), torch.full((v.shape[1],), v.max().item())",
            },
            "x and y have ranges of their own.",
        ),
        Misconception(
            "division by zero",
            {"span_of(low, high)": "(high - low)"},
            "What happens to a number that is the same in every frame?",
        ),
        Misconception(
            "cut off at the bounds",
            {
                "return 2 * (values - low) / span_of(low, high) - 1": "return (2 * (values - low) / span_of(low, high) - 1).clamp(-1, 1)",
            },
            "A place outside of what was demonstrated is still a place. Does the way back find it?",
        ),
        Misconception(
            "bounds of the actions alone",
            {
                "np.concatenate([demos.action, state])": "demos.action",
            },
            "When chunks are told from the state, actions and state must share their bounds.",
        ),
        Misconception(
            "the way back is not the way back",
            {
                "return (values + 1) / 2 * (high - low) + low": "return values / 2 * (high - low) + low",
            },
            "normalize, then unnormalize: you should be where you began.",
        ),
        Misconception(
            "mean and deviation instead of bounds",
            {
                "torch.from_numpy(v.min(0)), torch.from_numpy(v.max(0))": "torch.from_numpy(v.mean(0) - v.std(0)), torch.from_numpy(v.mean(0) + v.std(0))",
            },
            "Min-max: nothing of the demonstrations may lie outside -1..1.",
        ),
        Misconception(
            "bounds of their own, always", {"if relative:": "if False:"}, "What does the argument `relative` change?"
        ),
        Misconception(
            "bounds of pictures, too",
            {" if values.ndim == 2": ""},
            "A picture is no row of numbers. The docstring says what happens to it.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"state": 50 * normal(g, 20, 2) + 200, "action": 80 * normal(g, 20, 2) + 300, "values": normal(g, 5, 2)}

    @staticmethod
    def probe(answer: Any, state: Tensor, action: Tensor, values: Tensor) -> dict[str, Any]:
        still = torch.full((20, 1), 7.0)
        demos = Demos(
            {
                "observation.state": state.numpy(),
                "observation.still": still.numpy(),
                "observation.image": np.zeros((20, 3, 2, 2), dtype=np.uint8),
            },
            action.numpy(),
            np.array([8, 20]),
            10.0,
            "drawn",
        )
        outputs: dict[str, Any] = {}
        for name, normalizer in [("", answer.fit(demos)), (", relative", answer.fit(demos, relative=True))]:
            outputs |= {
                f"normalized state{name}": normalizer.normalize("observation.state", state),
                f"normalized action{name}": normalizer.normalize("action", action),
                f"normalized action from afar{name}": normalizer.normalize("action", 500 * values),
                f"unnormalized{name}": normalizer.unnormalize("action", values),
            }
        return outputs | {
            "a number that never changes": normalizer.normalize("observation.still", still),
            "what has no bounds": normalizer.normalize("observation.sound", values),
            "names with bounds": len(normalizer.bounds),
        }


class Rows(Check):
    """Exercise 7.2: `episode_rows`."""

    id = "7.2"
    answer = "episode_rows"
    tolerance = 0.0
    hint = "Write the rows of an episode of six frames on paper. Which frame is the last whose chunk is complete?"
    misconceptions = [
        Misconception(
            "windows cross the end of the episode",
            {
                "n = max(0, end - start - reach + 1)": "n = max(0, end - start)",
            },
            "The chunk of the last frame would need actions of the next episode.",
        ),
        Misconception(
            "the last action repeats",
            {
                "n = max(0, end - start - reach + 1)": "n = max(0, end - start)",
                "np.maximum(done, start)": "np.clip(done, start, end - 1)",
            },
            "What was demonstrated after the end of the episode? Certainly not standing still.",
        ),
        Misconception(
            "one window too few",
            {"end - start - reach + 1": "end - start - reach"},
            "Count: in an episode that is just as long as a window, how many windows are there?",
        ),
        Misconception(
            "windows reach back into the episode before",
            {"np.maximum(seen, start)": "seen"},
            "What does a window show before the first frame of an episode?",
        ),
        Misconception(
            "chunks reach back into the episode before",
            {"np.maximum(done, start)": "done"},
            "What was done before the first frame of an episode? Nothing was recorded.",
        ),
        Misconception(
            "future observations",
            {"np.arange(1 - n_obs_steps, 1)": "np.arange(n_obs_steps)"},
            "A policy has seen the past and the present.",
        ),
        Misconception(
            "chunks start at the present for all queries",
            {
                "asked = np.arange(n)[:, None] + np.arange(n_queries)": "asked = np.arange(n)[:, None] + 0 * np.arange(n_queries)",
            },
            "Each query of a window asks for the chunk of its own step.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        start = integers(g, 5, 30)
        return {
            "start": start,
            "end": start + integers(g, 9, 15),
            "n_obs_steps": integers(g, 2, 4),
            "extra": integers(g, 0, 3),
            "chunk_size": integers(g, 1, 5),
        }

    @staticmethod
    def probe(
        answer: Any, start: Tensor, end: Tensor, n_obs_steps: Tensor, extra: Tensor, chunk_size: Tensor
    ) -> dict[str, Any]:
        T, Q = int(n_obs_steps), int(n_obs_steps + extra)
        seen, done, asked = several(answer(int(start), int(end), T, Q, int(chunk_size)), 3)
        short = answer(int(start), int(start) + 1, T, Q, int(chunk_size))
        return {
            "observation rows": seen,
            "chunk rows": done,
            "chunks of the queries": asked,
            "observation rows for chunks of one action": answer(int(start), int(end), T, T, 1)[0],
            "windows of an episode that is too short": len(short[0]),
        }


class AllWindows(Check):
    """Exercise 7.3: `make_windows`."""

    id = "7.3"
    answer = "make_windows"
    hint = "Episode by episode, `episode_rows`; then everything side by side. Whose numbers have to be shifted?"
    misconceptions = [
        Misconception(
            "chunk numbers start anew in each episode",
            {
                "asked + n_chunks": "asked",
            },
            "The chunks of all episodes lie in one array. Which one is the first of the second episode?",
        ),
        Misconception(
            "all frames as one episode",
            {
                "zip(demos.episode_starts, demos.episode_ends, strict=True)": "[(0, len(demos.action))]",
            },
            "A window must never cross from one episode into the next.",
        ),
        Misconception(
            "actions not normalised",
            {
                'normalised.pop("action")[chunk_rows]': "torch.from_numpy(demos.action)[chunk_rows]",
            },
            "Windows hold what a network reads and writes: which numbers are those?",
        ),
        Misconception(
            "told from the chunk's last frame",
            {"chunk_rows[:, :1]": "chunk_rows[:, -1:]"},
            "When the policy acts, where is the robot as the chunk begins?",
        ),
        Misconception(
            "each action told from its own frame",
            {"chunk_rows[:, :1]": "chunk_rows"},
            "A policy knows only where the robot is now, not where it will be.",
        ),
        Misconception("always absolute", {"if relative:": "if False:"}, "What does the argument `relative` change?"),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        frames = int(integers(g, 20, 26))
        return {"state": normal(g, frames, 2), "action": normal(g, frames, 2), "middle": integers(g, 6, 8)}

    @staticmethod
    def probe(answer: Any, state: Tensor, action: Tensor, middle: Tensor) -> dict[str, Any]:
        ends = np.array([int(middle), int(middle) + 6, len(state)])
        demos = Demos({"observation.state": state.numpy()}, action.numpy(), ends, 10.0, "drawn")
        normalizer = Normalizer(
            {
                "observation.state": (torch.tensor([-2.0, -3.0]), torch.tensor([3.0, 2.0])),
                "action": (torch.tensor([-2.0, -3.0]), torch.tensor([3.0, 2.0])),
            }
        )
        outputs: dict[str, Any] = {}
        for name, relative in [("", False), (", relative", True)]:
            windows = answer(demos, normalizer, 2, 3, 4, relative)
            outputs |= {
                f"observation{name}": windows.observation["observation.state"],
                f"observation_index{name}": windows.observation_index,
                f"chunks{name}": windows.chunks,
                f"chunk_index{name}": windows.chunk_index,
            }
        short = Demos(demos.observation, demos.action, np.array([1, len(state)]), 10.0, "drawn")
        refused = refuses(lambda: answer(short, normalizer, 2, 3, 4))
        return outputs | {"an episode that is too short is refused": refused}


class MirrorImages(Check):
    """Exercise 7.4: `with_mirror_images`."""

    id = "7.4"
    answer = "with_mirror_images"
    hint = (
        "Everything is points side by side, (N, P, 2). Reflect each, put them into their order, and put the result "
        "behind what was there. The episodes of the second half end later."
    )
    misconceptions = [
        Misconception(
            "actions not mirrored",
            {
                "mirror(name, values)])": 'values if name == "action" else mirror(name, values)])',
            },
            "In the mirror the robot has to go to the mirrored place.",
        ),
        Misconception(
            "points not put into their order",
            {
                "points[:, order.get(name, slice(None))]": "points",
            },
            "In a mirror left and right change places: which corner is the first one then?",
        ),
        Misconception(
            "order read backwards",
            {
                "order.get(name, slice(None))": "np.argsort(order[name]) if name in order else slice(None)",
            },
            "`order` says which reflected point comes first, not where the first one goes.",
        ),
        Misconception(
            "onto the line instead of across it",
            {"points - 2 *": "points -"},
            "How far behind the mirror does a point appear that stands 1 px in front of it?",
        ),
        Misconception(
            "normal of length 1 assumed",
            {" / (n @ n)": ""},
            "The normal (2, 2) describes the same line as (1, 1), with twice the c.",
        ),
        Misconception(
            "mirror images first",
            {
                "np.concatenate([values, mirror(name, values)])": "np.concatenate([mirror(name, values), values])",
            },
            "The docstring says which half comes first.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {name: 256 + 90 * normal(g, 9, size) for name, size in (("corners", 6), ("robot", 2), ("action", 2))}

    @staticmethod
    def probe(answer: Any, corners: Tensor, robot: Tensor, action: Tensor) -> dict[str, Any]:
        demos = Demos(
            {"observation.environment_state": corners.numpy(), "observation.state": robot.numpy()},
            action.numpy(),
            np.array([4, 9]),
            10.0,
            "drawn",
        )
        order = {"observation.environment_state": np.array([1, 2, 0])}
        both, steep = answer(demos, (1.0, 1.0), 512.0, order), answer(demos, (2.0, -1.0), 100.0, order)
        odd = Demos({"observation.state": corners[:, :3].numpy()}, action.numpy(), np.array([9]), 10.0, "drawn")
        return {
            "action": both.action,
            "action, another line": steep.action,
            "episode_ends": both.episode_ends,
            "a column of three numbers is refused": refuses(lambda: answer(odd, (1.0, 1.0), 512.0, {})),
        } | both.observation
