"""Lesson 03: the chunk VQ-VAE."""

from typing import Any

import torch
from torch import Tensor

from vqbet_course.grading.checks import Check, Misconception, normal
from vqbet_course.grading.runner import gradients, parameter_gradients, refuses, set_parameters
from vqbet_course.vqvae import Tokenized


class Layers(Check):
    """Exercise 3.1: `mlp`."""

    id = "3.1"
    answer = "mlp"
    hint = "One linear layer per width. What stands between two of them, and what after the last?"
    misconceptions = [
        Misconception(
            "ReLU after the last layer",
            {
                "return nn.Sequential(*layers, nn.Linear(in_dim, widths[-1]))": "return nn.Sequential(*layers, nn.Linear(in_dim, widths[-1]), nn.ReLU())",
            },
            "Can your network answer with a negative number?",
        ),
        Misconception(
            "no ReLU at all",
            {", nn.ReLU()]": "]"},
            "Several linear layers in a row are one linear layer. What makes the difference?",
        ),
        Misconception(
            "a hidden layer is missing",
            {"in widths[:-1]": "in widths[:-2]"},
            "Count the linear layers: one for each width.",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"x": normal(g, 2, 6, 3), "numbers": normal(g, 211)}

    @staticmethod
    def probe(answer: Any, x: Tensor, numbers: Tensor) -> dict[str, Any]:
        deep, flat = set_parameters(answer(3, 5, 5, 4), numbers), set_parameters(answer(3, 4), numbers)
        at = x.clone().requires_grad_()
        output = deep(at)
        return {
            "output": output,
            "output without hidden layers": flat(x),
            "gradient at x": gradients(output, at)[0],
            "gradient at the parameters": parameter_gradients(output, deep),
            "number of parameters": sum(p.numel() for p in deep.parameters()),
        }


class ChunksAndCodes(Check):
    """Exercise 3.2: `ActionVQVAE`."""

    id = "3.2"
    answer = "ActionVQVAE"
    blank = ("forward", "embed", "encode", "decode")
    hint = "chunks -> flat -> encoder -> quantizer -> decoder -> chunks. Which of them has what the decoder reads?"
    misconceptions = [
        Misconception(
            "the decoder reads the embedding",
            {
                "self.decoder(quantized.values)": "self.decoder(self.embed(chunks))",
            },
            "When the policy acts it has codes only. What has the decoder been trained to read?",
        ),
        Misconception(
            "no gradient reaches the encoder",
            {
                "self.decoder(quantized.values)": "self.decoder(quantized.values.detach())",
            },
            "The reconstruction is right. Does its loss teach the encoder anything?",
        ),
        Misconception(
            "squared instead of absolute error",
            {
                "F.l1_loss(reconstruction, chunks)": "F.mse_loss(reconstruction, chunks)",
            },
            "The docstring of Tokenized says which error it is.",
        ),
        Misconception(
            "commitment averaged over layers",
            {
                "quantized.commit_loss.sum()": "quantized.commit_loss.mean()",
            },
            "The docstring of Tokenized says what happens to the layers' losses.",
        ),
        Misconception(
            "time and action exchanged",
            {
                "reconstruction = self.decoder(quantized.values).unflatten(1, self.chunk_shape)": "reconstruction = self.decoder(quantized.values).unflatten(1, "
                "self.chunk_shape[::-1]).transpose(1, 2)",
            },
            "In a flat chunk, do the numbers of one action lie side by side, or those of one dimension?",
        ),
        Misconception(
            "only the first code is decoded",
            {
                "self.vq.lookup(codes)": "self.vq.lookup(codes[:, :1])",
            },
            "`decode` of all codes has to give what `forward` reconstructs.",
        ),
        Misconception(
            "the generator goes no further",
            {"embed(chunks), generator)": "embed(chunks))"},
            "Two runs with the same generator should place the codes alike. Who draws in the quantizer?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"chunks": normal(g, 6, 4, 2), "numbers": 0.5 * normal(g, 997), "codebooks": normal(g, 2, 5, 3)}

    @staticmethod
    def probe(answer: Any, chunks: Tensor, numbers: Tensor, codebooks: Tensor) -> dict[str, Any]:
        vqvae = set_parameters(answer(4, 2, n_codes=5, n_layers=2, embedding_dim=3, hidden_dim=8), numbers)
        for layer, codebook in zip(vqvae.vq.layers, codebooks):
            layer.place(codebook)
        out = vqvae(chunks)
        twins = [
            set_parameters(answer(4, 2, n_codes=5, embedding_dim=3, hidden_dim=8), numbers).train() for _ in range(2)
        ]
        for twin in twins:
            twin(chunks, torch.Generator().manual_seed(1))
        return {
            "reconstruction": out.reconstruction,
            "codes": out.codes,
            "recon_loss": out.recon_loss,
            "commit_loss": out.commit_loss,
            "gradient of recon_loss at the parameters": parameter_gradients(out.recon_loss, vqvae),
            "gradient of commit_loss at the parameters": parameter_gradients(out.commit_loss, vqvae),
            "gradient of the reconstruction at the parameters": parameter_gradients(out.reconstruction, vqvae),
            "gradient of embed at the parameters": parameter_gradients(vqvae.embed(chunks), vqvae),
            "embed": vqvae.embed(chunks),
            "encode": vqvae.encode(chunks),
            "decode": vqvae.decode(out.codes),
            "decode of the first codes": vqvae.decode(out.codes[:, :1]),
            "difference between runs with equal generators": twins[0].vq.codebooks - twins[1].vq.codebooks,
            "chunks of another shape are refused": refuses(lambda: vqvae(chunks.transpose(1, 2))),
        }


class Loss(Check):
    """Exercise 3.3: `vqvae_loss`."""

    id = "3.3"
    answer = "vqvae_loss"
    hint = "Two terms, one weight."
    misconceptions = [
        Misconception(
            "the weight on the wrong term",
            {
                "out.recon_loss + commit_weight * out.commit_loss": "commit_weight * out.recon_loss + out.commit_loss",
            },
            "What is commit_weight the weight of?",
        ),
        Misconception(
            "commitment without weight",
            {"commit_weight * out.commit_loss": "out.commit_loss"},
            "Try it with another commit_weight: does anything change?",
        ),
        Misconception(
            "no commitment", {" + commit_weight * out.commit_loss": ""}, "Nothing keeps the embeddings near the codes."
        ),
        Misconception(
            "one weight for all",
            {"commit_weight * out.commit_loss": "5.0 * out.commit_loss"},
            "Try it with another commit_weight: does anything change?",
        ),
        Misconception(
            "commitment without a gradient",
            {
                "commit_weight * out.commit_loss": "commit_weight * out.commit_loss.detach()",
            },
            "The value is right. Does the second term teach the encoder anything?",
        ),
    ]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        return {"recon": normal(g).abs(), "commit": normal(g).abs(), "weight": 2 + normal(g).abs()}

    @staticmethod
    def probe(answer: Any, recon: Tensor, commit: Tensor, weight: Tensor) -> dict[str, Any]:
        nothing, parts = torch.zeros(1, 1, 1), [recon.clone().requires_grad_(), commit.clone().requires_grad_()]
        out = Tokenized(nothing, nothing[0].long(), *parts)
        return {
            "loss": answer(out),
            "loss with a weight": answer(out, weight.item()),
            "gradient at the two losses": torch.stack(gradients(answer(out), *parts)),
            "gradient with a weight": torch.stack(gradients(answer(out, weight.item()), *parts)),
        }
