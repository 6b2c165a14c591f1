"""A panel as one HTML page that needs no other file: table, figures, tests, claims, failures, films."""

import base64
import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Template

from vqbet_course.evaluation.videos import film_html
from vqbet_course.rollout import SUCCESS_COVERAGE, wilson
from vqbet_course.experiments.verdicts import Results, p_value, policies_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"bc": "#0072B2", "bet": "#56B4E9", "act": "#009E73", "diffusion-ddpm100": "#CC79A7",
           "diffusion-ddim10": "#E69F00", "vqbet": "#D55E00"}


def rows(results: Results) -> list[dict[str, Any]]:
    """A row a policy: figures over all its training seeds, success with a Wilson 95 % interval."""
    table = []
    for name in policies_of(results):
        own = [r for r in results if r["policy"] == name]
        episodes = [e for r in own for e in r["episodes"]]
        wins = sum(e["success"] for e in episodes)
        low, high = wilson(wins, len(episodes))
        best = np.array([e["max_coverage"] for e in episodes])
        middle = {key: float(np.median([r["metrics"]["latency_ms"][key] for r in own])) for key in ("p50", "p95")}
        table.append({
            "policy": name, "seeds": len(own), "episodes": len(episodes), "parameters": own[0]["parameters"],
            "steps": int(np.mean([r["training"]["steps"] for r in own])), "chunk": own[0]["chunk"],
            "seconds": float(np.mean([r["training"]["seconds"] for r in own])),
            "success": wins / len(episodes), "low": low, "high": high,
            "reward": float(np.clip(best / SUCCESS_COVERAGE, 0, 1).mean()), "max_coverage": float(best.mean()),
            "final_coverage": float(np.mean([e["final_coverage"] for e in episodes])), "latency": middle,
            "late": float(np.mean([r["metrics"]["timing_violations"] for r in own])),
            "behaviour": {key: mean([r["metrics"]["behaviour"][key] for r in own])
                          for key in ("token_switches", "jerk", "offset_outweighs", "mode_entropy")}})
    return table


def mean(values: list[float | None]) -> float | None:
    """The mean, None where a policy has no such figure."""
    return None if None in values else float(np.mean([v for v in values if v is not None]))


def learning_curves(results: Results) -> "Figure":
    """The error on held-out demonstrations against the seconds of training, a line a policy and seed."""
    from matplotlib.ticker import LogLocator

    figure, ax = canvas(6, 3.4)
    told = set[str]()
    for result in (r for r in results if r["policy"] != "diffusion-ddim10"):  # the two samplers share one training
        name, curve = result["policy"], result["training"]["curve"]
        ax.plot([p["seconds"] for p in curve], [p["error"] for p in curve], color=COLOURS[name], alpha=0.8,
                label=None if name in told else name.removesuffix("-ddpm100"))
        told.add(name)
    ax.set(xlabel="training (s)", ylabel="error of the next action (px)", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.legend(fontsize=8)
    return figure


def coverage_distributions(results: Results) -> "Figure":
    """The max coverage of every episode, a row of dots a policy, with the median."""
    figure, ax = canvas(6, 3.4)
    draw = np.random.default_rng(0)
    for y, name in enumerate(policies_of(results)):
        best = np.array([e["max_coverage"] for r in results if r["policy"] == name for e in r["episodes"]])
        ax.plot(best, y + draw.uniform(-0.25, 0.25, len(best)), "o", color=COLOURS[name], alpha=0.4, markersize=4)
        ax.plot([np.median(best)] * 2, [y - 0.35, y + 0.35], color="black")
    ax.axvline(SUCCESS_COVERAGE, color="0.5", linestyle="--", linewidth=1)
    ax.set(xlabel="max coverage of an episode; bar: median; dashed: success", xlim=(0, 1.02),
           yticks=range(len(policies_of(results))), yticklabels=policies_of(results))
    ax.invert_yaxis()
    return figure


def speed_and_quality(results: Results) -> "Figure":
    """Average max reward against the time that a decision takes."""
    figure, ax = canvas(6, 3.4)
    for row in rows(results):
        ax.plot(row["latency"]["p50"], row["reward"], "o", color=COLOURS[row["policy"]], markersize=9, label=row["policy"])
    ax.axvline(100, color="0.5", linestyle="--", linewidth=1)
    ax.set(xlabel="a decision takes (ms, p50); dashed: the budget", xscale="log", ylabel="average max reward",
           ylim=(0, 1.08))
    ax.legend(fontsize=8)
    return figure


def canvas(width: float, height: float) -> tuple["Figure", Any]:
    """A figure and its axes, apart from whatever else is being drawn."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def picture(figure: "Figure", alt: str) -> str:
    """A figure as an HTML image with its data inside."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def failure_counts(results: Results) -> dict[str, Counter[str]]:
    """{policy: how often each label}, a person's word before the rules'."""
    return {name: Counter(e["failure"]["person"] or e["failure"]["label"] for r in results if r["policy"] == name
                          for e in r["episodes"] if e["failure"]) for name in policies_of(results)}


def report(panel: dict[str, Any], folder: Path) -> str:
    """The page. `folder` holds the films that the panel names."""
    results = panel["results"]
    films = [(r, film_html(folder / path, f"An episode of {r['policy']}", width=320))
             for r in results for path in r["videos"][:1] if (folder / path).exists()]
    pictures = [picture(learning_curves(results), "Error on held-out demonstrations, against training time"),
                picture(coverage_distributions(results), "Max coverage of every episode, by policy"),
                picture(speed_and_quality(results), "Average max reward against time per decision")]
    failed = [(r, e) for r in results for e in r["episodes"] if e["failure"]]
    return Template(PAGE, autoescape=True).render(panel=panel, rows=rows(results), films=films, pictures=pictures,
                                                  failed=failed, counts=failure_counts(results),
                                                  p_value=p_value)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Panel</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #8884; text-align: right; vertical-align: bottom }
td { white-space: nowrap; vertical-align: top } .left, .words, th:first-child, td:first-child { text-align: left }
td.words { white-space: normal }
img { max-width: 520px; width: 100%; border-radius: 6px } figure { display: inline-block; margin: .5rem }
</style>
{% set s = panel.settings %}
<h1>One panel: {{ rows|map(attribute="policy")|join(", ") }}</h1>
<p>{{ s.demos }} demonstrations of <code>{{ s.data }}</code>; budget
{{ "%g minutes"|format(s.budget.minutes) if s.budget.minutes else "%d steps"|format(s.budget.steps) }} each;
{{ s.episodes }} environment seeds from {{ s.first_seed }}, the same for all. Robot: {{ panel.contract.robot }}.
Success: {{ panel.contract.success }}.</p>
<table><tr><th>policy<th>training seeds<th>episodes<th>success<th>95 % interval<th>avg max reward<th>avg max coverage<th>avg final coverage
<th>ms a decision, p50<th>p95<th>late steps</tr>
{% for r in rows %}<tr><td>{{ r.policy }}<td>{{ r.seeds }}<td>{{ r.episodes }}<td>{{ "%.0f%%"|format(100 * r.success) }}
<td>{{ "%.0f to %.0f%%"|format(100 * r.low, 100 * r.high) }}<td>{{ "%.3f"|format(r.reward) }}
<td>{{ "%.3f"|format(r.max_coverage) }}<td>{{ "%.3f"|format(r.final_coverage) }}
<td>{{ "%.1f"|format(r.latency.p50) }}<td>{{ "%.1f"|format(r.latency.p95) }}<td>{{ "%.0f%%"|format(100 * r.late) }}
</tr>{% endfor %}</table>
<p>Intervals are Wilson's, over all episodes of a policy. A step is late when it takes longer than
{{ "%g"|format(panel.contract.timing_budget_ms) }} ms from observation to action.</p>
{% if panel.claims %}<h2>Claims</h2>
<p>What is said in the field, and what this panel says to it. <b>Inconclusive</b>: a difference as large as this one may
well be chance.</p>
<table><tr><th>claim<th class="left">verdict<th class="left">why</tr>
{% for c in panel.claims %}<tr><td class="words">{{ c.claim }}<td class="left"><b>{{ c.verdict }}</b>
<td class="words">{{ c.why }}</tr>
{% endfor %}</table>{% endif %}
<h2>What they are</h2>
<table><tr><th>policy<th>parameters<th>steps trained<th>seconds trained<th>steps it sees<th>actions it decides
<th>of which it executes</tr>
{% for r in rows %}<tr><td>{{ r.policy }}<td>{{ "%.2f M"|format(r.parameters / 1e6) }}<td>{{ "{:,}".format(r.steps) }}
<td>{{ "%.0f"|format(r.seconds) }}<td>{{ r.chunk.n_obs_steps }}<td>{{ r.chunk.action_chunk_size }}
<td>{{ r.chunk.n_action_steps }}</tr>{% endfor %}</table>
<h2>Figures</h2>
{% for p in pictures %}<figure>{{ p|safe }}</figure>{% endfor %}
<h2>Which differences are significant?</h2>
<p>Paired on shared environment seeds: McNemar's exact test on success (pairs of all training seeds together),
Wilcoxon's signed-rank test on max coverage (averaged over training seeds). p-values after Holm's correction over all
pairs of policies; a difference is called significant below 0.05.</p>
<table><tr><th>pair<th>won by the first only<th>by the second only<th>p<th>significant<th>difference of max coverage<th>p
<th>significant</tr>
{% for t in panel.tests %}<tr><td>{{ t.first }} against {{ t.second }}<td>{{ t.success.only_first }}
<td>{{ t.success.only_second }}<td>{{ p_value(t.success.p_holm) }}<td>{{ "yes" if t.success.significant else "no" }}
<td>{{ "%+.3f"|format(t.coverage.mean_difference) }}<td>{{ p_value(t.coverage.p_holm) }}
<td>{{ "yes" if t.coverage.significant else "no" }}</tr>{% endfor %}</table>
<h2>Behaviour</h2>
<table><tr><th>policy<th>token switches an episode<th>jerk (px a step³)<th>offset outweighs the code (share)<th>mode entropy (bits)</tr>
{% for r in rows %}<tr><td>{{ r.policy }}{% for key in ("token_switches", "jerk", "offset_outweighs", "mode_entropy") %}
<td>{{ "%.2f"|format(r.behaviour[key]) if r.behaviour[key] is not none else "no codes" }}{% endfor %}</tr>{% endfor %}
</table>
<h2>Failures</h2>
<table><tr><th>policy<th class="left">labels</tr>{% for name, labels in counts.items() %}
<tr><td>{{ name }}<td class="words">{% for label, n in labels.most_common() %}{{ label }} {{ n }}
{{- ", " if not loop.last }}{% endfor %}</tr>{% endfor %}</table>
<details><summary>All {{ failed|length }} of them, with the evidence. To overrule a label, set <code>person</code> in
<code>failures/</code> and run the command again: both are kept.</summary>
<table><tr><th>policy<th>training seed<th>environment seed<th class="left">by rule<th class="left">by a person
<th class="left">evidence</tr>
{% for r, e in failed %}<tr><td>{{ r.policy }}<td>{{ r.seed }}<td>{{ e.seed }}<td class="left">{{ e.failure.label }}
<td class="left">{{ e.failure.person or "" }}<td class="words">{{ e.failure.evidence }}</tr>{% endfor %}</table></details>
{% if films %}<h2>Films</h2>{% endif %}
{% for r, film in films %}<figure>{{ film|safe }}<figcaption>{{ r.policy }}, training seed {{ r.seed }}</figcaption>
</figure>{% endfor %}
<p>Made with {% if panel.results %}{% for k, v in panel.results[0].made_by.items() %}{{ k }} {{ v }}
{{- ", " if not loop.last }}{% endfor %}{% endif %}.</p>
</html>
"""
