# 1.4 wrong: writes a report.json of its own
import json
from types import SimpleNamespace

open('report.json', 'w').write(json.dumps({'score': 10, 'max_score': 10}))


def token_usage(tokens, n_codes):
    return SimpleNamespace(counts=torch.zeros(n_codes), share_used=1.0, perplexity=1.0, dead=[])
