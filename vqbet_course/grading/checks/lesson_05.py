"""Lesson 05: heads."""

from typing import Any

import torch
from torch import Tensor

from vqbet_course.grading.checks import Check, Misconception, integers, normal
from vqbet_course.grading.runner import gradients, parameter_gradients, refuses, set_parameters, several


class Focal(Check):
    """Exercise 5.1: `focal_loss`."""

    id = "5.1"
    answer = "focal_loss"
    hint = "Take log p of the right code first. The factor looks away from what the network knows already."
    misconceptions = [
        Misconception(
            "focal weight inverted",
            {"(1 - log_p.exp()) ** gamma": "log_p.exp() ** gamma"},
            "For a row that is predicted with p near 1, should the loss be larger or smaller than the others'?",
        ),
        Misconception("plain cross-entropy", {"** gamma": "** 0"}, "Try another gamma: does anything change?"),
        Misconception("sum instead of mean", {".mean()": ".sum()"}, "Give the same batch twice: the loss should stay."),
        Misconception(
            "log p instead of p in the weight",
            {"1 - log_p.exp()": "1 - log_p"},
            "The weight is made from a probability, between 0 and 1.",
        ),
        Misconception(
            "normalised over the batch",
            {
                "F.log_softmax(logits, dim=-1)": "F.log_softmax(logits, dim=0)",
            },
            "The probabilities of one row's codes add up to 1.",
        ),
        Misconception(
            "the logarithm of a softmax",
            {
                "F.log_softmax(logits, dim=-1)": "F.softmax(logits, dim=-1).log()",
            },
            "A tiny probability rounds to 0, and what is its logarithm? There is a way to log p that never sees p.",
        ),
        Misconception("one gamma for all", {"** gamma": "** 2"}, "Try another gamma: does anything change?"),
        Misconception(
            "the weight learns nothing",
            {"log_p.exp()": "log_p.exp().detach()"},
            "The value is right. But the weight depends on the logits, too.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"logits": 2 * normal(g, 9, 5), "targets": integers(g, 0, 5, 9)}

    @staticmethod
    def probe(answer: Any, logits: Tensor, targets: Tensor) -> dict[str, Any]:
        at = logits.clone().requires_grad_()
        return {
            "loss": answer(logits, targets),
            "gradient at the logits": gradients(answer(at, targets), at)[0],
            "loss with gamma 0": answer(logits, targets, 0.0),
            "loss with gamma 0.5": answer(logits, targets, 0.5),
            "gradient with gamma 0.5": gradients(answer(at, targets, 0.5), at)[0],
            "loss of very sure logits": answer(40 * logits, targets),
        }


class Sampling(Check):
    """Exercise 5.2: `sample_codes`."""

    id = "5.2"
    answer = "sample_codes"
    whole = True
    tolerance = 0.0
    hint = "Divide, softmax, cumulative sum; then count the steps that `uniform` has climbed. And at temperature 0?"
    misconceptions = [
        Misconception(
            "softmax before temperature",
            {
                "torch.softmax(logits / temperature, dim=-1)": "(torch.softmax(logits, dim=-1) / temperature)",
            },
            "Temperature changes how sure the choice is only if it acts before the exponential.",
        ),
        Misconception(
            "probabilities divided by the temperature",
            {
                "torch.softmax(logits / temperature, dim=-1)": "(torch.softmax(logits, dim=-1) / temperature)",
                "cumulative = cumulative / cumulative[..., -1:]": "pass",
                "(cumulative <= uniform.unsqueeze(-1)).sum(dim=-1)": "(cumulative <= uniform.unsqueeze(-1)).sum(dim=-1).clamp(max=logits.shape[-1] - 1)",
            },
            "Do the steps of your staircase still end at 1? The temperature has to act before the exponential.",
        ),
        Misconception(
            "multiplied by the temperature",
            {
                "softmax(logits / temperature, dim": "softmax(logits * temperature, dim",
            },
            "A low temperature should make the choice surer.",
        ),
        Misconception(
            "always the most probable code",
            {
                "(cumulative <= uniform.unsqueeze(-1)).sum(dim=-1)": "logits.argmax(dim=-1)",
            },
            "Try the same logits with different numbers in `uniform`.",
        ),
        Misconception(
            "the steps not climbed",
            {
                "(cumulative <= uniform.unsqueeze(-1))": "(cumulative > uniform.unsqueeze(-1))",
            },
            "With uniform near 0 the first code that has any probability should come out.",
        ),
        Misconception(
            "a code that does not exist",
            {"cumulative = cumulative / cumulative[..., -1:]": "pass"},
            "Rounded, the last step may stay below 1. Which code comes out for a draw above it?",
        ),
        Misconception(
            "a draw on a border finds the code below it",
            {"(cumulative <= uniform.unsqueeze(-1))": "(cumulative < uniform.unsqueeze(-1))"},
            "Which code comes out of yours when `uniform` is 0 and the first code has a probability of 0?",
        ),
        Misconception(
            "one code too low",
            {
                "return (cumulative <= uniform.unsqueeze(-1)).sum(dim=-1)": "return (cumulative <= uniform.unsqueeze(-1)).sum(dim=-1).sub(1).clamp(min=0)",
            },
            "Work one row out by hand: probabilities 0.5, 0.5 and uniform 0.7.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {
            "logits": 2 * normal(g, 40, 3, 6),
            "uniform": torch.rand(40, 3, generator=g),
            "temperature": 0.3 + 0.3 * torch.rand(1, generator=g),
        }

    @staticmethod
    def probe(answer: Any, logits: Tensor, uniform: Tensor, temperature: Tensor) -> dict[str, Any]:
        return {
            "codes": answer(logits, temperature.item(), uniform),
            "codes at temperature 2": answer(logits, 2.0, uniform),
            "codes at temperature 0": answer(logits, 0.0, uniform),
            "the highest draw finds a code": bool((answer(logits, 1.0, 0 * uniform + 1 - 2**-24) < 6).all()),
            "codes of the lowest draw": answer(logits - 200 * torch.eye(6)[0], 1.0, 0 * uniform),
            "which temperatures are refused": [refuses(lambda: answer(logits, t, uniform)) for t in (-1.0, 0.5, -0.1)],
        }


class Predictor(Check):
    """Exercise 5.3: `CodePredictor`."""

    id = "5.3"
    answer = "CodePredictor"
    blank = ("forward", "logits_given", "append_later")
    hint = (
        "Start with `append_later`: what do the later layers get to read? `forward` then has to sample "
        "the first code first."
    )
    misconceptions = [
        Misconception(
            "told the most probable code, not the sampled one",
            {
                "sampled = sample_codes(primary_logits, temperature, uniform[:, 0])": "sampled = primary_logits.argmax(dim=-1)",
            },
            "The second word of a sentence has to fit the first word that was said, likely or not.",
        ),
        Misconception(
            "told nothing",
            {
                "F.one_hot(primary, self.n_codes)": "0 * F.one_hot(primary, self.n_codes)",
            },
            "Give `logits_given` another primary code: do the later logits change?",
        ),
        Misconception(
            "the second draw for the first code",
            {
                "temperature, uniform[:, 0])": "temperature, uniform[:, 1])",
            },
            "Each layer has a draw of its own.",
        ),
        Misconception(
            "layers and codes exchanged",
            {
                "self.joint(features).unflatten(1, (self.n_layers, self.n_codes))": "self.joint(features).unflatten(1, (self.n_codes, self.n_layers)).transpose(1, 2)",
            },
            "In the joint form, the logits of one layer lie side by side.",
        ),
        Misconception(
            "sampled at temperature 1",
            {
                "return logits, sample_codes(logits, temperature, uniform)": "return logits, sample_codes(logits, 1.0, uniform)",
            },
            "Try another temperature: do the codes change?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {
            "features": normal(g, 30, 4),
            "uniform": torch.rand(30, 3, generator=g),
            "numbers": normal(g, 307),
            "primary": integers(g, 0, 5, 30),
        }

    @staticmethod
    def probe(answer: Any, features: Tensor, uniform: Tensor, numbers: Tensor, primary: Tensor) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        for name, sequential in [("joint", False), ("sequential", True)]:
            head = set_parameters(answer(4, 5, 3, sequential), numbers)
            at = features.clone().requires_grad_()
            (logits, codes), given = several(head(at, uniform, 0.5), 2), head.logits_given(at, primary)
            outputs |= {
                f"logits, {name}": logits,
                f"codes, {name}": codes,
                f"logits_given, {name}": given,
                f"gradient of the logits at the features, {name}": gradients(logits, at)[0],
                f"gradient of the logits at the parameters, {name}": parameter_gradients(logits, head),
                f"gradient of logits_given at the features, {name}": gradients(given, at)[0],
                f"gradient of logits_given at the parameters, {name}": parameter_gradients(given, head),
            }
        return outputs


class Offsets(Check):
    """Exercise 5.4: `OffsetHead`."""

    id = "5.4"
    answer = "OffsetHead"
    blank = ("forward",)
    hint = "There is one offset for each layer and each code. Pick, for each layer, that of its code; then add them up."
    misconceptions = [
        Misconception(
            "offset of the wrong code",
            {
                "index = codes[:, :, None, None]": "index = codes.flip(1)[:, :, None, None]",
            },
            "Layer g's code picks among layer g's offsets.",
        ),
        Misconception(
            "only the primary code's offset",
            {".squeeze(2).sum(1)": ".squeeze(2)[:, 0]"},
            "Change the second code only: does the offset change?",
        ),
        Misconception(
            "mean instead of sum",
            {".squeeze(2).sum(1)": ".squeeze(2).mean(1)"},
            "The docstring says what happens to the offsets of the given codes.",
        ),
        Misconception(
            "the offsets of all codes",
            {
                "offsets.gather(2, index).squeeze(2).sum(1)": "offsets.sum((1, 2))",
            },
            "Change the codes: does the offset change?",
        ),
        Misconception(
            "time and action exchanged",
            {
                ".unflatten(1, self.chunk_shape)": ".unflatten(1, self.chunk_shape[::-1]).transpose(1, 2)",
            },
            "The numbers of one action lie side by side.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"features": normal(g, 7, 4), "codes": integers(g, 0, 5, 7, 2), "numbers": normal(g, 509)}

    @staticmethod
    def probe(answer: Any, features: Tensor, codes: Tensor, numbers: Tensor) -> dict[str, Any]:
        head = set_parameters(answer(4, 5, 2, chunk_size=3, action_dim=2), numbers)
        at = features.clone().requires_grad_()
        offset = head(at, codes)
        return {
            "offset": offset,
            "gradient at the features": gradients(offset, at)[0],
            "gradient at the parameters": parameter_gradients(offset, head),
        }
