"""Training in bfloat16: the same network, loss and dropout as in the lessons, with less work for the processor.

Three functions take the place of a module's `forward`: `in_bfloat16`, `drop_by_bytes`, `mlp_at`. They keep its weights and
their names, so checkpoints are the same.
"""

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn

from vqbet_course.core.configuration import VQBeTConfig
from vqbet_course.gpt import Block
from vqbet_course.policy import VQBeT, token_sequence

WIDE_PARTS = ("gpt", "offset_head", "encoder.images", "mlp", "velocity", "policy.model", "policy.diffusion.unet")
"""The parts of all policies that bfloat16 is for: nearly all of the work is done there."""


def set_precision(module: nn.Module, precision: str) -> None:
    """Compute the matrix products of a module's WIDE_PARTS in this precision. Their results, the weights, norms and losses
    are float32 in any case. Takes back what it did before."""
    for part in module.modules():
        part.__dict__.pop("forward", None)
    if precision != "bfloat16":
        return
    for part in wide_parts(module):
        replace_forward(part, in_bfloat16)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            replace_forward(part, drop_by_bytes)
    if isinstance(module, VQBeT):
        replace_forward(module.gpt.blocks[-1], partial(mlp_at, answered_places(module.config)))


def wide_parts(module: nn.Module) -> list[nn.Module]:
    """Those of WIDE_PARTS that a module has."""
    named = dict(module.named_modules())
    return [named[name] for name in WIDE_PARTS if name in named]


def replace_forward(part: nn.Module, function: Callable[..., Any]) -> None:
    """Call `function(forward, ...)` in place of a module's `forward`. A copy of the module calls its own."""
    part.__dict__["forward"] = partial(function, part.forward)


def in_bfloat16(forward: MethodType, *args: Any, **options: Any) -> Any:
    """What a function returns, in float32, when its matrix products are computed in bfloat16."""
    part = cast(nn.Module, forward.__self__)  # it may be called with tensors in a dictionary
    device = next(part.parameters()).device.type
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # for the CPU, too: attention stays in bfloat16
    try:
        with torch.autocast(device, torch.bfloat16):
            return in_float32(forward(*args, **options))
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)


def in_float32(value: Any) -> Any:
    """A tensor, or tuples of them, as float32; anything else as it is."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    return tuple(map(in_float32, value)) if type(value) is tuple else value


def drop_by_bytes(forward: MethodType, x: Tensor) -> Tensor:
    """Dropout on the CPU with one random byte for each number, a fifth of PyTorch's time. The probability is a multiple of
    1/256, and what is kept is scaled by its inverse."""
    layer = cast(nn.Dropout, forward.__self__)
    kept = round(256 * (1 - layer.p))
    if not (layer.training and 0 < kept < 256 and x.device.type == "cpu"):
        return forward(x)
    n = x.numel()
    drawn = torch.empty((n + 7) // 8, dtype=torch.int64).random_(-(2**63), None).view(torch.uint8)
    mask = (drawn[:n].view(x.shape) < kept).to(x.dtype)
    return x * mask.mul_(256 / kept)


def mlp_at(places: list[int], forward: MethodType, x: Tensor) -> Tensor:
    """The output (B, L, D) of a GPT's last block in training, at `places`; elsewhere without its MLP, for nobody reads it."""
    block = cast(Block, forward.__self__)
    if not block.training:
        return forward(x)
    x = x + block.attention(block.norm_attention(x))
    read = x[:, places]
    return x.index_copy(1, torch.tensor(places, device=x.device), read + block.mlp(block.norm_mlp(read)))


def answered_places(c: VQBeTConfig) -> list[int]:
    """The places of a row of tokens that are answered in training, goals in front included."""
    goals = c.goal_shape[0] if c.goal_shape else 0
    tokens = torch.empty(1, c.n_obs_steps, c.tokens_per_step, 1)
    query = torch.empty(1, 1, 1, 1) if c.action_queries else None
    _, places = token_sequence(tokens, query, c.n_action_pred_token - 1)
    return [goals + place for place in places]
