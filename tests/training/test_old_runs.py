"""Run directories and checkpoints of version 0.1 load as they are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from small import CONFIG, same, small_run

from vqbet_course.training.checkpoints import read_checkpoint
from vqbet_course.training.runs import load_run
from vqbet_course.training.trainer import resume

FIELDS_OF_0_1 = {
    "n_obs_steps",
    "n_action_pred_token",
    "action_chunk_size",
    "vision_backbone",
    "crop_shape",
    "crop_is_random",
    "pretrained_backbone_weights",
    "use_group_norm",
    "spatial_softmax_num_keypoints",
    "n_vqvae_training_steps",
    "vqvae_n_embed",
    "vqvae_embedding_dim",
    "vqvae_enc_hidden_dim",
    "gpt_block_size",
    "gpt_input_dim",
    "gpt_output_dim",
    "gpt_n_layer",
    "gpt_n_head",
    "gpt_hidden_dim",
    "dropout",
    "offset_loss_weight",
    "primary_code_loss_weight",
    "secondary_code_loss_weight",
    "bet_softmax_temperature",
    "sequentially_select",
    "optimizer_lr",
    "optimizer_betas",
    "optimizer_eps",
    "optimizer_weight_decay",
    "optimizer_vqvae_lr",
    "optimizer_vqvae_weight_decay",
    "scheduler_warmup_steps",
    "vqvae_n_layers",
    "offset_code",
    "observation_sizes",
    "image_shapes",
    "goal_shape",
    "action_dim",
    "use_relative_actions",
    "n_action_steps",
    "average_chunks",
    "vqvae_batch_size",
    "batch_size",
    "ema_decay",
}


PLAN_OF_0_1 = ("data", "steps", "vqvae_steps", "seed", "augment", "threads", "goal")


def as_0_1(run: Path, goal: str) -> None:
    """Rewrite a run on PushT as 0.1 laid it out: without checksums, its configuration and plan had these fields, and the
    encoders of a policy with goals were wrapped."""

    def renamed(name: str) -> str:
        return name if goal == "none" else name.replace("encoder.project", "encoder.encoder.project")

    for file in ("model.safetensors", "train_state.safetensors"):
        at = read_checkpoint(run)
        assert at is not None
        where = {"stage": str(at.stage), "step": str(at.step)} if file.startswith("train") else None
        save_file({renamed(name): value for name, value in load_file(run / file).items()}, run / file, metadata=where)
    (run / "checksums.json").unlink()
    for file, known in (("config.json", FIELDS_OF_0_1), ("train_state.json", PLAN_OF_0_1)):
        values = json.loads((run / file).read_text())
        (run / file).write_text(json.dumps({name: values[name] for name in known}))


@pytest.mark.parametrize("goal", ["none", "future"])
def test_a_run_of_0_1_loads_and_resumes(goal: str, tmp_path: Path) -> None:
    known = replace(CONFIG, action_queries=True, teacher_forcing=False)  # 0.1 knew these alone
    run = small_run(tmp_path, goal=goal, config=known)
    now = load_run(run)
    as_0_1(run, goal)
    wrapped = any("encoder.encoder" in name for name in load_file(run / "model.safetensors"))
    assert wrapped is (goal != "none") and not (run / "checksums.json").exists()
    old = load_run(run)
    assert same(dict(old.policy.network.state_dict()), dict(now.policy.network.state_dict()))
    assert old.policy.config == now.policy.config and old.policy.acting == CONFIG.acting
    assert same(dict(resume(run, quiet=True).network.state_dict()), dict(now.policy.network.state_dict()))
