"""The shipped policy for the reader's browser: its weights as a script, and the board on which it pushes the T.

Pages are opened from files too, where a browser loads scripts and nothing else. So the weights are a script, in base64.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from vqbet_course.core.io import read_json, write_text
from vqbet_course.core.notebooks import Cell, source_lines
from vqbet_course.core.pages import render

SHIPPED = Path(__file__).parents[1] / "data" / "shipped"
WEIGHTS = "policy_weights.js"
NOT_USED = ("vqvae.encoder.", ".count", ".total", ".started")  # what only training reads
CONFIG = (
    "n_obs_steps",
    "action_chunk_size",
    "gpt_n_layer",
    "gpt_n_head",
    "vqvae_n_embed",
    "vqvae_embedding_dim",
    "bet_softmax_temperature",
    "average_chunks",
)
"""What policy.js asks of a configuration."""

READ_AS: dict[str, Any] = {
    "action_queries": False,
    "sequentially_select": True,
    "use_relative_actions": True,
    "n_action_steps": 1,
    "vqvae_n_layers": 2,
    "goal_shape": None,
    "image_shapes": {},
}
"""What policy.js takes for granted of a configuration."""


INTRODUCTION = """## Try it here

The policy that comes with the course runs in this page, on your own machine. Ten times a second it sees the board, draws two
codes, and decides a chunk of four actions; the pusher executes one of them. Drag the T away, and see it recover."""


def write_weights(out: Path, run: Path = SHIPPED) -> None:
    """Write the script `out`, which gives policy.js what a run directory holds: `globalThis.POLICY_DATA`."""
    write_text(out, f"globalThis.POLICY_DATA = {json.dumps(policy_data(run))};\n")


def policy_data(run: Path) -> dict[str, Any]:
    """{config; normalizer; tensors {name: its first number}; base64, all numbers in a row, as float32 of little endian}.

    Raises ValueError for a policy of another kind than policy.js computes."""
    config = read_json(run / "config.json", dict)
    if other := {name: config[name] for name, value in READ_AS.items() if config[name] != value}:
        raise ValueError(f"{run}: policy.js computes no policy with {other}")
    tensors = {name: values for name, values in load_file(run / "model.safetensors").items() if is_used(name)}
    starts = np.cumsum([0, *(values.size for values in tensors.values())]).tolist()
    numbers = np.concatenate([values.ravel() for values in tensors.values()]).astype("<f4")
    return {
        "config": {name: config[name] for name in CONFIG},
        "normalizer": read_json(run / "normalizer.json", dict),
        "tensors": dict(zip(tensors, starts, strict=False)),
        "base64": base64.b64encode(numbers.tobytes()).decode("ascii"),
    }


def is_used(name: str) -> bool:
    """Whether acting reads a tensor of model.safetensors."""
    return not any(part in name for part in NOT_USED)


def board_cell() -> Cell:
    """The cell of the front page with the board: a drawing, which policy.js, pusht.js and live.js bring to life."""
    text = f"{INTRODUCTION}\n\n```{{=html}}\n{render('live.html', weights=WEIGHTS)}\n```\n"
    return {"cell_type": "markdown", "id": "live", "metadata": {}, "source": source_lines(text)}
