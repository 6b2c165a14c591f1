"""Lesson 06: the policy."""

from typing import Any

import torch
from torch import Tensor

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.grading.checks import Check, Misconception, integers, normal
from vqbet_course.grading.runner import gradients, several


class Interleave(Check):
    """Exercise 6.1: `interleave`."""

    id = "6.1"
    answer = "interleave"
    hint = "Draw the row for two steps, two tokens a step and one future query, and number its places."
    misconceptions = [
        Misconception(
            "the query before its observation",
            {
                "[tokens, query.expand(B, T, 1, D)]": "[query.expand(B, T, 1, D), tokens]",
            },
            "A causal GPT sees what stands before: what does a query need to see?",
        ),
        Misconception(
            "all queries at the end",
            {
                "steps = torch.cat([tokens, query.expand(B, T, 1, D)], dim=2).flatten(1, 2)": "steps = torch.cat([tokens.flatten(1, 2), query.expand(B, T, 1, D).flatten(1, 2)], dim=1)",
            },
            "Each step has its own query, right after its tokens.",
        ),
        Misconception(
            "places one too early",
            {"*range(n, end, n + 1)": "*range(n - 1, end, n + 1)"},
            "Read the row at the places that you return: is the query there?",
        ),
        Misconception(
            "places for one token a step",
            {"*range(n, end, n + 1)": "*range(1, 2 * T, 2)"},
            "With two cameras there are two tokens a step. Where is the first query then?",
        ),
        Misconception(
            "no future queries",
            {
                "return torch.cat([steps, future], dim=1)": "return torch.cat([steps, future[:, :0]], dim=1)",
            },
            "How long does the docstring say that the row is?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        n, future = int(integers(g, 2, 4)), integers(g, 1, 3)
        return {"tokens": normal(g, 2, 3, n, 4), "query": normal(g, 1, 1, 1, 4), "n_future": future}

    @staticmethod
    def probe(answer: Any, tokens: Tensor, query: Tensor, n_future: Tensor) -> dict[str, Any]:
        at_tokens, at_query = tokens.clone().requires_grad_(), query.clone().requires_grad_()
        row, places = several(answer(at_tokens, at_query, int(n_future)), 2)
        slopes = gradients(row, at_tokens, at_query)
        return {
            "row": row,
            "places of the queries": places,
            "gradient at the tokens": slopes[0],
            "gradient at the query": slopes[1],
        }


class StageTwoLoss(Check):
    """Exercise 6.2: `stage2_loss`."""

    id = "6.2"
    answer = "stage2_loss"
    hint = (
        "One focal loss per layer. The first layer has a weight of its own; so have the others together, "
        "and the offset."
    )
    misconceptions = [
        Misconception(
            "primary and secondary weights exchanged",
            {
                "c.primary_code_loss_weight * primary + c.secondary_code_loss_weight * secondary": "c.secondary_code_loss_weight * primary + c.primary_code_loss_weight * secondary",
            },
            "Which mistake costs more: a wrong coarse code or a wrong fine one?",
        ),
        Misconception(
            "the primary code counts twice",
            {"sum(per_layer[1:])": "sum(per_layer)"},
            "The secondary weight is for the layers after the first.",
        ),
        Misconception(
            "only two layers",
            {"sum(per_layer[1:])": "per_layer[1]"},
            "A stack may have three layers. Does the third one learn?",
        ),
        Misconception(
            "parts that still learn",
            {"value.detach() for name": "value for name"},
            "The parts are for the log. What does the docstring say of them?",
        ),
        Misconception(
            "offset without weight",
            {
                "code_loss + c.offset_loss_weight * offset_loss": "code_loss + offset_loss",
            },
            "Try it with another offset_loss_weight: does the loss change?",
        ),
        Misconception(
            "squared instead of absolute error",
            {
                "F.l1_loss(predicted, chunks)": "F.mse_loss(predicted, chunks)",
            },
            "Which error does the docstring name?",
        ),
        Misconception(
            "every layer against the first code",
            {
                "focal_loss(logits[:, g], codes[:, g])": "focal_loss(logits[:, g], codes[:, 0])",
            },
            "Layer g has targets of its own.",
        ),
        Misconception(
            "accuracy of all layers together",
            {"= right[0]": "= right.mean()"},
            "`primary_accuracy` is about one layer.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        logits, codes = normal(g, 9, 3, 5), integers(g, 0, 5, 9, 3)
        codes[:3, 0] = logits[:3, 0].argmax(-1)  # so that the layers differ in their accuracy
        codes[:, 1] = (logits[:, 1].argmax(-1) + integers(g, 1, 5, 9)) % 5
        return {
            "logits": logits,
            "codes": codes,
            "predicted": normal(g, 9, 4, 2),
            "chunks": normal(g, 9, 4, 2),
            "weights": 1 + normal(g, 3).abs(),
        }

    @staticmethod
    def probe(
        answer: Any, logits: Tensor, codes: Tensor, predicted: Tensor, chunks: Tensor, weights: Tensor
    ) -> dict[str, Any]:
        primary, secondary, offset = weights.tolist()
        config = VQBeTConfig(
            observation_sizes={"a": 1},
            vqvae_n_layers=3,
            primary_code_loss_weight=primary,
            secondary_code_loss_weight=secondary,
            offset_loss_weight=offset,
        )
        at_logits, at_predicted = logits.clone().requires_grad_(), predicted.clone().requires_grad_()
        loss, parts = several(answer(config, at_logits, codes, at_predicted, chunks), 2)
        slopes = gradients(loss, at_logits, at_predicted)
        return {
            "loss": loss,
            "gradient at the logits": slopes[0],
            "gradient at the predicted chunks": slopes[1],
            "a part has a gradient": any(getattr(part, "requires_grad", False) for part in parts.values()),
            **{name: parts[name] for name in ("code_loss", "offset_loss", "primary_accuracy")},
        }


class Averaging(Check):
    """Exercise 6.3: `average_overlaps`."""

    id = "6.3"
    answer = "average_overlaps"
    hint = "A chunk that was decided n steps ago has used up n of its actions. Which chunks still reach action i?"
    misconceptions = [
        Misconception(
            "only the newest chunk",
            {"enumerate(chunks) if": "enumerate(chunks[:1]) if"},
            "What do older chunks say about the same moment?",
        ),
        Misconception(
            "age in steps instead of decisions",
            {
                "chunk[:, i + age * n] for age, chunk in enumerate(chunks) if i + age * n < W": "chunk[:, i + age] for age, chunk in enumerate(chunks) if i + age < W",
            },
            "Between two chunks lie n steps.",
        ),
        Misconception(
            "sum instead of mean",
            {"torch.stack(said).mean(0)": "torch.stack(said).sum(0)"},
            "When all chunks agree, the average is what they say.",
        ),
        Misconception(
            "all chunks from their start",
            {"chunk[:, i + age * n] for": "chunk[:, i] for"},
            "The first action of an old chunk belongs to a moment that is over.",
        ),
        Misconception(
            "oldest first",
            {"enumerate(chunks) if": "enumerate(chunks[::-1]) if"},
            "Which end of `chunks` is the newest?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"chunks": normal(g, 4, 3, 7, 2)}

    @staticmethod
    def probe(answer: Any, chunks: Tensor) -> dict[str, Any]:
        return {f"actions, every {n}": torch.stack(list(answer(list(chunks), n))) for n in (2, 3)}
