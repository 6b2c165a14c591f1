"""Does the demonstrator solve PushT? Environment seeds 0 to 199, one process: solved, seconds an episode, length.

python benchmarks/expert.py
"""

import json
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vqbet_course.core.records import made_by
from vqbet_course.tasks.pusht.demonstrator import solve

RESULT = Path(__file__).parent / "results" / "expert.json"

episodes, seconds = [], []
for seed in tqdm(range(200), desc="expert"):
    started = time.process_time()
    episodes.append(solve(seed))
    seconds.append(time.process_time() - started)

figures = {
    "command": "python benchmarks/expert.py",
    "seeds": [0, 199],
    "solved": float(np.mean([e.success for e in episodes])),
    "cpu_seconds_per_episode": {"mean": float(np.mean(seconds)), "p95": float(np.percentile(seconds, 95))},
    "steps": {"median": float(np.median([len(e.states) for e in episodes]))},
    "made_by": made_by(),
}
RESULT.parent.mkdir(exist_ok=True)
RESULT.write_text(json.dumps(figures, indent=2) + "\n")
print(json.dumps(figures, indent=2))
