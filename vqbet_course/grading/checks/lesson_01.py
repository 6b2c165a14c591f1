"""Lesson 01: tokens."""

from typing import Any

import torch
from torch import Tensor

from vqbet_course.grading.checks import Check, Misconception, integers, normal
from vqbet_course.grading.runner import refuses


class SquaredDistances(Check):
    """Exercise 1.1: `squared_distances`."""

    id = "1.1"
    answer = "squared_distances"
    tolerance = 0.02  # far from the origin the points themselves are rounded
    hint = "Write out |x - e|². Which of the three terms needs a matrix product? And where should the origin be?"
    misconceptions = [
        Misconception(
            "no cross term",
            {" - 2 * cross": ""},
            "Two points at the same place should have distance 0. What do you get for them?",
        ),
        Misconception(
            "half a cross term",
            {"- 2 * cross": "- cross"},
            "Multiply out (x - e)² by hand for two numbers, and compare term by term.",
        ),
        Misconception(
            "distance instead of squared distance",
            {
                "return points.pow": "return (points.pow",
                "codebook.pow(2).sum(1)": "codebook.pow(2).sum(1)).clamp(min=0).sqrt()",
            },
            "Compare with the units in the docstring: pixels, or pixels squared?",
        ),
        Misconception(
            "measured from the origin",
            {"codebook.mean(0)": "0 * codebook.mean(0)"},
            "Move points and codes by the same thousands: no distance may change. How many digits has a float?",
        ),
        Misconception(
            "only the points are moved",
            {
                "points - middle, codebook - middle": "points - middle, codebook",
            },
            "A distance stays the same when both ends move, and only then.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        B, K = int(integers(g, 6, 10)), int(integers(g, 3, 6))
        return {"points": normal(g, B, 4), "codebook": 2 * normal(g, K, 4), "far": 2000 + 1000 * normal(g, 4).abs()}

    @staticmethod
    def probe(answer: Any, points: Tensor, codebook: Tensor, far: Tensor) -> dict[str, Any]:
        return {
            "distances": answer(points, codebook),
            "distances far from the origin": answer(points + far, codebook + far),
        }


class NearestCode(Check):
    """Exercise 1.2: `nearest_code`."""

    id = "1.2"
    answer = "nearest_code"
    whole = True
    tolerance = 0.0
    hint = "`squared_distances` gives (B, K). Which axis holds the codes? Then read the docstring's last line again."
    misconceptions = [
        Misconception(
            "argmin over the wrong axis",
            {"argmin(dim=1)": "argmin(dim=0)"},
            "You need one token per chunk. Look at the shape of what you return.",
        ),
        Misconception(
            "the farthest code",
            {".argmin(dim=1)": ".argmax(dim=1)"},
            "Try it with a codebook that holds the chunk itself: which token should come out?",
        ),
        Misconception(
            "the distance instead of the token",
            {".argmin(dim=1)": ".amin(dim=1)"},
            "A token is the number of a code, an integer.",
        ),
        Misconception(
            "NaN gets a token",
            {"chunks.isnan().any() or codebook.isnan().any()": "False"},
            "What does your function say to a chunk that holds NaN? A robot would act on it.",
        ),
        Misconception(
            "NaN in a code gets through",
            {" or codebook.isnan().any()": ""},
            "NaN can stand in the codebook as well. What is the distance to it?",
        ),
        Misconception(
            "of equally near codes the last",
            {
                "squared_distances(chunks, codebook).argmin(dim=1)": "len(codebook) - 1 - squared_distances(chunks, codebook).flip(1).argmin(dim=1)",
            },
            "Give the codebook the same code twice: which of the two does the docstring want?",
        ),
        Misconception(
            "an empty codebook is not refused",
            {
                "len(codebook) == 0": "False",
                "return squared_distances(chunks, codebook).argmin(dim=1)": "return squared_distances(chunks, codebook).argmin(dim=1) if len(codebook) else "
                "torch.zeros(len(chunks), dtype=torch.int64)",
            },
            "With no code at all, no code is nearest. The docstring says what to do then.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {
            "chunks": normal(g, int(integers(g, 20, 40)), 6),
            "codebook": normal(g, int(integers(g, 4, 9)), 6),
            "holes": integers(g, 0, 3, 8),
        }

    @staticmethod
    def probe(answer: Any, chunks: Tensor, codebook: Tensor, holes: Tensor) -> dict[str, Any]:
        def with_hole(values: Tensor, hole: bool) -> Tensor:
            values = values.clone()
            values[1, 2] = float("nan") if hole else 0.0
            return values

        few = codebook[:4].round()  # whole numbers, and eight codes: no rounding
        return {
            "tokens": answer(chunks, codebook),
            "tokens of the codes themselves": answer(codebook, codebook),
            "tokens when every code is there twice": answer(chunks.round(), torch.cat([few, few])),
            "which inputs with NaN are refused": [
                refuses(lambda: answer(with_hole(chunks, hole == 1), with_hole(codebook, hole == 2)))
                for hole in holes.tolist()
            ],
            "an empty codebook is refused": refuses(lambda: answer(chunks, codebook[:0])),
            "another width is refused": refuses(lambda: answer(chunks, codebook[:, :1])),
        }


class KMeans(Check):
    """Exercise 1.3: `kmeans`."""

    id = "1.3"
    answer = "kmeans"
    hint = "Two steps, over and over: who is nearest to whom, then the mean of each group. Who has no group?"
    misconceptions = [
        Misconception(
            "a code without points becomes NaN",
            {
                "torch.where(counts > 0, sums / counts.clamp(min=1), codebook)": "sums / counts",
            },
            "Ask for more codes than there are points. What is the mean of nothing?",
        ),
        Misconception(
            "a code without points goes to the origin",
            {
                "torch.where(counts > 0, sums / counts.clamp(min=1), codebook)": "sums / counts.clamp(min=1)",
            },
            "Ask for more codes than there are points: where does a code go that no point chose?",
        ),
        Misconception(
            "sums instead of means", {"sums / counts.clamp(min=1)": "sums"}, "With one code, where should it end up?"
        ),
        Misconception(
            "a single step",
            {"range(n_iters)": "range(min(n_iters, 1))"},
            "After the codes have moved, some points may be nearer to another one.",
        ),
        Misconception("the codes never move", {"range(n_iters)": "range(0)"}, "With one code, where should it end up?"),
        Misconception(
            "more steps than `n_iters`",
            {"range(n_iters)": "range(20)"},
            "After no step at all, where do the codes stand?",
        ),
        Misconception(
            "a start that nobody can repeat",
            {
                "torch.randperm(len(points), generator=generator)": "torch.randperm(len(points))",
            },
            "Call it twice, each time with a generator of the same seed: is it the same codebook?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        crowd, pair = normal(g, 20, 2), normal(g, 2, 2) + 100
        return {"points": torch.cat([crowd, pair])[torch.randperm(22, generator=g)], "seeds": integers(g, 0, 10**6, 2)}

    @staticmethod
    def probe(answer: Any, points: Tensor, seeds: Tensor) -> dict[str, Any]:
        # the start is the student's to draw, so ask only what does not depend on it, in an order that does not
        def fitted(points: Tensor, n_codes: int, seed: Tensor, n_iters: int = 20) -> Tensor:
            codebook = answer(points, n_codes, n_iters, torch.Generator().manual_seed(int(seed)))
            return codebook[codebook.sum(1).argsort()]

        start = fitted(points, 3, seeds[0], 0)
        return {
            "one code": fitted(points, 1, seeds[0]),
            "one code after one step": fitted(points, 1, seeds[0], 1),
            "two codes": fitted(points, 2, seeds[0]),
            "two codes from another start": fitted(points, 2, seeds[1]),
            "more codes than points": fitted(points[:4] + 50, 5, seeds[0], 1)[[0, -1]],
            "as many codes as points": fitted(points[:4], 4, seeds[1]),
            "after no step the codes are points": bool((torch.cdist(start, points).amin(1) < 1e-3).all()),
            "the same generator gives the same codebook": torch.equal(start, fitted(points, 3, seeds[0], 0)),
            "no points are refused": refuses(lambda: answer(points[:0], 2)),
            "no codes are refused": refuses(lambda: answer(points, 0)),
            "NaN is refused": refuses(lambda: answer(points / 0 * 0, 2)),
        }


class UsageOfTokens(Check):
    """Exercise 1.4: `token_usage`."""

    id = "1.4"
    answer = "token_usage"
    blank = ("token_usage",)
    hint = (
        "Count first, with a place for every code. The entropy of the shares is in nats: which function undoes a log?"
    )
    misconceptions = [
        Misconception(
            "entropy instead of perplexity",
            {
                "math.exp(torch.special.entr(share).sum())": "float(torch.special.entr(share).sum())",
            },
            "If all K codes are used equally often, the perplexity is K. What do you get?",
        ),
        Misconception(
            "two to the power of an entropy in nats",
            {
                "math.exp(torch.special.entr(share).sum())": "2.0 ** float(torch.special.entr(share).sum())",
            },
            "The base of the power and the base of the logarithm have to be the same.",
        ),
        Misconception(
            "the highest codes are not counted",
            {
                "tokens.flatten(), minlength=n_codes": "tokens.flatten()",
            },
            "How long is `counts` when nobody uses the last code?",
        ),
        Misconception(
            "a share of the tokens instead of the codes",
            {
                "(counts > 0).float().mean().item()": "(counts > 0).sum().item() / max(1, tokens.numel())",
            },
            "`share_used` is a share of the codes. What do you divide by?",
        ),
        Misconception(
            "a token that is K",
            {"tokens.max() < n_codes": "tokens.max() <= n_codes"},
            "With K codes, which is the highest token?",
        ),
        Misconception(
            "a token below 0",
            {
                "not 0 <= tokens.min() <= tokens.max() < n_codes": "tokens.max() >= n_codes",
                "bincount(tokens.flatten()": "bincount(tokens.flatten().clamp(min=0)",
            },
            "Tokens are numbers of codes, from 0. What does yours say to -1?",
        ),
        Misconception(
            "dead and alive exchanged",
            {"torch.nonzero(counts == 0)": "torch.nonzero(counts)"},
            "A dead code is one that was never chosen.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"tokens": torch.cat([integers(g, 0, 6, 1, 7), torch.arange(7)[None] % 6])}

    @staticmethod
    def probe(answer: Any, tokens: Tensor) -> dict[str, Any]:
        used = answer(tokens, 9)
        return {
            "counts": used.counts,
            "share used": used.share_used,
            "perplexity": used.perplexity,
            "dead": used.dead,
            "perplexity without tokens": answer(tokens[:0], 9).perplexity,
            "share used without tokens": answer(tokens[:0], 9).share_used,
            "dead without tokens": answer(tokens[:0], 9).dead,
            "for which K the tokens are refused": [refuses(lambda: answer(tokens, n)) for n in range(3, 8)],
            "counts of the token 0 alone": answer(0 * tokens, 9).counts,
            "a token below 0 is refused": refuses(lambda: answer(tokens - 2 * tokens.max(), 9)),
            "one token below 0 among others is refused": refuses(lambda: answer(tokens - 1, 9)),
        }
