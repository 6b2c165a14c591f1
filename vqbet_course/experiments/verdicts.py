"""Which differences of a panel are significant, and which claims of the field its metrics confirm."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import binomtest, wilcoxon

from vqbet_course.evaluation.results import progress_name_of

LEVEL = 0.05
"""A difference is significant below this p-value, after Holm's correction."""

Results = Sequence[dict[str, Any]]
"""Rows of panel.json: one a policy and training seed."""


def outcomes(results: Results, policy: str) -> dict[tuple[int, int], dict[str, Any]]:
    """{(training seed, environment seed): episode} of a policy."""
    return {(r["seed"], e["seed"]): e for r in results if r["policy"] == policy for e in r["episodes"]}


def policies_of(results: Results) -> list[str]:
    """The policies of a panel, in the order of its results."""
    return list(dict.fromkeys(r["policy"] for r in results))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that hold for all of a family of tests together."""
    order, corrected, highest = np.argsort(p_values), np.zeros(len(p_values)), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected.tolist()


def compare_success(one: dict, two: dict) -> dict[str, Any]:
    """McNemar's exact test on the pairs: of those that one policy wins and the other loses, is the split even?"""
    pairs = [(one[key]["success"], two[key]["success"]) for key in one.keys() & two.keys()]
    only_one, only_two = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    n = only_one + only_two
    return {
        "pairs": len(pairs),
        "only_first": only_one,
        "only_second": only_two,
        "p": binomtest(only_one, n).pvalue if n else 1.0,
    }


def compare_coverage(one: dict, two: dict, keep: Callable[[float, float], bool] = lambda a, b: True) -> dict[str, Any]:
    """Wilcoxon's signed-rank test on max coverage, a pair per environment seed, averaged over the training seeds, which
    share it. `keep(a, b)` says which pairs count."""
    by_seed = defaultdict(list)
    for key in one.keys() & two.keys():
        by_seed[key[1]].append((one[key]["max_coverage"], two[key]["max_coverage"]))
    means = [tuple(np.mean(pairs, axis=0)) for pairs in by_seed.values()]
    differences = np.array([a - b for a, b in means if keep(a, b)])
    different = len(differences) and bool(np.any(differences != 0))
    return {
        "pairs": len(differences),
        "mean_difference": float(differences.mean()) if len(differences) else 0.0,
        "p": float(wilcoxon(differences).pvalue) if different else 1.0,
    }


def paired_tests(results: Results) -> list[dict[str, Any]]:
    """Both tests for every pair of policies, on the seeds that they share; `p_holm` holds for all pairs together."""
    tests: list[dict[str, Any]] = []
    for first, second in combinations(policies_of(results), 2):
        one, two = outcomes(results, first), outcomes(results, second)
        tests.append(
            {
                "first": first,
                "second": second,
                "progress": progress_name_of(results[0]),
                "success": compare_success(one, two),
                "coverage": compare_coverage(one, two),
            }
        )
    for kind in ("success", "coverage"):
        for test, p in zip(tests, holm([t[kind]["p"] for t in tests]) if tests else [], strict=True):
            test[kind] |= {"p_holm": p, "significant": p < LEVEL}
    return tests


def pair_rows(tests: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Each of `paired_tests` as a row of text {column: value}; p-values are those after Holm's correction."""
    return [
        {
            "pair": f"{test['first']} : {test['second']}",
            "starts won alone": f"{test['success']['only_first']} : {test['success']['only_second']}",
            "p": p_value(test["success"]["p_holm"]),
            f"difference of max {test['progress']}": f"{test['coverage']['mean_difference']:+.3f}",
            "its p": p_value(test["coverage"]["p_holm"]),
            "significant": ", ".join(
                words
                for kind, words in (("success", "success"), ("coverage", f"max {test['progress']}"))
                if test[kind]["significant"]
            )
            or "no",
        }
        for test in tests
    ]


# --- claims -------------------------------------------------------------------------------------------------------


def claim_verdict(better: float, significant: bool) -> str:
    """The verdict on the claim that a difference is above 0: `confirmed`, `refuted` or `inconclusive`."""
    return "inconclusive" if not significant else "confirmed" if better > 0 else "refuted"


def p_value(p: float) -> str:
    """A p-value as text; a small one is `< 0.001`, because no test of so few starts gives 0."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def claims(results: Results) -> list[dict[str, str]]:
    """The claims of the field that apply to this panel's task and policies, each with a verdict and the numbers behind
    it: how finely is asked where progress has degrees, which ways where the task has several."""
    present = {*policies_of(results)}
    forks = all(r.get("ways_round", {}) is not None for r in results)  # else it is a task without forks
    routes = all(r.get("two_routes") is not None for r in results)
    degrees = any(0 < e["max_coverage"] < 1 for r in results for e in r["episodes"])
    asked: list[tuple[set[str], Callable[[Results], dict[str, str]]]] = [
        ({"act", "bc"}, act_beats_bc),
        *([({"diffusion-ddpm100", "vqbet"}, diffusion_places_finer)] if degrees else []),
        ({"diffusion-ddim10", "vqbet"}, lambda r: faster(r, "diffusion-ddim10", 5)),
        ({"diffusion-ddpm100", "vqbet"}, lambda r: faster(r, "diffusion-ddpm100", 30)),
        ({"vqbet"}, best_reward),
        *([({"vqbet", "bc"}, goes_both_ways_round)] if forks else []),
        *([({"vqbet", "bc"}, keeps_both_routes)] if routes else []),
    ]
    return [claim(results) for needed, claim in asked if needed <= present and len(present) > 1]


def act_beats_bc(results: Results) -> dict[str, str]:
    """The claim that ACT is better than behaviour cloning, by max coverage."""
    test = compare_coverage(outcomes(results, "act"), outcomes(results, "bc"))
    return {
        "claim": f"ACT is better than behaviour cloning (max {progress_name_of(results[0])} on shared starts)",
        "verdict": claim_verdict(test["mean_difference"], test["p"] < LEVEL),
        "why": above("ACT", "BC", test),
    }


def above(one: str, two: str, test: dict[str, Any]) -> str:
    """The result of `compare_coverage` as a sentence."""
    if not test["pairs"]:
        return "there is no such start"
    difference = test["mean_difference"]
    return (
        f"{one} is on average {abs(difference):.3f} {'below' if difference < 0 else 'above'} {two}, over "
        f"{test['pairs']} starts (p-value {p_value(test['p'])})"
    )


def diffusion_places_finer(results: Results, near: float = 0.8) -> dict[str, str]:
    """The claim that Diffusion Policy covers more than VQ-BeT where both get beyond a coverage of `near`."""
    test = compare_coverage(
        outcomes(results, "diffusion-ddpm100"), outcomes(results, "vqbet"), lambda a, b: min(a, b) > near
    )
    return {
        "claim": "Diffusion Policy places finer than VQ-BeT "
        f"(max {progress_name_of(results[0])} where both get beyond {near:g})",
        "verdict": claim_verdict(test["mean_difference"], test["p"] < LEVEL),
        "why": above("Diffusion (100 DDPM steps)", "VQ-BeT", test),
    }


def faster(results: Results, other: str, times: float) -> dict[str, str]:
    """The claim that VQ-BeT decides `times` times as fast as another policy."""
    slow, fast = (
        np.median([r["metrics"]["latency_ms"]["p50"] for r in results if r["policy"] == name])
        for name in (other, "vqbet")
    )
    sizes = {r["policy"]: r["parameters"] / 1e6 for r in results}
    executed = {r["policy"]: r["chunk"]["n_action_steps"] for r in results}
    an_action = slow / executed[other] / (fast / executed["vqbet"])
    return {
        "claim": f"VQ-BeT decides {times:g} times as fast as {other}",
        "verdict": "confirmed" if slow / fast >= times else "refuted",
        "why": f"{slow:.1f} ms against {fast:.1f} ms a decision (p50), {slow / fast:.1f} times, and "
        f"{an_action:.1f} times for each action executed; "
        f"{sizes[other]:.2f} and {sizes['vqbet']:.2f} million parameters",
    }


def best_reward(results: Results) -> dict[str, str]:
    """The claim that no policy of the panel has a higher average max reward than VQ-BeT. Refuted by any that has; to be
    confirmed, VQ-BeT's max coverage must be above that of the next one by more than chance."""
    rewards = {
        name: np.mean([r["metrics"]["avg_max_reward"] for r in results if r["policy"] == name])
        for name in policies_of(results)
    }
    best = max(rewards, key=lambda name: rewards[name])
    next_best = max(rewards.keys() - {"vqbet"}, key=lambda name: (rewards[name], name))
    test = compare_coverage(outcomes(results, "vqbet"), outcomes(results, next_best))
    leads = test["p"] < LEVEL and test["mean_difference"] > 0
    wins = {name: np.mean([e["success"] for e in outcomes(results, name).values()]) for name in policies_of(results)}
    often = max(wins, key=lambda name: wins[name])
    return {
        "claim": "VQ-BeT stands at or above every other policy of the panel (average max reward)",
        "verdict": "refuted" if rewards["vqbet"] < rewards[next_best] else "confirmed" if leads else "inconclusive",
        "why": f"best is {best} with {rewards[best]:.3f}, VQ-BeT has {rewards['vqbet']:.3f}"
        f"{chance(results, best)}; most often successful is {often} with {wins[often]:.0%}, "
        f"VQ-BeT has {wins['vqbet']:.0%}",
    }


def chance(results: Results, best: str) -> str:
    """Whether the best policy's max coverage on shared starts differs from VQ-BeT's by more than chance, in words."""
    if best == "vqbet":
        return ""
    p = compare_coverage(outcomes(results, best), outcomes(results, "vqbet"))["p"]
    words = "is more than" if p < LEVEL else "may be"
    return f", which {words} chance (max {progress_name_of(results[0])} on shared starts: p-value {p_value(p)})"


def two_ways_verdict(first: bool, second: bool, tells: bool) -> str:
    """The verdict on the claim that the first policy keeps two ways and the second does not; none where it cannot `tell`,
    because both seldom get anywhere."""
    return "inconclusive" if not tells else "confirmed" if first and not second else "refuted"


def keeps_both_routes(results: Results, least: float = 0.1) -> dict[str, str]:
    """The claim that VQ-BeT keeps both routes, and BC does not; a policy does when each is taken in a tenth of its
    rollouts and most of them arrive. Diffusion acts there with 10 DDIM steps; its DDPM row has the same numbers."""
    routes = {name: shares(results, name, "two_routes") for name in policies_of(results) if name != "diffusion-ddpm100"}
    keeps = {name: min(r["left"], r["right"]) >= least and r["crashed"] < 0.5 for name, r in routes.items()}
    words = "; ".join(
        f"{name} {r['left']:.0%} left, {r['right']:.0%} right, {r['crashed']:.0%} lost" for name, r in routes.items()
    )
    return {
        "claim": "On navigation, from the start from which demonstrations go left and right of the disc, VQ-BeT "
        "keeps both routes and BC does not",
        "verdict": two_ways_verdict(
            keeps["vqbet"], keeps["bc"], tells=min(routes["vqbet"]["crashed"], routes["bc"]["crashed"]) < 0.5
        ),
        "why": words + " (lost: into the disc, or never at the goal)",
    }


def goes_both_ways_round(results: Results) -> dict[str, str]:
    """The claim that VQ-BeT goes both ways, and BC does not; a policy does when it does so from half of the starts."""
    claim = "From starts from which the demonstrator goes both ways, VQ-BeT does too and BC does not"
    if any("ways_round" not in r for r in results):
        return {"claim": claim, "verdict": "not measured", "why": "an earlier version made these results"}
    ways = {name: shares(results, name, "ways_round") for name in policies_of(results)}
    words = "; ".join(
        f"{name} from {w['both']:.0%} of the starts ("
        + "".join(f"{share:.0%} only {way}, " for way, share in w.items() if way not in ("both", "neither"))
        + f"{w['neither']:.0%} neither)"
        for name, w in ways.items()
    )
    return {
        "claim": claim,
        "verdict": two_ways_verdict(
            ways["vqbet"]["both"] >= 0.5,
            ways["bc"]["both"] >= 0.5,
            tells=min(ways["vqbet"]["neither"], ways["bc"]["neither"]) < 0.5,
        ),
        "why": "both ways: " + words,
    }


def shares(results: Results, policy: str, measured: str) -> dict[str, float]:
    """Shares (0..1) that were measured of a policy, averaged over its training seeds."""
    own = [r[measured] for r in results if r["policy"] == policy]
    return {name: float(np.mean([values[name] for values in own])) for name in own[0]}
