"""Lesson 11: goals."""

from typing import Any

import torch
from torch import Tensor

from vqbet_course.core.specs import GOAL
from vqbet_course.grading.checks import Check, Misconception, integers, normal
from vqbet_course.grading.runner import gradients, parameter_gradients, set_parameters


class GoalTokens(Check):
    """Exercise 11.1: `GoalEncoder`."""

    id = "11.1"
    answer = "GoalEncoder"
    blank = ("forward",)
    hint = "The goals of a step stand side by side in one row. Which step's do you need, and where does each begin?"
    misconceptions = [
        Misconception(
            "the goals of the first step",
            {"observation[GOAL][:, -1]": "observation[GOAL][:, 0]"},
            "A window shows the past and the present. Of which step are the goals that hold now?",
        ),
        Misconception(
            "tokens of every step",
            {"observation[GOAL][:, -1]": "observation[GOAL]"},
            "Goals stand once, in front of the window. How many axes does the result have?",
        ),
        Misconception(
            "numbers of different goals in one token",
            {".unflatten(-1, self.shape)": ".unflatten(-1, self.shape[::-1]).transpose(1, 2)"},
            "The numbers of one goal lie side by side. Write down a row of two goals with three numbers each.",
        ),
        Misconception(
            "one token for all goals",
            {"self.shape))": "self.shape)).mean(1, keepdim=True)"},
            "Two goals in another order are another instruction: can a policy tell it from the mean?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"goals": normal(g, 5, 4, 6), "numbers": normal(g, 37)}

    @staticmethod
    def probe(answer: Any, goals: Tensor, numbers: Tensor) -> dict[str, Any]:
        encoder = set_parameters(answer((2, 3), 8), numbers)
        at = goals.clone().requires_grad_()
        tokens = encoder({GOAL: at})
        return {
            "tokens": tokens,
            "gradient at the goals": gradients(tokens, at)[0],
            "gradient at the parameters": parameter_gradients(tokens, encoder),
        }


class GoalRows(Check):
    """Exercise 11.2: `goal_rows`."""

    id = "11.2"
    answer = "goal_rows"
    tolerance = 0.0
    hint = "Write down the frames of an episode from 10 to 16. Which may be goals of frame 12, and of frame 16?"
    misconceptions = [
        Misconception(
            "the frame at hand as its own goal",
            {"now + 1 + (uniform * (last - now)).long()": "now + (uniform * (last - now + 1)).long()"},
            "A goal that is reached already teaches nothing: which is the first frame that can be one?",
        ),
        Misconception(
            "beyond the end of the episode",
            {
                "torch.minimum(now + 1 + (uniform * (last - now)).long(), last)": "(now + 1 + (uniform * (last - now)).long())"
            },
            "Which frame comes after the last one?",
        ),
        Misconception(
            "goals that lie in the past",
            {"now + 1 + (uniform * (last - now)).long()": "first + (uniform * (last - first + 1)).long()"},
            "The demonstrated actions led to what came later.",
        ),
        Misconception(
            "the first frame for the last",
            {"rows = last[:, None]": "rows = first[:, None]"},
            "Where does a demonstration arrive?",
        ),
        Misconception(
            "shares that begin at the start",
            {"torch.arange(1, n + 1, device=now.device) / n": "torch.arange(n, device=now.device) / n"},
            "The last goal of a sequence is where the episode ends.",
        ),
        Misconception(
            "shares of the frames' numbers",
            {"first[:, None] + share * (last - first)[:, None]": "share * last[:, None]"},
            "Half way through an episode from 100 to 120: which frame is that?",
        ),
        Misconception(
            "shares of what is left",
            {"first[:, None] + share * (last - first)[:, None]": "now[:, None] + share * (last - now)[:, None]"},
            "A route is one for the whole episode: does yours change with the frame at hand?",
        ),
        Misconception("cut off instead of rounded", {".round().long()": ".long()"}, "Which frame is nearest to 6.67?"),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        first = integers(g, 5, 300, 12)
        length = 2 * integers(g, 4, 12, 12)  # an even one has a frame half way
        now = first + (torch.rand(12, generator=g) * length).long()
        now[0] = (first + length)[0]  # nothing comes after the last frame
        uniform = torch.rand(12, generator=g)
        uniform[:4] = torch.tensor([0.5, 0.0, 0.999, 0.0])
        return {"now": now, "first": first, "last": first + length, "uniform": uniform}

    @staticmethod
    def probe(answer: Any, now: Tensor, first: Tensor, last: Tensor, uniform: Tensor) -> dict[str, Any]:
        return {
            "future": answer("future", 1, now, first, last, uniform),
            "final": answer("final", 1, now, first, last, uniform),
            "final, two of them": answer("final", 2, now, first, last, uniform),
            "sequence of two": answer("sequence", 2, now, first, last, uniform),
            "sequence of three": answer("sequence", 3, now, first, last, uniform),
        }


class Relabelling(Check):
    """Exercise 11.3: `Hindsight`."""

    id = "11.3"
    answer = "Hindsight"
    blank = ("__call__",)
    hint = "`goal_rows` says which frames are the goals; `frames` holds what they are. Each window draws for itself."
    misconceptions = [
        Misconception(
            "ends of the first episode, for all",
            {"self.first[now], self.last[now]": "self.first[0 * now], self.last[0 * now]"},
            "`first` and `last` have a number for every frame. Which do you need?",
        ),
        Misconception(
            "goals one below the other",
            {".flatten(1)": ""},
            "An observation is a row of numbers: which shape does the docstring promise?",
        ),
        Misconception(
            "numbers of frames instead of frames",
            {"self.frames[rows].flatten(1)": "rows"},
            "A goal is a state. Where are the states?",
        ),
        Misconception(
            "always the next frame",
            {"torch.rand(len(now))": "torch.zeros(len(now))"},
            "Ask twice for the same window: may both goals be the same, every time?",
        ),
        Misconception(
            "one draw for all windows",
            {"torch.rand(len(now))": "torch.rand(1).expand(len(now))"},
            "Each window of a batch needs a goal of its own.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"frames": normal(g, 40, 3), "end": 2 * integers(g, 6, 12) + 1, "now": integers(g, 0, 40, 15)}

    @staticmethod
    def probe(answer: Any, frames: Tensor, end: Tensor, now: Tensor) -> dict[str, Any]:
        number = torch.arange(len(frames))
        second = number >= end
        first = torch.where(second, end, 0)
        last = torch.where(second, len(frames) - 1, end - 1)

        def drawn(goals: Tensor) -> Tensor:
            if goals.shape[1:] != frames.shape[1:]:
                return torch.full((len(goals),), -1)  # the shape is told elsewhere
            return torch.cdist(goals.double(), frames.double()).argmin(1)

        future = answer("future", 1, frames, first, last)
        chosen = drawn(future(number))
        many = drawn(future(torch.full((1000,), len(frames) - 6)))
        again = torch.cat([drawn(future(torch.tensor([len(frames) - 6]))) for _ in range(100)])
        return {
            "final goals": answer("final", 1, frames, first, last)(now),
            "goals of a sequence": answer("sequence", 2, frames, first, last)(now),
            "shape of future goals": future(now).shape,
            "frames whose goal does not lie in the rest of their episode": (
                (chosen <= number) & (number < last) | (chosen > last)
            ).sum(),
            "how many goals 1000 windows of one frame have": len(many.unique()),
            "how many goals one window has when it is asked 100 times": len(again.unique()),
        }
