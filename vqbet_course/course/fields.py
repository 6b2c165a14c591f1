"""What every field of a VQBeTConfig does, and what goes wrong when it is badly chosen; lesson 06 shows it as a table."""

from dataclasses import MISSING, fields
from typing import Any

MEANING = {
    "n_obs_steps": "steps in the window. 1: no velocity; many: it copies its own last motion",
    "n_action_pred_token": "queries for now and later. More: more lessons per window, none of them acted out",
    "action_chunk_size": "W. Short: dithers at forks; long: blind for long, and harder to put into codes",
    "n_vqvae_training_steps": "steps of stage 1. Too few: coarse codes, for good, since they are frozen",
    "vqvae_n_embed": "K. Few: coarse moves; many: rare codes that the predictor never learns",
    "vqvae_n_layers": "G. 1: coarse; each layer more refines, and is one more choice to get wrong",
    "vqvae_embedding_dim": "width in which codes live. Too small: layers cannot tell chunks apart",
    "vqvae_enc_hidden_dim": "width of the tokenizer's MLPs. Too small: blurred chunks",
    "vqvae_batch_size": "chunks per step of stage 1. Small: more codes die",
    "use_relative_actions": "codes are moves, not places. Off: larger reconstruction error",
    "gpt_block_size": "longest row of tokens. Too short: refused",
    "gpt_input_dim": "width of observation tokens and queries. Small: details of the board are lost",
    "gpt_output_dim": "width of what the heads read. Small: codes and offset compete",
    "gpt_hidden_dim": "width inside. Large: slow on a CPU, and overfits a few demonstrations",
    "gpt_n_layer": "blocks. Many: slow; few: cannot combine steps",
    "gpt_n_head": "heads per block; must divide gpt_hidden_dim",
    "dropout": "share of activations forgotten in training. 0: overfits; above 0.3: blurred choices",
    "observation_sizes": "names and sizes of what is seen. They must be those of the demonstrations",
    "goal_shape": "goals in front of the window (lesson 11), number and width. None: one task only",
    "image_shapes": "names and shapes of the cameras, each a token per step. They must be those of the data",
    "action_dim": "A, numbers per action",
    "vision_backbone": "ResNet of the camera. Deeper: slower, rarely better in simulation",
    "crop_shape": "pixels kept of an image. Too small: the T leaves the picture",
    "crop_is_random": "random crops in training. Off: the policy learns pixel positions by heart",
    "pretrained_backbone_weights": "weights to start from, fetched from the network; None: from scratch",
    "use_group_norm": "group instead of batch norm. Off with moving averages: statistics disagree",
    "spatial_softmax_num_keypoints": "places that the camera reports. Few: the T's angle is lost",
    "offset_loss_weight": "weight of the corrected chunk. High: the GPT serves the offset, not the codes",
    "primary_code_loss_weight": "weight of the first layer's code. Low: wrong moves, finely corrected",
    "secondary_code_loss_weight": "weight of the later layers' codes. High: distracts from the move",
    "offset_code": "sampled: repairs wrong codes, mixes modes; ground_truth: keeps modes, repairs nothing",
    "sequentially_select": "later codes given the first. Off: pairs that no demonstration contains",
    "bet_softmax_temperature": "0: always the likeliest code, gets stuck; above 1: wild",
    "optimizer_lr": "step size of stage 2. High: diverges; low: unfinished when time is up",
    "optimizer_betas": "memory of AdamW for gradient and its square. Long: slow to turn",
    "optimizer_eps": "floor in AdamW's division. Large: rare codes hardly learn",
    "optimizer_weight_decay": "pull of the weights towards 0. Low: overfits; high: underfits",
    "optimizer_vqvae_lr": "step size of stage 1. High: codes run away from their chunks and die",
    "optimizer_vqvae_weight_decay": "the same pull in stage 1",
    "scheduler_warmup_steps": "steps of growing step size. 0: the first steps can wreck the attention",
    "batch_size": "windows per step of stage 2. Small: noisy; large: fewer steps in the same time",
    "ema_decay": "moving average of the weights that act. 0: a policy that changes from step to step",
    "n_action_steps": "actions per decision. 1: dithers; the whole chunk: blind to a shove",
    "average_chunks": "average overlapping chunks. On: smooth, and through the middle of a fork",
}


def field_table(config: type, laptop: dict[str, Any], n_lerobot: int) -> str:
    """A Markdown table of a configuration's fields: default, what the laptop's configuration changes, meaning.

    The first `n_lerobot` fields are LeRobot's; the others are marked as the course's own."""
    lines = ["| field | default | laptop | what it does, and when it is off |", "|---|---|---|---|"]
    for i, f in enumerate(fields(config)):
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        changed = f"**{shown(laptop[f.name])}**" if laptop.get(f.name, default) != default else ""
        own = " (ours)" if i >= n_lerobot else ""
        lines.append(f"| `{f.name}`{own} | {shown(default)} | {changed} | {MEANING[f.name]} |")
    return "\n".join(lines)


def shown(value: Any) -> str:
    """A value as the table shows it."""
    return "the data's" if value is MISSING else str(value).replace("ResNet18_Weights.", "")
