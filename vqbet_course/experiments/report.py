"""A panel as one self-contained HTML page: table, figures, tests, claims, failures, videos."""

import base64
import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbet_course.core.pages import render
from vqbet_course.evaluation.results import progress_name_of, success_progress_of
from vqbet_course.evaluation.videos import video_html
from vqbet_course.experiments.verdicts import Results, outcomes, p_value, policies_of, shares
from vqbet_course.rollout import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "bc": "#0072B2",
    "bet": "#56B4E9",
    "act": "#009E73",
    "diffusion-ddpm100": "#CC79A7",
    "diffusion-ddim10": "#E69F00",
    "flow": "#333333",
    "vqbet": "#D55E00",
}


def rows(results: Results) -> list[dict[str, Any]]:
    """One row per policy: metrics over all its training seeds, success with a Wilson 95 % interval."""
    table = []
    for name in policies_of(results):
        own = [r for r in results if r["policy"] == name]
        episodes = [e for r in own for e in r["episodes"]]
        wins = sum(e["success"] for e in episodes)
        low, high = wilson(wins, len(episodes))
        best = np.array([e["max_coverage"] for e in episodes])
        middle = {key: float(np.median([r["metrics"]["latency_ms"][key] for r in own])) for key in ("p50", "p95")}
        table.append(
            {
                "policy": name,
                "seeds": len(own),
                "episodes": len(episodes),
                "parameters": own[0]["parameters"],
                "steps": int(np.mean([r["training"]["steps"] for r in own])),
                "chunk": own[0]["chunk"],
                "seconds": float(np.mean([r["training"]["seconds"] for r in own])),
                "success": wins / len(episodes),
                "low": low,
                "high": high,
                "reward": float(np.mean([r["metrics"]["avg_max_reward"] for r in own])),
                "progress": progress_name_of(own[0]),
                "max_coverage": float(best.mean()),
                "final_coverage": float(np.mean([e["final_coverage"] for e in episodes])),
                "latency": middle,
                "late": float(np.mean([r["metrics"]["timing_violations"] for r in own])),
                "behaviour": {
                    key: mean([r["metrics"]["behaviour"][key] for r in own])
                    for key in ("token_switches", "jerk", "offset_outweighs", "mode_entropy")
                },
                "ways": ways_row([r["metrics"] for r in own]),
            }
        )
    return table


def ways_row(metrics: list[dict[str, Any]]) -> dict[str, float | None]:
    """{milestone, or behaviour entropy: mean over training seeds} of a policy on a task that defines them, else {}."""
    shares = {
        name: float(np.mean([m["milestones"][name] for m in metrics])) for name in metrics[0].get("milestones", {})
    }
    if "behaviours" not in metrics[0]:
        return {**shares}
    entropies = {
        "behaviour entropy (bits)": [m["behaviours"]["entropy"] for m in metrics],
        "of the demonstrations": [m["behaviours"]["demonstrations"] for m in metrics],
    }
    return shares | {name: mean(values) for name, values in entropies.items()}


def ways_lines(results: Results) -> list[str]:
    """What `ways_row` says of each policy, as a line of text; none for a task that defines no behaviours."""
    return [
        f"{row['policy']:>17}: " + ", ".join(f"{name} {in_figures(value)}" for name, value in row["ways"].items())
        for row in rows(results)
        if row["ways"]
    ]


def in_figures(value: float | None) -> str:
    """A number with two decimals; `none` where no episode was solved."""
    return "none" if value is None else f"{value:.2f}"


def measured_rows(results: Results) -> list[dict[str, str]]:
    """Each policy of a panel as a row of text {column: value}: what it is, and what was measured of it."""
    return [
        {
            "policy": row["policy"],
            "success (95 %)": f"{row['success']:.0%} ({row['low']:.0%} to {row['high']:.0%})",
            "average max reward": f"{row['reward']:.3f}",
            **lost_at_the_fork(results, row["policy"]),
            "ms a decision": f"{row['latency']['p50']:.1f}",
            "parameters": f"{row['parameters'] / 1e6:.2f} M",
            "observes": f"{row['chunk']['n_obs_steps']}",
            "decides, executes": f"{row['chunk']['action_chunk_size']}, {row['chunk']['n_action_steps']}",
        }
        for row in rows(results)
    ]


def lost_at_the_fork(results: Results, policy: str) -> dict[str, str]:
    """The share of rollouts that a policy loses where navigation forks, as a cell of a row; none where it is not measured."""
    own = [r for r in results if r["policy"] == policy]
    if any(r.get("two_routes") is None for r in own):
        return {}
    return {"lost on the two routes": f"{shares(own, policy, 'two_routes')['crashed']:.0%}"}


def lost_rows(results: Results) -> list[dict[str, str]]:
    """Each policy of a panel as a row of text {column: value}: how near it came in the episodes that it lost."""
    return [
        {
            "policy": name,
            "lost episodes": str(len(lost)),
            "their max coverage": ", ".join(f"{best:.3f}" for best in lost),
        }
        for name in policies_of(results)
        for lost in [sorted(e["max_coverage"] for e in outcomes(results, name).values() if not e["success"])]
    ]


def mean(values: list[float | None]) -> float | None:
    """The mean; None where a policy does not have this metric."""
    return None if None in values else float(np.mean([v for v in values if v is not None]))


def learning_curves(results: Results) -> "Figure":
    """A figure: the error on held-out demonstrations against seconds of training, one line per policy and seed."""
    from matplotlib.ticker import LogLocator

    figure, ax = canvas(6, 3.4)
    named = set[str]()
    for result in (r for r in results if r["policy"] != "diffusion-ddim10"):  # the two samplers share one training
        name, curve = result["policy"], result["training"]["curve"]
        ax.plot(
            [p["seconds"] for p in curve],
            [p["error"] for p in curve],
            color=COLOURS[name],
            alpha=0.8,
            label=None if name in named else name.removesuffix("-ddpm100"),
        )
        named.add(name)
    ax.set(
        xlabel="training (s)",
        ylabel=f"error of the next action ({results[0]['contract']['data']['action']['unit']})",
        yscale="log",
    )
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.legend(fontsize=8)
    return figure


def progress_distributions(results: Results) -> "Figure":
    """A figure: the max progress of every episode, one row of dots per policy, with the median."""
    figure, ax = canvas(6, 3.4)
    draw = np.random.default_rng(0)
    for y, name in enumerate(policies_of(results)):
        best = np.array([e["max_coverage"] for r in results if r["policy"] == name for e in r["episodes"]])
        ax.plot(best, y + draw.uniform(-0.25, 0.25, len(best)), "o", color=COLOURS[name], alpha=0.4, markersize=4)
        ax.plot([np.median(best)] * 2, [y - 0.35, y + 0.35], color="black")
    ax.axvline(success_progress_of(results[0]), color="0.5", linestyle="--", linewidth=1)
    ax.set(
        xlabel=f"max {progress_name_of(results[0])} of an episode; bar: median; dashed: success",
        xlim=(0, 1.02),
        yticks=range(len(policies_of(results))),
        yticklabels=policies_of(results),
    )
    ax.invert_yaxis()
    return figure


def speed_and_quality(results: Results) -> "Figure":
    """A figure: average max reward against the time of a decision."""
    figure, ax = canvas(6, 3.4)
    for row in rows(results):
        name = row["policy"]
        ax.plot(row["latency"]["p50"], row["reward"], "o", color=COLOURS[name], markersize=9, label=name)
    ax.axvline(results[0]["contract"]["timing_budget_ms"], color="0.5", linestyle="--", linewidth=1)
    ax.set(
        xlabel="a decision takes (ms, p50); dashed: the budget",
        xscale="log",
        ylabel="average max reward",
        ylim=(0, 1.08),
    )
    ax.legend(fontsize=8)
    return figure


def canvas(width: float, height: float) -> tuple["Figure", Any]:
    """A figure and its axes, independent of pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def figure_html(figure: "Figure", alt: str) -> str:
    """A figure as an HTML image with its data inside."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def failure_counts(results: Results) -> dict[str, Counter[str]]:
    """{policy: how often each failure label}; a person's label overrules that of the rules."""
    return {
        name: Counter(
            e["failure"]["person"] or e["failure"]["label"]
            for r in results
            if r["policy"] == name
            for e in r["episodes"]
            if e["failure"]
        )
        for name in policies_of(results)
    }


def report(panel: dict[str, Any], folder: Path) -> str:
    """The HTML page of a panel; `folder` holds the videos that the panel names."""
    results = panel["results"]
    videos = [
        (r, video_html(folder / path, f"An episode of {r['policy']}", width=320))
        for r in results
        for path in r["videos"][:1]
        if (folder / path).exists()
    ]
    figures = [
        figure_html(learning_curves(results), "Error on held-out demonstrations, against training time"),
        figure_html(progress_distributions(results), f"Max {progress_name_of(results[0])} of every episode, by policy"),
        figure_html(speed_and_quality(results), "Average max reward against time per decision"),
    ]
    failed = [(r, e) for r in results for e in r["episodes"] if e["failure"]]
    return render(
        "panel_report.html",
        panel=panel,
        rows=rows(results),
        videos=videos,
        figures=figures,
        failed=failed,
        counts=failure_counts(results),
        p_value=p_value,
        in_figures=in_figures,
        progress=progress_name_of(results[0]) if results else "progress",
    )
