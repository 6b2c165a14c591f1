"""Lesson 02: residual VQ."""

from typing import Any

import torch
from torch import Tensor

from vqbet_course.grading.checks import Check, Misconception, normal
from vqbet_course.grading.runner import gradients, refuses


class StraightThrough(Check):
    """Exercise 2.1: `straight_through`."""

    id = "2.1"
    answer = "straight_through"
    hint = "You need a sum whose value is `quantized` and whose only part with a gradient is `x`."
    misconceptions = [
        Misconception(
            "missing straight-through",
            {"(quantized - x).detach()": "(quantized - x)"},
            "The values are right, but their gradient goes to the codes, and none of it to x.",
        ),
        Misconception(
            "the input itself",
            {"return x + (quantized - x).detach()": "return x + 0"},
            "Going forward, the result has to be the quantized values.",
        ),
        Misconception(
            "the gradient arrives twice",
            {
                "return x + (quantized - x).detach()": "return 2 * x + (quantized - 2 * x).detach()",
            },
            "Going backward it has to be the identity: how large is the gradient at x?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"x": normal(g, 5, 3), "quantized": normal(g, 5, 3), "weight": normal(g, 5, 3)}

    @staticmethod
    def probe(answer: Any, x: Tensor, quantized: Tensor, weight: Tensor) -> dict[str, Any]:
        at, code = x.clone().requires_grad_(), quantized.clone().requires_grad_()
        values = answer(at, code)
        at_x, at_quantized = gradients((values * weight).sum(), at, code)
        return {"values": values, "gradient at x": at_x, "gradient at quantized": at_quantized}


class OneQuantizer(Check):
    """Exercise 2.2: `VectorQuantizer`."""

    id = "2.2"
    answer = "VectorQuantizer"
    blank = ("forward", "ema_update", "revive")
    hint = (
        "`forward`: place the codes if need be, choose, measure, then `ema_update` and `revive`, "
        "in training only. `ema_update`: two moving averages, then divide one by the other. Codes have no "
        "gradient."
    )
    misconceptions = [
        Misconception(
            "codes move in evaluation, too",
            {
                "if self.training:\n            self.ema_update": "if True:\n            self.ema_update",
            },
            "In eval mode the same input has to give the same answer twice.",
        ),
        Misconception(
            "codes are placed in evaluation, too",
            {"if self.training and not self.started": "if not self.started"},
            "The docstring says which batch places the codes.",
        ),
        Misconception(
            "no straight-through",
            {
                "Quantized(straight_through(x, values), ": "Quantized(values, ",
            },
            "The values are right, but no gradient of them reaches x.",
        ),
        Misconception(
            "commitment without a gradient",
            {
                "F.mse_loss(x, values)": "F.mse_loss(x.detach(), values)",
            },
            "The commitment loss pulls x towards its code. What does it pull in yours?",
        ),
        Misconception(
            "decay on the wrong side",
            {
                "self.count.lerp_(counts, 1 - self.decay)": "self.count.lerp_(counts, self.decay)",
                "self.total.lerp_(sums, 1 - self.decay)": "self.total.lerp_(sums, self.decay)",
            },
            "A decay of 0.99 means a long memory: how much of the new counts comes in at each step?",
        ),
        Misconception(
            "sums instead of means",
            {"self.total / smoothed.unsqueeze(1)": "self.total"},
            "A code is the mean of the vectors that chose it.",
        ),
        Misconception(
            "no memory",
            {
                "self.count.lerp_(counts, 1 - self.decay)": "self.count.copy_(counts)",
                "self.total.lerp_(sums, 1 - self.decay)": "self.total.copy_(sums)",
            },
            "One batch alone decides in yours. Where does `decay` come in?",
        ),
        Misconception(
            "counts are not smoothed",
            {
                "smoothed = (self.count + self.eps) / (size + n_codes * self.eps) * size": "smoothed = self.count",
            },
            "A code that nobody chooses: its count tends to 0, and you divide by it. What is `eps` for?",
        ),
        Misconception(
            "nobody is revived", {"            self.revive(x.detach(), generator)\n": ""}, "Who calls `revive`?"
        ),
        Misconception(
            "revives the living",
            {
                "self.count < self.revive_below": "self.count >= self.revive_below",
            },
            "Which codes are to be moved: those that are chosen often, or those that are hardly chosen?",
        ),
        Misconception(
            "the same row can be drawn twice",
            {
                "torch.randperm(len(x), generator=generator)[:len(dead)]": "torch.randint(len(x), (len(dead),), generator=generator)",
            },
            "How many of B rows are different ones when each is drawn from all B?",
        ),
        Misconception(
            "a revived code keeps its count",
            {
                "self.count[dead] = max(self.revive_below, 1.0)": "pass",
            },
            "A revived code starts anew. What would its old count do to it in the next step?",
        ),
        Misconception(
            "the total of a revived code does not fit its count",
            {
                "self.total[dead] = self.codebook[dead] * self.count[dead].unsqueeze(1)": "self.total[dead] = self.codebook[dead]",
            },
            "A code is its total divided by its count. Where does yours stand after the next step?",
        ),
        Misconception(
            "draws of its own",
            {"len(self.codebook), generator=generator)": "len(self.codebook))"},
            "Two runs with the same generator should place the codes alike. Who draws in k-means?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"x": normal(g, 12, 3), "codebook": normal(g, 4, 3), "weight": normal(g, 12, 3)}

    @staticmethod
    def probe(answer: Any, x: Tensor, codebook: Tensor, weight: Tensor) -> dict[str, Any]:
        def asked(vq: Any, name: str) -> dict[str, Tensor]:
            at = x.clone().requires_grad_()
            out = vq(at)
            parts = {"values": (out.values * weight).sum(), "commitment": out.commit_loss}
            slopes = {f"gradient of the {part}, {name}": gradients(value, at)[0] for part, value in parts.items()}
            return slopes | {
                f"values, {name}": out.values,
                f"codes, {name}": out.codes,
                f"commit_loss, {name}": out.commit_loss,
                f"codebook, {name}": vq.codebook.clone(),
                f"count, {name}": vq.count.clone(),
                f"total, {name}": vq.total.clone(),
            }

        def at_codes(**options: float) -> Any:
            vq = answer(4, 3, **options)
            vq.place(codebook)
            return vq

        vq, alike = at_codes(decay=0.7), x[:1].expand(6, 3).clone()
        outputs = asked(vq.eval(), "in evaluation") | asked(vq.train(), "in training") | asked(vq, "one step later")
        dying, lonely = at_codes(revive_below=0.5), at_codes(revive_below=0.5).train()
        dying.count[1:3] = lonely.count[1:3] = 0.1
        renewed, bordering = at_codes(revive_below=3.0), at_codes(revive_below=1.0)
        few, crowded = at_codes(revive_below=2.0), at_codes(revive_below=2.0)
        for layer, vectors in ((dying, alike), (renewed, alike), (bordering, alike), (few, x[:2]), (crowded, x)):
            layer.revive(vectors)
        fresh, smooth, resting = answer(2, 3).train(), at_codes(eps=0.5).train(), answer(4, 3).eval()
        for layer, vectors in ((lonely, alike), (fresh, alike), (smooth, x), (resting, x)):
            layer(vectors)

        def placed(revive_below: float) -> Tensor:
            vq = answer(4, 3, revive_below=revive_below).train()
            vq(x, torch.Generator().manual_seed(1))
            return vq.codebook

        twins = torch.stack([placed(low) - placed(low) for low in (0.0, 2.0)])
        return outputs | {
            "codebook after revival": dying.codebook,
            "count after revival": dying.count,
            "total after revival": dying.total,
            "total after revival, a count of 3": renewed.total,
            "count after revival, a count of 3": renewed.count,
            "codebook, all counts on the border": bordering.codebook,
            "codes revived by two vectors": int((few.codebook != codebook).any(1).sum()),
            "different codes among these": len(few.codebook.unique(dim=0)),
            "codebook placed by the first batch": fresh.codebook,
            "codebook before any training": resting.codebook,
            "count of the crowded": crowded.count,
            "codebook, smoothed": smooth.codebook,
            "codebook, the lonely revived": lonely.codebook,
            "revived codes are rows of x": (torch.cdist(crowded.codebook, x).amin(1) < 1e-3).tolist(),
            "revived codes are different": len(crowded.codebook.unique(dim=0)),
            "difference between runs with equal generators": twins,
            "another width is refused": refuses(lambda: vq(x[:, :2])),
        }


class Stack(Check):
    """Exercise 2.3: `ResidualVQ`."""

    id = "2.3"
    answer = "ResidualVQ"
    blank = ("forward", "lookup")
    hint = "Each layer gets what those before it left over; the values are the sum. Think about which way gradients go."
    misconceptions = [
        Misconception(
            "residual not detached",
            {"residual - step.values.detach()": "residual - step.values"},
            "The values are right. Follow the gradient of the second layer's commitment loss back to x.",
        ),
        Misconception(
            "subtracts the codes after they moved",
            {"residual - step.values.detach()": "residual - layer.codebook[step.codes]"},
            "In training a layer moves its codes in `forward`. Does its codebook afterwards still hold what it returned?",
        ),
        Misconception(
            "every layer quantizes the input",
            {
                "residual = residual - step.values.detach()": "pass",
            },
            "What should the second layer see: x, or what the first layer left over?",
        ),
        Misconception(
            "only the last layer's values",
            {
                "values = values + step.values": "values = step.values",
            },
            "A stack approximates x by a sum.",
        ),
        Misconception(
            "one loss for all layers",
            {"torch.stack(losses))": "torch.stack(losses).sum())"},
            "The docstring says which shape commit_loss has.",
        ),
        Misconception(
            "codes of the first layer for all layers",
            {
                "self.codebooks[layer, codes]": "self.codebooks[0, codes]",
            },
            "Token number g is a line of codebook number g.",
        ),
        Misconception(
            "codes below 0 count from the end",
            {"((codes < 0) | (codes >= K)).any()": "(codes >= K).any()"},
            "What does Python do with the index -1? Is that a code?",
        ),
        Misconception(
            "mean instead of sum in lookup",
            {
                ".sum(dim=1)  # (B, g, D)": ".mean(dim=1)  # (B, g, D)",
            },
            "`lookup` of all codes has to give the values of `forward`.",
        ),
        Misconception(
            "the generator goes no further",
            {"layer(residual, generator)": "layer(residual)"},
            "Two runs with the same generator should place the codes alike. Who draws in the layers?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {
            "x": normal(g, 10, 3),
            "codebooks": normal(g, 3, 4, 3) * torch.tensor([1, 0.5, 0.25])[:, None, None],
            "weight": normal(g, 10, 3),
            "second": normal(g, 10, 3),
        }

    @staticmethod
    def probe(answer: Any, x: Tensor, codebooks: Tensor, weight: Tensor, second: Tensor) -> dict[str, Any]:
        rvq = answer(3, 4, 3).eval()
        for layer, codebook in zip(rvq.layers, codebooks):
            layer.place(codebook)
        at = x.clone().requires_grad_()
        out = rvq(at)
        loss = (out.values * weight).sum()
        twins = [answer(2, 4, 3).train() for _ in range(2)]
        for twin in twins:
            twin(x, torch.Generator().manual_seed(1))
        refused = {
            f"codes in {n + 1}..{n + 2} of 0..3 are refused": refuses(
                lambda n=n: rvq.lookup(out.codes.clamp(1, 2) + n)  # type: ignore[misc]
            )
            for n in (-2, -1, 0, 1, 2, 3)
        }
        trained = answer(3, 4, 3).train()
        for layer, codebook in zip(trained.layers, codebooks):
            layer.place(codebook)
        trained(x)
        later = trained(second)
        return refused | {
            "values": out.values,
            "codes": out.codes,
            "commit_loss": out.commit_loss,
            "gradient of the values": gradients(loss, at)[0],
            "gradient of the commitment": gradients(out.commit_loss, at)[0],
            "lookup of all codes": rvq.lookup(out.codes),
            "lookup of the first codes": rvq.lookup(out.codes[:, :1]),
            "values of a second batch in training": later.values,
            "codes of a second batch in training": later.codes,
            "commit_loss of a second batch in training": later.commit_loss,
            "codebooks after two batches in training": trained.codebooks,
            "difference between runs with equal generators": twins[0].codebooks - twins[1].codebooks,
            "codes of no layer are refused": refuses(lambda: rvq.lookup(out.codes[:, :0])),
            "codes without a batch are refused": refuses(lambda: rvq.lookup(out.codes[0])),
            "more codes than layers are refused": refuses(lambda: rvq.lookup(out.codes.repeat(1, 2))),
        }
