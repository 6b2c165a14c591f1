"""Evaluation without a simulator: a policy's chunks against what was done, on demonstrations that were not trained on.

Open loop: what is observed comes from the demonstrations, whatever the policy would have done. A small error does not
say that a robot succeeds, a large one says that it will not.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqbet_course.core.bounds import span_of
from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_atomically, write_json, write_text
from vqbet_course.core.pages import render
from vqbet_course.core.records import made_by
from vqbet_course.core.specs import Field
from vqbet_course.core.units import places_of
from vqbet_course.datasets.source import Source
from vqbet_course.datasets.stored_images import StoredImages, as_seen
from vqbet_course.demos import Demos, Windows, load_demos
from vqbet_course.evaluation.held_out import (
    Decisions,
    decide_along,
    difference_with_remedy,
    held_out_episodes,
    knows_training,
    training_demos,
    windows_of,
)
from vqbet_course.training.runs import IMAGES, Run

HISTORY = 2
"""Actions before a decision that the baselines look at."""

BASELINES = {"stay": "stay", "repeat": "repeat the last move"}
"""{key of a baseline that looks at nothing: its name}: the last action again, the last change of the action again."""

NAMES = {"policy": "policy"} | BASELINES
"""{key in offline.json: its name}"""

TIMED = 200
"""Steps at most whose latency is measured."""


def evaluate_offline(run: Run, data: str, out: Path, split: Path | None = None, part: str = "val") -> dict[str, Any]:
    """Compare a policy with held-out demonstrations; write offline.json, offline.html and chunks.png into `out`.

    data: a SOURCE, of which `split` says what is held out; without it, what the run was not trained on. `held_out` of the
    result is None where the run does not know what it was trained on. Raises BadInput for a policy with goals, for data
    that do not fit the run, or where nothing is held out."""
    config = run.policy.config
    if config.goal_shape is not None:
        raise BadInput(f"{run.path}: is given goals, which demonstrations do not state; evaluate it in its environment")
    source = run.plan.open(data)
    everything = load_demos(source, [*config.image_shapes, *config.observation_sizes], run.plan.image_cache(out))
    check_like_training(run, everything)
    episodes = held_out_episodes(run, source, split, part)
    demos = everything.select(episodes)
    windows = windows_of(run, demos)
    try:
        found = decide_along(run, demos, windows, moments_to_decide(demos, windows))
        acted, milliseconds = act_along(run, demos)
    finally:
        shutil.rmtree(out / IMAGES, ignore_errors=True)
    errors = errors_of(found, demos.action[found.row[:, None] + np.arange(-HISTORY, 0)])
    result = {
        "schema": "vqbet_course/offline/1",
        "data": data,
        "episodes": episodes,
        "held_out": True if knows_training(run) else None,
        "frames": len(demos.action),
        "decisions": len(found.row),
        "contract": run.contract.to_dict(),
        "units": run.contract.action.unit_of_each,
        "joints": joint_names(run.contract.action, source),
        "errors": errors,
        "verdict": against_baselines(errors, action_spans(run)),
        "tokens": decided_codes(found.codes, config.vqvae_n_embed, known_codes(run)),
        "latency_ms": step_latency(milliseconds, run.contract.fps),
        "roughness": {"policy": roughness(acted), "demonstrations": roughness(demos.action[: len(acted)])},
        "config": config.to_dict(),
        "made_by": made_by(),
    }
    write_json(out / "offline.json", result)
    write_figure(out / "chunks.png", demos, found, result)
    write_page(out / "offline.html", result)
    return result


def check_like_training(run: Run, demos: Demos) -> None:
    """Raise BadInput, naming the feature, unless the demonstrations are of what the run was trained on."""
    differs = difference_with_remedy(run.contract, demos.contract.observing(run.contract.observation))
    if differs:
        raise BadInput(f"{demos.source}: is not like what {run.path} was trained on; {differs}")


def moments_to_decide(demos: Demos, windows: Windows) -> torch.Tensor:
    """The windows (N,) that have HISTORY actions before them. Raises BadInput where there are none."""
    now = windows.observation_index[:, -1].numpy()
    episode = np.searchsorted(demos.episode_ends, now, side="right")
    found = torch.from_numpy(np.flatnonzero(now - demos.episode_starts[episode] >= HISTORY))
    if not len(found):
        raise BadInput(f"{demos.source}: no held-out episode is as long as a window and {HISTORY} frames more")
    return found


def errors_of(decisions: Decisions, before: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """{steps ahead: {who: mean absolute error of each joint}} of the policy and of two baselines that look at nothing:
    BASELINES. before (N, HISTORY, A): the actions before each decision."""
    n_steps = decisions.done.shape[1]
    last, move = before[:, -1], before[:, -1] - before[:, -2]
    found = {}
    for ahead in sorted({1, max(1, n_steps // 2), n_steps}):
        done = decisions.done[:, ahead - 1]
        guesses = {"policy": decisions.decided[:, ahead - 1], "stay": last, "repeat": last + ahead * move}
        found[str(ahead)] = {who: np.abs(guess - done).mean(0).tolist() for who, guess in guesses.items()}
    return found


def decided_codes(codes: np.ndarray, n_embed: int, known: set[tuple[int, ...]] | None) -> dict[str, Any]:
    """Which codes (N, G) are decided: the share of each layer's that occur, the perplexity of the pairs, and the share
    of decisions whose codes no demonstration of the training has; None where those cannot be read."""
    rows, counts = np.unique(codes, axis=0, return_counts=True)
    share = counts / counts.sum()
    unseen = (
        None
        if known is None
        else sum(int(n) for row, n in zip(rows.tolist(), counts, strict=True) if tuple(row) not in known) / len(codes)
    )
    return {
        "used": [len(np.unique(layer)) / n_embed for layer in codes.T],
        "combinations": len(rows),
        "perplexity": float(np.exp(-(share * np.log(share)).sum())),
        "unseen": unseen,
    }


@torch.no_grad()
def known_codes(run: Run) -> set[tuple[int, ...]] | None:
    """The codes of all chunks that the run was trained on; None where its data are no longer there."""
    demos = training_demos(run, [*run.policy.config.observation_sizes])
    if demos is None:
        return None
    chunks, network = windows_of(run, demos).chunks, run.policy.network
    codes = torch.cat([network.vqvae.encode(part.to(next(network.parameters()).device)) for part in chunks.split(4096)])
    return set(map(tuple, torch.unique(codes, dim=0).tolist()))


def act_along(run: Run, demos: Demos) -> tuple[np.ndarray, np.ndarray]:
    """The actions (n, A) that the policy executes along the first held-out frames, and what each step takes (n,), ms."""
    policy = run.policy.eval()
    seen = {
        name: values if isinstance(values, StoredImages) else run.normalizer.normalize(name, torch.from_numpy(values))
        for name, values in demos.observation.items()
    }
    starts, acted, spent = set(demos.episode_starts.tolist()), [], []
    for row in range(min(TIMED, len(demos.action))):
        if row in starts:
            policy.reset([torch.Generator().manual_seed(row)])
        observation = {name: as_seen(values[row : row + 1]) for name, values in seen.items()}
        begin = time.perf_counter()
        action = policy.select_action(observation)
        spent.append(1000 * (time.perf_counter() - begin))
        acted.append(run.normalizer.unnormalize("action", action)[0].numpy())
    return np.array(acted), np.array(spent)


def step_latency(milliseconds: np.ndarray, fps: float) -> dict[str, float]:
    """Half and 95 % of the steps take at most so long; the control period; the share of steps that take longer."""
    period = 1000 / fps
    return {
        "p50": float(np.quantile(milliseconds, 0.5)),
        "p95": float(np.quantile(milliseconds, 0.95)),
        "period": period,
        "late": float((milliseconds > period).mean()),
    }


def roughness(actions: np.ndarray) -> list[float]:
    """The mean absolute second difference of actions (n, A), of each joint: 0 for an even move."""
    return np.abs(np.diff(actions, n=2, axis=0)).mean(0).tolist() if len(actions) > 2 else [0.0] * actions.shape[1]


def joint_names(action: Field, source: Source) -> list[str]:
    """The names of the action's numbers: of the run's contract, else of the source, numbered where neither states them."""
    return replace(action, names=action.names or tuple(source.names.get("action", ()))).name_of_each("action")


def action_spans(run: Run) -> np.ndarray:
    """By what errors (A,) of the action are divided to compare them: the range of each number that the run normalises by,
    that of demonstrated actions and, where chunks are relative, states; 1 for a number that never changes."""
    return span_of(*run.normalizer.bounds["action"]).numpy()


def against_baselines(errors: dict[str, dict[str, list[float]]], spans: np.ndarray) -> dict[str, Any]:
    """Whether a policy is better than both baselines where it matters most, at the end of its chunk, and that in a
    sentence. Errors of several joints are compared as shares of their `spans` (A,), the mean of which counts."""
    scores = {
        ahead: {who: float(np.mean(np.array(e) / spans)) for who, e in each.items()} for ahead, each in errors.items()
    }
    best = {ahead: min(BASELINES, key=scores[ahead].__getitem__) for ahead in scores}
    better = [ahead for ahead in scores if scores[ahead]["policy"] < scores[ahead][best[ahead]]]
    last, worse = max(scores, key=int), [ahead for ahead in scores if ahead not in better]
    if last not in better:
        sentence = (
            f"the policy is no better than to {BASELINES[best[last]]} at {last} steps ahead, so it will not work on the "
            "robot: train longer, or look for faults in the data with vqbet-course demos inspect"
        )
    else:
        but = f", not at {' and '.join(worse)}" if worse else ""
        sentence = f"the policy is better than both baselines at {', '.join(better)} steps ahead{but}"
    return {"better": last in better, "sentence": sentence, "scores": scores}


def means_in_words(values: Sequence[float], units: Sequence[str]) -> str:
    """The mean over the joints of each unit, like `1.2 deg, 3 %`."""
    means = {unit: np.mean(np.asarray(values)[places]) for unit, places in places_of(units).items()}
    return ", ".join(f"{mean:.3g} {unit}" for unit, mean in means.items())


def episodes_in_words(result: dict[str, Any]) -> str:
    """Which episodes were compared with, and whether they were held out."""
    n = len(result["episodes"])
    many = "episode" if n == 1 else "episodes"
    if result["held_out"]:
        return f"{n} held-out {many}"
    return f"{n} {many}; the run does not say whether it was trained on them, so errors on others may be larger"


def describe_offline(result: dict[str, Any]) -> list[str]:
    """What is told of an offline.json, line by line."""
    lines = [episodes_in_words(result)]
    for ahead, errors in result["errors"].items():
        each = [f"{who}: {means_in_words(errors[key], result['units'])}" for key, who in NAMES.items()]
        lines.append(f"error {ahead} {'step' if ahead == '1' else 'steps'} ahead: {'; '.join(each)}")
    lines.append(f"verdict: {result['verdict']['sentence']}")
    spent, tokens = result["latency_ms"], result["tokens"]
    lines.append(
        f"a step takes {spent['p50']:.1f} ms (p50), {spent['p95']:.1f} ms (p95); the control period is "
        f"{spent['period']:.1f} ms, {spent['late']:.0%} of the steps take longer"
    )
    unseen = (
        ""
        if tokens["unseen"] is None
        else f", {tokens['unseen']:.1%} of the decisions have codes no training chunk has"
    )
    return [*lines, f"{tokens['combinations']} combinations of codes, perplexity {tokens['perplexity']:.1f}{unseen}"]


def write_figure(path: Path, demos: Demos, decisions: Decisions, result: dict[str, Any]) -> None:
    """Draw, for each joint, what was done in the first episode, and the chunks decided along it."""
    from matplotlib.figure import Figure

    end, joints = int(demos.episode_ends[0]), result["joints"]
    figure = Figure(figsize=(11, 1.6 * len(joints) + 0.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(joints), 1, sharex=True))
    n_steps = decisions.done.shape[1]
    first = [i for i, row in enumerate(decisions.row) if row < end][:: max(1, n_steps)]
    for joint, axes in enumerate(panels):
        axes.plot(demos.action[:end, joint], color="0.3", lw=1.5, label="demonstrated")
        for i in first:
            axes.plot(
                decisions.row[i] + np.arange(n_steps),
                decisions.decided[i, :, joint],
                color="#D55E00",
                lw=1.2,
                label="decided" if i == first[0] else None,
            )
        axes.set_ylabel(f"{joints[joint]}\n({result['units'][joint]})", fontsize=8)
    panels[-1].set_xlabel("frame")
    panels[0].legend(fontsize=8, ncols=2)
    write_atomically(path, lambda partial: figure.savefig(partial, dpi=90, format="png"))


def write_page(path: Path, result: dict[str, Any]) -> None:
    """Write the report as one page, with the figure beside it."""
    page = render("offline_report.html", result=result, lines=describe_offline(result), names=NAMES)
    write_text(path, page)
