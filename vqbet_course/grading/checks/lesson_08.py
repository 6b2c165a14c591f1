"""Lesson 08: training."""

from typing import Any

import torch
from torch import Tensor, nn

from vqbet_course.grading.checks import Check, Misconception, integers, normal
from vqbet_course.grading.runner import set_parameters


class Batches(Check):
    """Exercise 8.1: `batch_rows`."""

    id = "8.1"
    answer = "batch_rows"
    blank = ("batch_rows",)
    tolerance = 0.0
    hint = (
        "How many whole batches are in an epoch? Then a step tells the epoch, and the place within it; "
        "rows left over wait."
    )
    misconceptions = [
        Misconception(
            "the same order in every epoch",
            {
                "epoch_order(n, seed, epoch)[within": "epoch_order(n, seed, 0)[within",
            },
            "Compare the batches of two epochs.",
        ),
        Misconception(
            "a last, smaller batch",
            {"n // batch_size": "-(-n // batch_size)"},
            "Every batch has the same size. What happens to the rows that are left over?",
        ),
        Misconception(
            "always the first batch of the epoch",
            {
                "[within * batch_size:(within + 1) * batch_size]": "[:batch_size]",
            },
            "In one epoch no row comes twice.",
        ),
        Misconception(
            "batches that overlap",
            {
                "[within * batch_size:(within + 1) * batch_size]": "[within:within + batch_size]",
            },
            "In one epoch no row comes twice.",
        ),
        Misconception(
            "a new order at every step",
            {
                "epoch_order(n, seed, epoch)[within": "epoch_order(n, seed, step)[within",
            },
            "Within one epoch every row comes at most once.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"n": integers(g, 17, 20), "batch_size": integers(g, 4, 6), "seed": integers(g, 1, 10**6)}

    @staticmethod
    def probe(answer: Any, n: Tensor, batch_size: Tensor, seed: Tensor) -> dict[str, Any]:
        batches = {f"batch {step}": answer(int(n), int(batch_size), int(seed), step) for step in range(9)}
        return batches | {"batch of a small data set": answer(3, 8, int(seed), 2)}


class LearningRate(Check):
    """Exercise 8.2: `lr_factor`."""

    id = "8.2"
    answer = "lr_factor"
    hint = "Two curves, multiplied. The warm-up is done after `warmup` steps; half a cosine goes from 1 down to 0."
    misconceptions = [
        Misconception(
            "the first step learns nothing",
            {
                "(step + 1) / max(1, warmup)": "(step / warmup if warmup else 1.0)",
            },
            "What is the rate at step 0?",
        ),
        Misconception(
            "no warm-up",
            {"return warm * ": "return "},
            "Try it with a warm-up: do the first steps change?",
        ),
        Misconception(
            "a whole cosine", {"math.pi * step": "2 * math.pi * step"}, "Where does the rate stand in the end?"
        ),
        Misconception(
            "warm-up that does not stop",
            {
                "min(1.0, (step + 1) / max(1, warmup))": "(step + 1) / max(1, warmup)",
            },
            "A share is at most 1.",
        ),
        Misconception(
            "a straight line",
            {
                "0.5 * (1 + math.cos(math.pi * step / steps))": "(1 - step / steps)",
            },
            "How fast does a cosine fall in the beginning?",
        ),
        Misconception(
            "the cosine waits for the warm-up",
            {
                "return warm * 0.5 * (1 + math.cos(math.pi * step / steps))": "return (step + 1) / warmup if step < warmup else "
                "0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))",
            },
            "The two curves are multiplied. At which step does each of them begin?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"steps": integers(g, 40, 60), "warmup": integers(g, 5, 9)}

    @staticmethod
    def probe(answer: Any, steps: Tensor, warmup: Tensor) -> dict[str, Any]:
        every = range(0, int(steps), 3)
        return {
            "rates": [float(answer(step, int(steps), int(warmup))) for step in every],
            "rates without warm-up": [float(answer(step, int(steps))) for step in every],
        }


class Optimizer(Check):
    """Exercise 8.3: `adamw`."""

    id = "8.3"
    answer = "adamw"
    hint = "Two groups. Matrices have two axes or more; biases and norms have one. And what is frozen?"
    misconceptions = [
        Misconception(
            "decay on everything",
            {'"weight_decay": 0.0': '"weight_decay": weight_decay'},
            "Which parameters should not be pulled to 0?",
        ),
        Misconception(
            "decay on the biases only",
            {
                "p.ndim >= 2": "p.ndim < 2",
                'if p.ndim < 2], "weight_decay": 0.0': 'if p.ndim >= 2], "weight_decay": 0.0',
            },
            "Compare a bias and a matrix: which of them is pulled to 0 by yours?",
        ),
        Misconception(
            "frozen parameters included",
            {" if p.requires_grad]": "]"},
            "In stage 2 the tokenizer is frozen: it must not be decayed either.",
        ),
        Misconception(
            "the gains of norms decay, too",
            {
                "learning = [": "biases = {id(p) for name, p in module.named_parameters() if name.endswith('bias')}\n"
                "    learning = [",
                "p.ndim >= 2": "id(p) not in biases",
                "if p.ndim < 2]": "if id(p) in biases]",
            },
            "The gain of a norm is called `weight`, too. Is it a matrix?",
        ),
        Misconception(
            "only two axes make a matrix",
            {
                "p.ndim >= 2": "p.ndim == 2",
                "if p.ndim < 2]": "if p.ndim != 2]",
            },
            "A convolution multiplies, too: how many axes have its weights?",
        ),
        Misconception("options lost", {", fused=True, **options)": ", fused=True)"}, "What happens to lr?"),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        decay, lr = torch.rand(2, generator=g)
        return {"decay": decay, "lr": 0.001 + lr, "numbers": normal(g, 101)}

    @staticmethod
    def probe(answer: Any, decay: Tensor, lr: Tensor, numbers: Tensor) -> dict[str, Any]:
        frozen = nn.Linear(4, 2).requires_grad_(False)
        layers = nn.Linear(3, 4), nn.LayerNorm(4), nn.Embedding(5, 4), nn.Conv1d(2, 2, 1), frozen
        module = set_parameters(nn.Sequential(*layers), numbers)
        optimizer = answer(module, decay.item(), lr=lr.item(), betas=(0.5, 0.6))
        decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        torch.cat([p.flatten() for p in module.parameters() if p.requires_grad]).square().sum().backward()
        optimizer.step()
        return {
            "weight decay of each parameter": [float(decay_of.get(id(p), -1.0)) for p in module.parameters()],
            "learning rates": sorted(float(group["lr"]) for group in optimizer.param_groups)[-1],
            "parameters after a step": torch.cat([p.flatten() for p in module.parameters()]),
        }


class MovingAverage(Check):
    """Exercise 8.4: `ema_update`."""

    id = "8.4"
    answer = "ema_update"
    hint = (
        "How far to move: little when the memory is long. In the first steps it is short. Buffers are "
        "counts: no average."
    )
    misconceptions = [
        Misconception(
            "a long memory from the start",
            {
                "1 - min(decay, (1 + step) / (10 + step))": "1 - decay",
            },
            "At step 0 the average holds random weights. How long should it remember them?",
        ),
        Misconception(
            "the memory grows without bound",
            {
                "min(decay, (1 + step) / (10 + step))": "(1 + step) / (10 + step)",
            },
            "What is `decay` for, after thousands of steps?",
        ),
        Misconception(
            "decay on the wrong side",
            {"weight = 1 - min(": "weight = min("},
            "With a decay near 1 the average hardly moves.",
        ),
        Misconception(
            "buffers averaged",
            {
                "kept.copy_(new)": "kept.copy_(new if new.dtype == torch.long else kept.lerp(new, weight))",
            },
            "What is the average of two counts worth? The docstring speaks of weights.",
        ),
        Misconception(
            "buffers forgotten",
            {"kept.copy_(new)": "pass"},
            "What becomes of the running statistics, which are no parameters?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"slow": normal(g, 101), "fast": normal(g, 101), "decay": 0.9 + 0.05 * torch.rand(1, generator=g)}

    @staticmethod
    def probe(answer: Any, slow: Tensor, fast: Tensor, decay: Tensor) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        for step in (0, 5, 1000):
            average, module = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
            set_parameters(average, slow)
            set_parameters(module, fast).get_buffer("1.running_mean").copy_(fast[:4])
            answer(average, module, step, decay.item())
            outputs |= {
                f"weights, step {step}": torch.cat([p.flatten() for p in average.parameters()]),
                f"buffers, step {step}": average.get_buffer("1.running_mean"),
                f"the module itself, step {step}": torch.cat([p.flatten() for p in module.parameters()]),
            }
        return outputs
