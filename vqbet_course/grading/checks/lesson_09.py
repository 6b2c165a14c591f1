"""Lesson 09: rollouts."""

from typing import Any

import torch
from torch import Tensor

from vqbet_course.demos import Normalizer
from vqbet_course.grading.checks import Check, Misconception, integers, normal


class Acting(Check):
    """Exercise 9.1: `act`."""

    id = "9.1"
    answer = "act"
    blank = ("act",)
    hint = "The policy lives in normalised numbers and the board in pixels: translate on the way in and on the way out."
    misconceptions = [
        Misconception(
            "observation not normalised",
            {"normalizer.normalize(name, values)": "values"},
            "In which numbers was the policy trained?",
        ),
        Misconception(
            "action not in pixels",
            {
                'normalizer.unnormalize("action", policy.select_action(normalised))': "policy.select_action(normalised)",
            },
            "What does the environment make of an action of 0.3?",
        ),
        Misconception(
            "actions leave the board", {".clamp(*bounds)": ""}, "How far out can the policy send the pusher?"
        ),
        Misconception(
            "always PushT's board",
            {".clamp(*bounds)": ".clamp(0, 512)"},
            "Another task has other bounds: try it with some.",
        ),
        Misconception(
            "the action normalised once more",
            {
                'normalizer.unnormalize("action"': 'normalizer.normalize("action"',
            },
            "Which of the two ways leads to pixels?",
        ),
        Misconception(
            "clamped before it is in pixels",
            {
                'normalizer.unnormalize("action", policy.select_action(normalised))': 'normalizer.unnormalize("action", policy.select_action(normalised).clamp(-1, 1))',
            },
            "The board ends at 0 and 512 pixels; the demonstrations ended elsewhere.",
        ),
        Misconception(
            "the way back of the pusher's place",
            {
                'normalizer.unnormalize("action"': 'normalizer.unnormalize("observation.state"',
            },
            "Whose bounds do actions have?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"keypoints": 256 + 90 * normal(g, 8, 16), "pusher": 256 + 90 * normal(g, 8, 2), "mix": normal(g, 18, 2)}

    @staticmethod
    def probe(answer: Any, keypoints: Tensor, pusher: Tensor, mix: Tensor) -> dict[str, Any]:
        class Linear:
            def select_action(self, observation: dict[str, Tensor]) -> Tensor:
                return torch.cat(list(observation.values()), 1) @ mix

        bounds = {"observation.environment_state": 16, "observation.state": 2}
        normalizer = Normalizer(
            {name: (torch.linspace(20, 60, size), torch.linspace(450, 500, size)) for name, size in bounds.items()}
            | {"action": (torch.tensor([5.0, 40.0]), torch.tensor([480.0, 510.0]))}
        )
        observation = {"observation.environment_state": keypoints, "observation.state": pusher}
        return {
            "actions": answer(Linear(), normalizer, observation),
            "the observation afterwards": torch.cat(list(observation.values()), dim=1),
            "actions within other bounds": answer(Linear(), normalizer, observation, (100.0, 200.0)),
        }


class Summary(Check):
    """Exercise 9.2: `Rollout`."""

    id = "9.2"
    answer = "Rollout"
    blank = ("summary",)
    hint = "Best and last are not the same. An episode of three steps has three coverages."
    misconceptions = [
        Misconception(
            "final coverage is the best one",
            {"self.coverage[-1]": "max(self.coverage)"},
            "A policy can push the T onto the goal, and off again.",
        ),
        Misconception(
            "best coverage is the last one",
            {"max(self.coverage)": "self.coverage[-1]"},
            "The best moment may have been an earlier one.",
        ),
        Misconception(
            "one step too few",
            {"len(self.coverage),": "len(self.coverage) - 1,"},
            "Count the steps of an episode that ends at once.",
        ),
        Misconception(
            "success judged at the end",
            {
                '"success": self.success': '"success": self.coverage[-1] > 0.95',
            },
            "The episode knows already whether it succeeded.",
        ),
        Misconception(
            "mean instead of best coverage",
            {
                "max(self.coverage)": "sum(self.coverage) / len(self.coverage)",
            },
            "How close did it come at its best moment?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        coverage = torch.rand(int(integers(g, 7, 12)), generator=g, dtype=torch.float64)
        return {"coverage": coverage, "seed": integers(g, 0, 10**6)}

    @staticmethod
    def probe(answer: Any, coverage: Tensor, seed: Tensor) -> dict[str, Any]:
        # the least likely order: the best moment is neither the first nor the last
        coverage[[coverage.argmax().item(), 1]] = coverage[[1, coverage.argmax().item()]]
        episode = answer(int(seed), True, coverage=coverage.tolist())
        said, failed = episode.summary(), answer(3, False, coverage=coverage.tolist()).summary()
        return {name: said[name] for name in ("seed", "success", "max_coverage", "final_coverage", "steps")} | {
            "success of an episode that failed": failed["success"]
        }
