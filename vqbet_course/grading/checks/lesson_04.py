"""Lesson 04: GPT."""

from typing import Any

import torch
from torch import Tensor, nn

from vqbet_course.grading.checks import Check, Misconception, normal
from vqbet_course.grading.runner import gradients, parameter_gradients, refuses, set_parameters


class Attention(Check):
    id = "4.1"
    answer = "CausalSelfAttention"
    blank = ("forward",)
    hint = (
        "Split into q, k, v; split each into heads, heads before time; mix, causally; put the heads side by side again."
    )
    misconceptions = [
        Misconception(
            "future tokens visible",
            {"is_causal=True": "is_causal=False"},
            "Change the last token only: may the first output change?",
        ),
        Misconception(
            "scores not scaled",
            {"is_causal=True,": "is_causal=True, scale=1.0,"},
            "With wide heads the scores grow, and the softmax saturates. By what are they divided?",
        ),
        Misconception(
            "dropout in evaluation, too",
            {"self.dropout if self.training else 0.0": "self.dropout"},
            "Call it twice in eval mode, with some dropout: is it the same answer? Who tells the function the mode?",
        ),
        Misconception(
            "no dropout on the output",
            {
                "self.drop(self.out(mixed.transpose(1, 2).reshape(B, T, D)))": "self.out(mixed.transpose(1, 2).reshape(B, T, D))",
            },
            "One of the layers that `__init__` makes is not used yet.",
        ),
        Misconception(
            "a single head",
            {"part.view(B, T, self.n_head, -1)": "part.view(B, T, 1, -1)"},
            "Each head should see only its slice of q, k and v.",
        ),
        Misconception(
            "heads and time mixed up",
            {
                "mixed.transpose(1, 2).reshape(B, T, D)": "mixed.reshape(B, T, D)",
            },
            "Before you reshape, which axis stands next to the last: heads or time?",
        ),
        Misconception(
            "queries and keys exchanged",
            {"q, k, v = ": "k, q, v = "},
            "The layer's name is `qkv`: which part comes first?",
        ),
        Misconception(
            "values not passed through `out`",
            {
                "self.drop(self.out(mixed.transpose(1, 2).reshape(B, T, D)))": "self.drop(mixed.transpose(1, 2).reshape(B, T, D))",
            },
            "The heads do not talk to each other yet: one layer is unused.",
        ),
        Misconception(
            "masked after the softmax",
            {
                "mixed = F.scaled_dot_product_attention(\n            q, k, v, is_causal=True, dropout_p=dropout)": "mixed = F.dropout((q @ k.mT / q.shape[-1]**0.5).softmax(-1).tril(), dropout) @ v",
            },
            "Do the weights of a row still add up to 1?",
        ),
        Misconception(
            "no dropout on the weights",
            {", dropout_p=dropout)": ")"},
            "The docstring of the class names two places where something is dropped.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"x": normal(g, 2, 5, 8), "numbers": 0.5 * normal(g, 401)}

    @staticmethod
    def probe(answer: Any, x: Tensor, numbers: Tensor) -> dict[str, Any]:
        at = x.clone().requires_grad_()
        attention, dropping = set_parameters(answer(8, 2), numbers), set_parameters(answer(8, 2, dropout=0.5), numbers)
        whole, dropped = dropping(x), dropping.train()(x)  # dropout doubles what it leaves
        output = attention(at)
        return {
            "output": output,
            "output for the first tokens": attention(x[:, :3]),
            "gradient at x": gradients(output, at)[0],
            "gradient at the parameters": parameter_gradients(output, attention),
            "output in evaluation": whole,
            "something is dropped in training": bool((dropped == 0).any()),
            "weights are dropped in training": bool(((dropped - 2 * whole).abs() > 1e-3)[dropped != 0].any()),
        }


class OneBlock(Check):
    id = "4.2"
    answer = "Block"
    blank = ("forward",)
    hint = "Twice the same pattern: normalise, work, add to what was there."
    misconceptions = [
        Misconception(
            "attention replaces what was there",
            {
                "x = x + self.attention(self.norm_attention(x))": "x = self.attention(self.norm_attention(x))",
            },
            "A token should keep what it knew before it looked around.",
        ),
        Misconception(
            "the MLP replaces what was there",
            {"return x + self.mlp(": "return self.mlp("},
            "Both halves of a block only add something.",
        ),
        Misconception(
            "nothing is added",
            {
                "x = x + self.attention(": "x = self.attention(",
                "return x + self.mlp(": "return self.mlp(",
            },
            "What does the block compute when the last layers of both branches are 0?",
        ),
        Misconception(
            "nothing is normalised",
            {
                "self.attention(self.norm_attention(x))": "self.attention(x)",
                "self.mlp(self.norm_mlp(x))": "self.mlp(x)",
            },
            "Two of the layers that `__init__` makes are not used yet.",
        ),
        Misconception(
            "normalised afterwards",
            {
                "x + self.attention(self.norm_attention(x))": "self.norm_attention(x + self.attention(x))",
                "x + self.mlp(self.norm_mlp(x))": "self.norm_mlp(x + self.mlp(x))",
            },
            "Pre-norm: the way from input to output stays free of normalisation.",
        ),
        Misconception(
            "one normalisation for both",
            {
                "self.mlp(self.norm_mlp(x))": "self.mlp(self.norm_attention(x))",
            },
            "There are two norms, and each has its own weights.",
        ),
        Misconception(
            "side by side instead of one after the other",
            {
                "x = x + self.attention(self.norm_attention(x))\n        return x + self.mlp(self.norm_mlp(x))": "return x + self.attention(self.norm_attention(x)) + self.mlp(self.norm_mlp(x))",
            },
            "The MLP reads what attention has added.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"x": normal(g, 2, 5, 8), "numbers": 0.5 * normal(g, 1009)}

    @staticmethod
    def probe(answer: Any, x: Tensor, numbers: Tensor) -> dict[str, Any]:
        block, at = set_parameters(answer(8, 2), numbers), x.clone().requires_grad_()
        output = block(at)
        return {
            "output": output,
            "gradient at x": gradients(output, at)[0],
            "gradient at the parameters": parameter_gradients(output, block),
        }


class WholeGPT(Check):
    id = "4.3"
    answer = "GPT"
    blank = ("forward",)
    hint = "Two embeddings are added, then the blocks one after the other, then the norm and the head."
    misconceptions = [
        Misconception(
            "no positions",
            {"x = self.token_embedding(x) + positions": "x = self.token_embedding(x)"},
            "Shuffle the early tokens: can the last output tell the difference?",
        ),
        Misconception(
            "positions counted from the end",
            {
                "torch.arange(T, device=x.device)": "torch.arange(T, device=x.device).flip(0)",
            },
            "Add a token at the end: no earlier output may change.",
        ),
        Misconception(
            "one position for all",
            {
                "torch.arange(T, device=x.device)": "torch.zeros(T, dtype=torch.long)",
            },
            "Every place in the row has a position of its own.",
        ),
        Misconception(
            "no dropout", {"        x = self.drop(x)\n": ""}, "One of the layers that `__init__` makes is not used yet."
        ),
        Misconception(
            "no final norm",
            {"self.head(self.norm(x))": "self.head(x)"},
            "What do the blocks add up to before the head reads it?",
        ),
        Misconception(
            "every block reads the input",
            {
                "        for block in self.blocks:\n            x = block(x)": "        x = sum(block(x) for block in self.blocks)",
            },
            "Depth means that a block reads what the block before it wrote.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"x": normal(g, 2, 5, 3), "numbers": 0.3 * normal(g, 2003)}

    @staticmethod
    def probe(answer: Any, x: Tensor, numbers: Tensor) -> dict[str, Any]:
        gpt = set_parameters(answer(3, 4, width=8, n_layer=2, n_head=2, block_size=6), numbers)
        bare = answer(3, 4, width=8, n_layer=1, n_head=2, block_size=6, dropout=0.5).train()
        bare.blocks[0] = bare.norm = bare.head = nn.Identity()  # so that zeros stay zeros
        at = x.clone().requires_grad_()
        output = gpt(at)
        return {
            "output": output,
            "output for the first tokens": gpt(x[:, :3]),
            "gradient at x": gradients(output, at)[0],
            "gradient at the parameters": parameter_gradients(output, gpt),
            "output for a row of full length": gpt(torch.cat([x, x[:, :1]], dim=1)),
            "something is dropped in training": bool((bare(x) == 0).any()),
            "a row that is too long is refused": refuses(lambda: gpt(x.repeat(1, 2, 1))),
        }
