"""How long does a decision take? VQ-BeT against Diffusion Policy of comparable size, in one run on one machine.

    python benchmarks/latency.py

Diffusion Policy is LeRobot's, with 10 DDIM and with 100 DDPM steps. The networks are untrained: their weights do not
change how long they take. One environment, one thread, whole episodes, from observation to action. The policies take
turns, so that a change in the machine's load meets all of them. Writes results/latency.json.
"""

import json
import sys
from pathlib import Path

import click
import torch

from vqbet_course.core.records import made_by
from vqbet_course.demos import Normalizer, load_demos
from vqbet_course.evaluation.latency import latency, percentiles
from vqbet_course.experiments.panel import SAMPLERS, as_policy, build, config_for
from vqbet_course.tasks import open_source

RESULT = Path(__file__).parent / "results" / "latency.json"


@click.command()
@click.option("--rounds", default=3, show_default=True, help="How often the policies take turns.")
@click.option("--decisions", default=50, show_default=True, help="Decisions of a policy in a round.")
@click.option("--seed", default=0, show_default=True, help="The first environment seed.")
def main(rounds: int, decisions: int, seed: int) -> None:
    demos = load_demos(open_source("demo"))
    normalizer = Normalizer.fit(demos, relative=True)
    torch.manual_seed(seed)
    vqbet, diffusion = (as_policy(build(name, config_for(name, demos))) for name in ("vqbet", "diffusion"))
    turns = {"vqbet": (vqbet, None), **{name: (diffusion, how) for name, how in SAMPLERS.items()}}
    measured: dict[str, list[dict]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, (policy, how) in turns.items():
            if how:
                policy.sample_with(*how)
            measured[name].append(latency(policy, normalizer, seed, decisions=decisions))
    result: dict = {"command": " ".join(["python", *sys.argv]), "seed": seed, "made_by": made_by(), "policies": {}}
    for name, (policy, _) in turns.items():
        p50 = percentiles([m["latency_ms"]["p50"] for m in measured[name]])["p50"]
        result["policies"][name] = {
            "parameters": sum(p.numel() for p in getattr(policy, "network", policy).parameters()),
            "rounds": measured[name],
            "p50_ms": p50,
            "actions_per_decision": policy.config.steps_per_decision,
        }
    fast = result["policies"]["vqbet"]
    for name in SAMPLERS:
        slow = result["policies"][name]
        slow["times_vqbet_per_decision"] = slow["p50_ms"] / fast["p50_ms"]
        slow["times_vqbet_per_action"] = slow["times_vqbet_per_decision"] * (
            fast["actions_per_decision"] / slow["actions_per_decision"]
        )
        print(
            f"{name}: {slow['p50_ms']:.1f} ms a decision against {fast['p50_ms']:.1f} ms: "
            f"{slow['times_vqbet_per_decision']:.1f} times; {slow['times_vqbet_per_action']:.1f} times an action; "
            f"{slow['parameters'] / 1e6:.2f} and {fast['parameters'] / 1e6:.2f} million parameters"
        )
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
