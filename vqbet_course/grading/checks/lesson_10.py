"""Lesson 10: comparing."""

from typing import Any

import torch
from torch import Tensor

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.grading.checks import Check, Misconception, normal
from vqbet_course.grading.runner import parameter_gradients, set_parameters


class Cloning(Check):
    """Exercise 10.1: `BC`."""

    id = "10.1"
    answer = "BC"
    blank = ("forward", "loss")
    hint = (
        "Everything that was seen, in one row per window, in the order of the configuration. Which chunk is it to do?"
    )
    misconceptions = [
        Misconception(
            "the chunk of the first observation",
            {"chunks[:, -1]": "chunks[:, 0]"},
            "A window shows the past and the present. Which of its steps is now?",
        ),
        Misconception(
            "absolute instead of squared error",
            {"F.mse_loss(self(window)": "F.l1_loss(self(window)"},
            "The docstring of the class says which error it is: with it, the best single answer is the mean.",
        ),
        Misconception(
            "time and action exchanged",
            {
                "unflatten(1, self.shape)": "unflatten(1, self.shape[::-1]).transpose(1, 2)",
            },
            "The numbers of one action lie side by side.",
        ),
        Misconception(
            "the observations in the order in which they came",
            {
                "for name in self.names]": "for name in window]",
            },
            "Give the same window with its names in another order: may the answer change?",
        ),
        Misconception(
            "step after step",
            {
                "torch.cat([window[name].flatten(1) for name in self.names], dim=1)": "torch.cat([window[name] for name in self.names], dim=2).flatten(1)",
            },
            "What does the MLP read first: all names of a step, or all steps of a name? `forward` says it.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {
            "a": normal(g, 5, 3, 3),
            "b": normal(g, 5, 3, 2),
            "chunks": normal(g, 5, 3, 4, 2),
            "numbers": 0.3 * normal(g, 997),
        }

    @staticmethod
    def probe(answer: Any, a: Tensor, b: Tensor, chunks: Tensor, numbers: Tensor) -> dict[str, Any]:
        config = VQBeTConfig.laptop(
            observation_sizes={"a": 3, "b": 2}, n_obs_steps=3, action_chunk_size=4, use_relative_actions=False
        )
        policy = set_parameters(answer(config, width=6), numbers)
        loss = policy.loss({"a": a, "b": b}, chunks)
        return {
            "chunk": policy({"b": b, "a": a}),
            "loss": loss,
            "gradient of the loss at the parameters": parameter_gradients(loss, policy),
        }


class Bins(Check):
    """Exercise 10.2: `BeT`."""

    id = "10.2"
    answer = "BeT"
    blank = ("features", "decide", "loss")
    hint = (
        "The same in `decide` and `loss`: features, a bin, an offset. Only `loss` knows the true bin: whose is nearest?"
    )
    misconceptions = [
        Misconception(
            "no offset",
            {"Decision(decoded + offset,": "Decision(decoded,"},
            "With bins alone, how many different actions can the policy do?",
        ),
        Misconception(
            "decides for the first observation",
            {"self.features(window)[:, -1]": "self.features(window)[:, 0]"},
            "A window shows the past and the present. At which of its steps does the policy act?",
        ),
        Misconception(
            "one temperature fits all",
            {"features, uniform, self.temperature)": "features, uniform, 1.0)"},
            "Try another temperature: do the bins change?",
        ),
        Misconception(
            "always the likeliest bin",
            {
                "features, uniform, self.temperature)": "features, uniform, 0.0)",
            },
            "Bins are drawn: two generators should not always agree.",
        ),
        Misconception(
            "draws that no episode owns",
            {
                "draw_uniform(len(features), 1, self.generators)": "torch.rand(len(features), 1)",
            },
            "Each row has a generator of its own. What for?",
        ),
        Misconception(
            "plain cross-entropy",
            {"return focal_loss(": "return F.cross_entropy("},
            "Compare with the docstring of `loss`.",
        ),
        Misconception(
            "learns from the last step alone",
            {
                "self.features(window).flatten(0, 1), chunks.flatten(0, 2)": "self.features(window)[:, -1], chunks[:, -1, 0]",
            },
            "The GPT answers at every step of the window, and each answer can be wrong.",
        ),
        Misconception(
            "the offset is not weighted", {"+ 10 * F.mse_loss": "+ F.mse_loss"}, "Compare with the docstring of `loss`."
        ),
        Misconception(
            "the offset has to be the whole action",
            {
                "corrected = self.bins[codes] + offset": "corrected = offset",
            },
            "The offset is what the bin does not say.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {
            "seen": normal(g, 12, 3, 3),
            "chunks": normal(g, 12, 3, 1, 2),
            "bins": normal(g, 6, 2),
            "numbers": 0.3 * normal(g, 997),
        }

    @staticmethod
    def probe(answer: Any, seen: Tensor, chunks: Tensor, bins: Tensor, numbers: Tensor) -> dict[str, Any]:
        config = VQBeTConfig.laptop(
            observation_sizes={"a": 3}, n_obs_steps=3, action_chunk_size=1, n_action_steps=1, use_relative_actions=False
        )
        policy = set_parameters(answer(config, n_bins=6, width=8, n_layer=1, n_head=2, temperature=0.4), numbers)
        policy.bins = bins
        policy.reset([torch.Generator().manual_seed(seed) for seed in range(len(seen))])
        decision, loss = policy.decide({"a": seen}), policy.loss({"a": seen}, chunks)
        return {
            "actions": decision.actions,
            "codes": decision.codes,
            "decoded": decision.decoded,
            "offset": decision.offset,
            "logits": decision.logits,
            "loss": loss,
            "gradient of the loss at the parameters": parameter_gradients(loss, policy),
        }
