"""Lesson 12: vision."""

from typing import Any

import torch
from torch import Tensor, nn

from vqbet_course.grading.checks import Check, Misconception, integers, normal
from vqbet_course.grading.runner import gradients, parameter_gradients, set_parameters


class Positions(Check):
    """Exercise 12.1: `pixel_grid`."""

    id = "12.1"
    answer = "pixel_grid"
    hint = "Write down the positions of a map of two rows and three columns, row after row. Which number changes first?"
    misconceptions = [
        Misconception("y before x", {".flip(1)": ""}, "Which of the two numbers says how far to the right a pixel is?"),
        Misconception(
            "column after column",
            {"torch.cartesian_prod(y, x).flip(1)": "torch.cartesian_prod(x, y)"},
            "A map that is flattened lies row after row.",
        ),
        Misconception(
            "from 0 to 1", {"torch.linspace(-1, 1, n": "torch.linspace(0, 1, n"}, "Where is the middle of the image?"
        ),
        Misconception(
            "edges of the image at -1 and 1",
            {"torch.linspace(-1, 1, n": "torch.linspace(-1 + 1 / n, 1 - 1 / n, n"},
            "The docstring says what lies at -1 and 1: the corner pixels, or the edges of the image?",
        ),
        Misconception(
            "height and width exchanged",
            {"for n in (height, width)": "for n in (width, height)"},
            "How many rows are there?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"height": integers(g, 2, 6), "width": integers(g, 6, 11)}

    @staticmethod
    def probe(answer: Any, height: Tensor, width: Tensor) -> dict[str, Any]:
        return {
            "positions": answer(int(height), int(width)),
            "positions of a high map": answer(int(width), int(height)),
        }


class Keypoints(Check):
    """Exercise 12.2: `SpatialSoftmax`."""

    id = "12.2"
    answer = "SpatialSoftmax"
    blank = ("forward",)
    hint = "First as many maps as there are keypoints, then weights that sum to 1 over the pixels of each map."
    misconceptions = [
        Misconception(
            "softmax over the maps",
            {"maps.flatten(2).softmax(-1)": "maps.softmax(1).flatten(2)"},
            "Add up the weights of one map. What do you get, and what should it be?",
        ),
        Misconception(
            "the brightest pixel alone",
            {
                "maps.flatten(2).softmax(-1)": "nn.functional.one_hot(maps.flatten(2).argmax(-1), maps[0, 0].numel()).to(maps)"
            },
            "How does a gradient reach the map?",
        ),
        Misconception(
            "weights that do not sum to 1",
            {".softmax(-1)": ".exp()"},
            "A mean position lies in the image. Does yours, for a bright map?",
        ),
        Misconception(
            "maps that are not mixed",
            {"maps = self.mix(features)": "maps = features"},
            "How many keypoints come out, and how many were asked for?",
        ),
        Misconception(
            "height and width exchanged",
            {"pixel_grid(*maps.shape[2:])": "pixel_grid(*maps.shape[:1:-1])"},
            "Try a map that is wider than high.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"features": 2 * normal(g, 3, 4, 5, 7), "numbers": normal(g, 31)}

    @staticmethod
    def probe(answer: Any, features: Tensor, numbers: Tensor) -> dict[str, Any]:
        layer = set_parameters(answer(4, 6), numbers)
        at = features.clone().requires_grad_()
        keypoints = layer(at)
        return {
            "keypoints": keypoints,
            "gradient at the features": gradients(keypoints, at)[0],
            "gradient at the parameters": parameter_gradients(keypoints, layer),
        }


class Cameras(Check):
    """Exercise 12.3: `CameraEncoder`."""

    id = "12.3"
    answer = "CameraEncoder"
    blank = ("forward",)
    hint = "The encoder takes images (N, 3, H, W). Which axes become N, and how do you get them back?"
    misconceptions = [
        Misconception(
            "cameras in the order in which they came",
            {"for name in self.cameras]": "for name in observation if name in self.cameras]"},
            "Give the same observation with its names in another order: may the tokens change?",
        ),
        Misconception(
            "numbers before the cameras",
            {"[tokens, self.state(observation)]": "[self.state(observation), tokens]"},
            "The docstring of the class says what comes first.",
        ),
        Misconception(
            "steps and cameras exchanged",
            {"for name in self.cameras], dim=2)": "for name in self.cameras], dim=1)"},
            "The result is (B, T, n, D): which axis are the cameras?",
        ),
        Misconception(
            "one camera for all",
            {"[observation[name] for": "[observation[self.cameras[0]] for"},
            "Change the image of the second camera: does a token change?",
        ),
        Misconception(
            "vectors that are no tokens yet",
            {"self.project(vectors)": "vectors"},
            "What turns the encoder's vector into a token of width D?",
        ),
        Misconception(
            "numbers left out",
            {"if self.state is None:": "if True:"},
            "A step has a token for its numbers, where there are some.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        images = {name: torch.rand((2, 3, 3, 2, 4), generator=g) for name in ("front", "wrist", "top")}
        return images | {"state": normal(g, 2, 3, 3), "numbers": normal(g, 211)}

    @staticmethod
    def probe(answer: Any, front: Tensor, wrist: Tensor, top: Tensor, state: Tensor, numbers: Tensor) -> dict[str, Any]:
        class Images(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.out = nn.Linear(24, 6)

            def forward(self, images: Tensor) -> Tensor:
                return self.out(images.flatten(1)).tanh()

        class Numbers(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(3, 6)

            def forward(self, observation: dict[str, Tensor]) -> Tensor:
                return self.linear(observation["state"]).unsqueeze(2)

        encoder = set_parameters(answer(Images(), ["front", "wrist", "top"], 6, Numbers()), numbers)
        at = wrist.clone().requires_grad_()
        tokens = encoder({"wrist": at, "state": state, "top": top, "front": front})
        alone = set_parameters(answer(Images(), ["wrist"], 6), numbers)
        return {
            "tokens": tokens,
            "tokens of one camera without numbers": alone({"wrist": wrist, "front": front}),
            "gradient at the images": gradients(tokens, at)[0],
            "gradient at the parameters": parameter_gradients(tokens, encoder),
        }
