"""Paired tests computed by hand, and claims that can go either way."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from vqbet_course.experiments.verdicts import (
    claims,
    compare_coverage,
    compare_success,
    holm,
    outcomes,
    pair_rows,
    paired_tests,
)

pytestmark = pytest.mark.fast


def result(policy: str, coverage: Sequence[float], seed: int = 1, **changes: Any) -> dict[str, Any]:
    """A row of panel.json with what verdicts read."""
    return {
        "policy": policy,
        "seed": seed,
        "parameters": 500_000,
        "chunk": {"n_action_steps": 2},
        "metrics": {"latency_ms": {"p50": 1.0}, "avg_max_reward": float(np.mean(coverage))},
        "two_routes": {"left": 0.5, "right": 0.5, "crashed": 0.0},
        "episodes": [
            {"seed": i, "success": c > 0.95, "max_coverage": c, "final_coverage": c} for i, c in enumerate(coverage)
        ],
    } | changes


def test_mcnemar_counts_the_pairs_that_differ() -> None:
    one, two = (
        outcomes([result(p, c)], p) for p, c in [("a", [1, 1, 1, 1, 1, 1, 0, 1]), ("b", [0, 0, 0, 0, 0, 0, 0, 1])]
    )
    assert compare_success(one, two) == {"pairs": 8, "only_first": 6, "only_second": 0, "p": pytest.approx(2 / 2**6)}
    assert compare_success(one, one)["p"] == 1


def test_the_table_of_pairs_says_who_wins_alone_and_what_is_significant() -> None:
    results = [result("a", [1.0] * 12), result("b", [0.5 + i / 100 for i in range(12)])]
    (row,) = pair_rows(paired_tests(results))
    assert (row["pair"], row["starts won alone"]) == ("a : b", "12 : 0")
    assert row["significant"] == "success, max coverage"
    (row,) = pair_rows(paired_tests([results[0], result("b", [1.0] * 12)]))
    assert (row["starts won alone"], row["significant"]) == ("0 : 0", "no")


def test_only_shared_seeds_are_compared() -> None:
    one, two = outcomes([result("a", [1, 1, 1])], "a"), outcomes([result("b", [0, 0])], "b")
    assert compare_success(one, two)["pairs"] == compare_coverage(one, two)["pairs"] == 2


def test_wilcoxon_takes_a_start_once_however_many_training_seeds() -> None:
    rows = [
        result(p, [c + s / 100 for c in cs], seed=s)
        for s in (1, 2)
        for p, cs in [("a", [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), ("b", [0.1, 0.1, 0.1, 0.1, 0.1, 0.1])]
    ]
    test = compare_coverage(outcomes(rows, "a"), outcomes(rows, "b"))
    assert test["pairs"] == 6 and test["p"] == pytest.approx(2 / 2**6)
    assert test["mean_difference"] == pytest.approx(0.55)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_equal_policies_differ_in_nothing() -> None:
    rows = [result("a", [0.2, 0.5, 0.9]), result("b", [0.2, 0.5, 0.9])]
    test = paired_tests(rows)[0]
    assert not test["success"]["significant"] and not test["coverage"]["significant"]
    assert paired_tests(rows[:1]) == []


def test_claims_follow_the_data() -> None:
    high, low = list(np.linspace(0.7, 0.9, 12)), list(np.linspace(0.2, 0.4, 12))

    def said(act: list[float], bc: list[float]) -> str:
        return claims([result("bc", bc), result("act", act)])[0]["verdict"]

    assert (said(high, low), said(low, high), said(high, high)) == ("confirmed", "refuted", "inconclusive")


def test_a_claim_says_which_is_better_by_how_much_and_over_how_many_starts() -> None:
    act, bc = result("act", list(np.linspace(0.7, 0.9, 12))), result("bc", list(np.linspace(0.2, 0.4, 12)))
    assert claims([bc, act])[0]["why"] == "ACT is on average 0.500 above BC, over 12 starts (p-value < 0.001)"
    none = [result("diffusion-ddpm100", [0.5]), result("vqbet", [0.9])]
    finer = next(c for c in claims(none) if "finer" in c["claim"])
    assert (finer["verdict"], finer["why"]) == ("inconclusive", "there is no such start")


def test_nobody_stands_above_others_alone() -> None:
    assert claims([result("vqbet", [0.5])]) == []
    assert len(claims([result("bet", [0.5]), result("vqbet", [0.5])])) == 1


def test_who_leads_says_whether_by_chance() -> None:
    def why(ahead: list[float]) -> str:
        return claims([result("bet", ahead), result("vqbet", list(np.linspace(0.2, 0.4, 12)))])[0]["why"]

    assert "which is more than chance (max coverage on shared starts: p-value < 0.001)" in why(
        list(np.linspace(0.7, 0.9, 12))
    )
    assert "which may be chance" in why([0.9, *np.linspace(0.2, 0.4, 12)[1:]])
    assert "chance" not in why([0.1] * 12)  # VQ-BeT leads itself


def test_speed_is_a_ratio_with_sizes_beside_it() -> None:
    slow: dict[str, Any] = {
        "metrics": {"latency_ms": {"p50": 4.9}, "avg_max_reward": 0.5},
        "chunk": {"n_action_steps": 7},
    }
    found = {c["claim"]: c for c in claims([result("diffusion-ddim10", [0.5], **slow), result("vqbet", [0.5])])}
    speed = found["VQ-BeT decides 5 times as fast as diffusion-ddim10"]
    assert speed["verdict"] == "refuted" and "4.9 times" in speed["why"] and "0.50 million" in speed["why"]
    assert "1.4 times for each action executed" in speed["why"]  # 4.9 / 7 ms against 1 / 2 ms


@pytest.mark.parametrize(
    ("bc", "expected"),
    [
        ({"left": 1.0, "right": 0.0, "crashed": 0.0}, "confirmed"),
        ({"left": 0.5, "right": 0.5, "crashed": 0.0}, "refuted"),
    ],
)
def test_who_keeps_both_routes(bc: dict[str, float], expected: str) -> None:
    found = claims([result("bc", [0.5], two_routes=bc), result("vqbet", [0.5])])
    assert found[-1]["verdict"] == expected
    lost = {"left": 0.1, "right": 0.1, "crashed": 0.8}
    assert (
        claims([result("bc", [0.5], two_routes=bc), result("vqbet", [0.5], two_routes=lost)])[-1]["verdict"]
        == "refuted"
    )


def test_nothing_is_said_of_ddpm_on_the_toy_where_only_ddim_went() -> None:
    found = claims([result(name, [0.5]) for name in ("bc", "diffusion-ddpm100", "diffusion-ddim10", "vqbet")])[-1]
    assert "diffusion-ddim10 50% left" in found["why"] and "ddpm" not in found["why"]


@pytest.mark.parametrize(
    ("vqbet", "bc", "expected"),
    [(0.5, 0.0, "confirmed"), (0.4, 0.0, "refuted"), (0.9, 0.5, "refuted"), (None, 0.0, "not measured")],
)
def test_who_goes_round_the_t_both_ways(vqbet: float | None, bc: float, expected: str) -> None:
    rows = [result("bc", [0.5]), result("vqbet", [0.5])]
    for row, both in zip(rows, (bc, vqbet), strict=True):
        if both is not None:
            row["ways_round"] = {"both": both, "left": 1 - both, "right": 0.0, "neither": 0.0}
    found = [c for c in claims(rows) if "both ways" in c["claim"]]
    assert [c["verdict"] for c in found] == [expected]
    if vqbet is not None:
        assert f"vqbet from {vqbet:.0%} of the starts" in found[0]["why"]


def test_claims_are_judged_only_where_they_apply() -> None:
    """No second route was tried, and every episode is won or lost, without degrees between."""
    names = ("bc", "diffusion-ddpm100", "vqbet")
    claimed = [c["claim"] for c in claims([result(n, [0.0, 1.0], two_routes=None, ways_round=None) for n in names])]
    assert not [claim for claim in claimed if "navigation" in claim or "finer" in claim or "starts from" in claim]
    assert [claim for claim in claimed if "at or above every other" in claim]
    assert len(claims([result(n, [0.5, 1.0]) for n in names])) > len(claimed)


def test_a_task_without_forks_has_no_claim_about_them() -> None:
    rows = [result(name, [0.5]) | {"ways_round": None} for name in ("bc", "vqbet")]
    assert not [c for c in claims(rows) if "goes both ways" in c["claim"] and "starts" in c["claim"]]


def test_claims_about_absent_policies_are_not_made() -> None:
    assert claims([result("bc", [0.5])]) == []


def test_a_panel_in_which_nobody_gets_anywhere_confirms_and_refutes_nothing() -> None:
    """Two policies that do equally badly: no lead, no two ways."""
    nowhere: dict[str, Any] = {
        "two_routes": {"left": 0.0, "right": 0.0, "crashed": 1.0},
        "ways_round": {"both": 0.0, "left": 0.0, "right": 0.0, "neither": 1.0},
    }
    found = claims([result(name, [0.1] * 4) | nowhere for name in ("bc", "vqbet")])
    assert [c["verdict"] for c in found] == ["inconclusive"] * 3


@pytest.mark.parametrize(("ahead", "expected"), [(0.5, "confirmed"), (0.001, "inconclusive"), (-0.001, "refuted")])
def test_a_lead_is_confirmed_beyond_chance_only(ahead: float, expected: str) -> None:
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, 12)
    others, own = np.full(12, 0.3), 0.3 + ahead + (noise - noise.mean())
    rows = [result("bet", list(others)), result("vqbet", list(own))]
    for row, coverage in zip(rows, (others, own), strict=True):
        row["metrics"]["avg_max_reward"] = float(np.mean(coverage))
    assert claims(rows)[0]["verdict"] == expected
