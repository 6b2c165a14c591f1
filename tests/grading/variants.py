"""Right answers as honest people write them: other names, helpers elsewhere, magics, other algorithms."""

import ast
import re
from collections.abc import Callable

from vqbet_course.grading.checks import all_checks
from vqbet_course.grading.lessons import lab_of

Cells = list[str]
"""The sources of a notebook's cells; the first stands in the released cell, the others are the student's own."""


class Renamed(ast.NodeTransformer):
    """Gives the local variables of functions other names."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        given = {inner.arg for inner in ast.walk(node) if isinstance(inner, ast.arg)}  # of functions in it, too
        stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} - given
        for n in ast.walk(node):
            if isinstance(n, ast.Name) and n.id in stored:
                n.id = f"my_{n.id}"
        return node


class Bare(ast.NodeTransformer):
    """Takes docstrings and the annotations of functions away."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        for argument in (*node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg):
            if argument:
                argument.annotation = None
        node.returns = None
        if ast.get_docstring(node) is not None and len(node.body) > 1:
            del node.body[0]
        return node


def renamed_to(source: str, name: str, other: str) -> str:
    """The source with the definition of a name under another name."""
    return re.sub(rf"^(def|class) {name}\b", rf"\1 {other}", source, flags=re.MULTILINE)


def passed_on(name: str, kind: str) -> str:
    """A definition that passes everything on to `_inner`."""
    if kind == "class":
        return f"class {name}(_inner):\n    pass"
    return f"def {name}(*arguments, **options):\n    return _inner(*arguments, **options)"


STYLES: dict[str, Callable[[str, str, str, str], Cells]] = {
    "other local names": lambda s, n, k, m: [ast.unparse(Renamed().visit(ast.parse(s)))],
    "no docstrings": lambda s, n, k, m: [ast.unparse(Bare().visit(ast.parse(s)))],
    "timed": lambda s, n, k, m: ["%%time\n" + s],
    "lines of Windows": lambda s, n, k, m: [s.replace("\n", "\r\n")],
    "imports": lambda s, n, k, m: [
        "import matplotlib.pyplot as plt\nfrom tqdm.auto import tqdm\nimport scipy.spatial\n"
        "import nowhere.to_be.found as lost\nfrom elsewhere import a, b as c\n" + s
    ],
    "merged with its check": lambda s, n, k, m: [f"{s}\n\ncheck({n})\nfrom vqbet_course.{m} import {n}\n"],
    "in another cell": lambda s, n, k, m: ["", "import math", s],
    "a helper in another cell": lambda s, n, k, m: [passed_on(n, k), renamed_to(s, n, "_inner")],
    "a helper below": lambda s, n, k, m: [f"{n} = _inner", "x = 3", renamed_to(s, n, "_inner")],
    "shell and magics": lambda s, n, k, m: [
        "!pip install einops\n%matplotlib inline\n" + s + f"\n{n}?\nplt.plot(demos)"
    ],
    "tried out in its cell": lambda s, n, k, m: [s + f"\nprint({n})\nassert data_of_the_lesson.shape == (3, 4)"],
    "an old version above": lambda s, n, k, m: [s, f"def broken_{n}(:", "1 / 0"],
}
"""{how it is written: (solution, name, def or class, module) -> the cells}."""


def in_every_style(exercise_id: str) -> dict[str, Cells]:
    """The solution of an exercise in all styles."""
    check, lab = all_checks()[exercise_id], lab_of(exercise_id)
    solution = "\n".join(line for line in lab.exercises[exercise_id].solution.splitlines() if not line.startswith("#|"))
    found = re.search(rf"^(def|class) {check.answer}\b", solution, flags=re.MULTILINE)
    assert found
    return {style: make(solution, check.answer, found[1], lab.module) for style, make in STYLES.items()}


ALGORITHMS: dict[str, list[str]] = {
    "1.1": [
        "def squared_distances(points, codebook):\n    return torch.cdist(points.double(), codebook.double()) ** 2",
        "def squared_distances(points, codebook):\n    return (points[:, None] - codebook).pow(2).sum(-1)",
        "def squared_distances(points, codebook):\n    d = points[:, None] - codebook[None]\n"
        "    return torch.einsum('bkd,bkd->bk', d, d)",
        "def squared_distances(points, codebook):\n    return np.array([[((p - e) ** 2).sum().item() for e in codebook] "
        "for p in points])",
        "def squared_distances(points, codebook):\n    one = lambda p: (p - codebook).square().sum(1)\n"
        "    return torch.vmap(one)(points)",
        "from scipy.spatial.distance import cdist\n\ndef squared_distances(points, codebook):\n"
        "    return cdist(points.numpy(), codebook.numpy(), 'sqeuclidean')",
    ],
    "1.2": [
        "def nearest_code(chunks, codebook):\n    if chunks.shape[1:] != codebook.shape[1:] or not len(codebook):\n"
        "        raise ValueError('shapes')\n    if torch.isnan(chunks).any() or torch.isnan(codebook).any():\n"
        "        raise ValueError('NaN')\n    return torch.tensor([int(torch.stack([((x - e) ** 2).sum() for e in codebook])"
        ".argmin()) for x in chunks])"
    ],
    "1.3": [
        "def kmeans(points, n_codes, n_iters=20, generator=None):\n    if n_codes < 1 or len(points) == 0 or "
        "points.isnan().any():\n        raise ValueError\n    order = torch.randperm(len(points), generator=generator)\n"
        "    codes = torch.stack([points[order[i % len(points)]] for i in range(n_codes)])\n"
        "    for _ in range(n_iters):\n        who = torch.cdist(points, codes).argmin(1)\n"
        "        codes = torch.stack([points[who == k].mean(0) if (who == k).any() else codes[k] "
        "for k in range(n_codes)])\n    return codes"
    ],
    "1.4": [
        "def token_usage(tokens, n_codes):\n    flat = tokens.flatten().tolist()\n"
        "    if any(t < 0 or t >= n_codes for t in flat):\n        raise ValueError('token')\n"
        "    counts = [flat.count(k) for k in range(n_codes)]\n    n = max(1, len(flat))\n"
        "    h = -sum(c / n * math.log(c / n) for c in counts if c)\n"
        "    return TokenUsage(torch.tensor(counts), sum(c > 0 for c in counts) / n_codes, math.exp(h) if flat else 0, "
        "[k for k, c in enumerate(counts) if not c])",
        "def token_usage(tokens, n_codes):\n    if tokens.numel() and (tokens.min() < 0 or tokens.max() >= n_codes):\n"
        "        raise ValueError\n    counts = F.one_hot(tokens.flatten(), n_codes).sum(0).float()\n"
        "    p = counts / max(1, tokens.numel())\n    used = counts > 0\n"
        "    entropy = -(p[used].double() * p[used].double().log()).sum()\n"
        "    return TokenUsage(counts, used.double().mean(), entropy.exp() * bool(tokens.numel()), "
        "(~used).nonzero().flatten())",
    ],
    "2.1": [
        "def straight_through(x, quantized):\n    return quantized.detach() + x - x.detach()",
        "class Through(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x, q):\n        return q.clone()\n"
        "    @staticmethod\n    def backward(ctx, g):\n        return g, None\n\n"
        "def straight_through(x, quantized):\n    return Through.apply(x, quantized)",
    ],
    "3.1": [
        "class Stack(nn.Sequential):\n    pass\n\ndef mlp(in_dim, *widths):\n    sizes = (in_dim, *widths)\n"
        "    parts = []\n    for i, o in zip(sizes, sizes[1:]):\n        parts.append(nn.Linear(i, o))\n"
        "        parts.append(nn.ReLU())\n    return Stack(*parts[:-1])"
    ],
    "3.3": [
        "def vqvae_loss(out, commit_weight=5.0):\n    return torch.stack([out.recon_loss, commit_weight * out.commit_loss])"
        ".sum()",
        "def vqvae_loss(out, commit_weight=5.0):\n    return (out.recon_loss + commit_weight * out.commit_loss).reshape(1)",
    ],
    "5.1": [
        "def focal_loss(logits, targets, gamma=2.0):\n    ce = F.cross_entropy(logits, targets, reduction='none')\n"
        "    return ((1 - torch.exp(-ce)) ** gamma * ce).mean()",
        "def focal_loss(logits, targets, gamma=2.0):\n    log_p = logits - logits.logsumexp(-1, keepdim=True)\n"
        "    own = log_p[torch.arange(len(targets)), targets]\n    return -((1 - own.exp()).pow(gamma) * own).mean()",
        "def focal_loss(logits, targets, gamma=2.0):\n    log_p = (F.one_hot(targets, logits.shape[-1]) * "
        "F.log_softmax(logits, -1)).sum(-1)\n    return sum(-(1 - l.exp()) ** gamma * l for l in log_p) / len(targets)",
        "def focal_loss(logits, targets, gamma=2.0):\n    log_p = F.log_softmax(logits.double(), -1)[range(len(targets)), "
        "targets]\n    return (-((1 - log_p.exp()) ** gamma) * log_p).mean()",
    ],
    "5.4": [
        "class OffsetHead(nn.Module):\n    def __init__(self, width, n_codes, n_layers, chunk_size, action_dim):\n"
        "        super().__init__()\n        self.linear = nn.Linear(width, n_layers * n_codes * chunk_size * action_dim)\n"
        "        self.sizes = n_layers, n_codes, chunk_size, action_dim\n\n    def forward(self, features, codes):\n"
        "        all_of_them = self.linear(features).reshape(-1, *self.sizes)\n        chosen = F.one_hot(codes, self.sizes[1])\n"
        "        return torch.einsum('ngk,ngkwa->nwa', chosen.to(features.dtype), all_of_them)"
    ],
    "6.1": [
        "def interleave(tokens, query, n_future):\n    B, T, n, D = tokens.shape\n    row, places = [], []\n"
        "    for t in range(T):\n        for i in range(n):\n            row.append(tokens[:, t, i])\n"
        "        places.append(len(row))\n        row.append(query[:, 0, 0].expand(B, D))\n"
        "    for _ in range(n_future):\n        places.append(len(row))\n        row.append(query[:, 0, 0].expand(B, D))\n"
        "    return torch.stack(row, 1), torch.tensor(places)"
    ],
    "6.3": [
        "def average_overlaps(chunks, n):\n    W = chunks[0].shape[1]\n    out = []\n    for i in range(n):\n"
        "        total, count = 0, 0\n        for age, chunk in enumerate(chunks):\n            if i + age * n < W:\n"
        "                total = total + chunk[:, i + age * n].double()\n                count += 1\n"
        "        out.append(total / count)\n    return out"
    ],
    "8.1": [
        "def batch_rows(n, batch_size, seed, step):\n    per_epoch = n // batch_size or 1\n    epoch = step // per_epoch\n"
        "    start = (step % per_epoch) * batch_size\n    return list(epoch_order(n, seed, epoch)[start:start + batch_size])"
    ],
    "8.2": [
        "def lr_factor(step, steps, warmup=0):\n    up = 1 if warmup == 0 or step >= warmup else (step + 1) / warmup\n"
        "    return torch.tensor(up * math.cos(math.pi * step / steps / 2) ** 2)"
    ],
    "8.4": [
        "def ema_update(average, module, step, decay):\n    keep = min(decay, (1 + step) / (10 + step))\n"
        "    with torch.no_grad():\n        for a, m in zip(average.parameters(), module.parameters()):\n"
        "            a.mul_(keep).add_(m, alpha=1 - keep)\n        for a, m in zip(average.buffers(), module.buffers()):\n"
        "            a.data = m.data.clone()"
    ],
    "9.1": [
        "def act(policy, normalizer, observation, bounds=(-np.inf, np.inf)):\n"
        "    seen = {k: normalizer.normalize(k, v) for k, v in observation.items()}\n"
        "    a = normalizer.unnormalize('action', policy.select_action(seen)).numpy()\n"
        "    return np.clip(a, bounds[0], bounds[1])"
    ],
    "11.1": [
        "class GoalEncoder(nn.Module):\n    def __init__(self, shape, width):\n        super().__init__()\n"
        "        self.n, self.size = shape\n        self.project = nn.Linear(self.size, width)\n\n"
        "    def forward(self, observation):\n        row = observation[GOAL][:, observation[GOAL].shape[1] - 1]\n"
        "        return torch.stack([self.project(goal) for goal in row.split(self.size, dim=1)], dim=1)",
        "from einops import rearrange\n\nclass GoalEncoder(nn.Module):\n    def __init__(self, shape, width):\n"
        "        super().__init__()\n        self.shape, self.layer = shape, nn.Linear(shape[1], width)\n\n"
        "    def forward(self, o):\n        tokens = self.layer(rearrange(o[GOAL], 'b t (n s) -> b t n s', n=self.shape[0]))\n"
        "        return tokens[:, -1]",
    ],
    "11.2": [
        "def goal_rows(kind, n, now, first, last, uniform):\n    rows = []\n"
        "    for t, a, b, u in zip(now.tolist(), first.tolist(), last.tolist(), uniform.tolist()):\n"
        "        if kind == 'future':\n            rows.append([min(b, t + 1 + int(u * (b - t)))] * n)\n"
        "        elif kind == 'final':\n            rows.append([b] * n)\n        else:\n"
        "            rows.append([round(a + (i + 1) / n * (b - a)) for i in range(n)])\n    return rows",
        "def goal_rows(kind, n, now, first, last, uniform):\n    if kind == 'sequence':\n"
        "        share = torch.linspace(1 / n, 1, n, dtype=torch.float64)\n"
        "        return torch.floor(torch.outer(last - first, share) + 0.5) + first.unsqueeze(1)\n"
        "    found = last if kind == 'final' else torch.clamp(now + 1 + torch.floor(uniform * (last - now)), max=last)\n"
        "    return found.reshape(-1, 1).repeat(1, n)",
    ],
    "11.3": [
        "@dataclass(frozen=True)\nclass Hindsight:\n    kind: str\n    n: int\n    frames: Tensor\n    first: Tensor\n"
        "    last: Tensor\n\n    def __call__(self, now):\n        draws = torch.tensor([torch.rand(()).item() for _ in now])\n"
        "        rows = goal_rows(self.kind, self.n, now, self.first[now], self.last[now], draws)\n"
        "        return torch.cat([self.frames[column] for column in rows.T], dim=1)"
    ],
    "12.1": [
        "def pixel_grid(height, width):\n    return torch.tensor([[2 * j / (width - 1) - 1, 2 * i / (height - 1) - 1] "
        "for i in range(height) for j in range(width)])",
        "def pixel_grid(height, width):\n    y, x = torch.meshgrid(torch.linspace(-1, 1, height), "
        "torch.linspace(-1, 1, width), indexing='ij')\n    return torch.stack([x, y], -1).reshape(-1, 2)",
        "def pixel_grid(height, width):\n    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]\n"
        "    return np.stack([x.ravel(), y.ravel()], 1)",
    ],
    "12.2": [
        "class SpatialSoftmax(nn.Module):\n    def __init__(self, channels, n_keypoints):\n        super().__init__()\n"
        "        self.mix = nn.Conv2d(channels, n_keypoints, 1)\n\n    def forward(self, features):\n"
        "        maps = self.mix(features)\n        N, n, H, W = maps.shape\n"
        "        p = maps.reshape(N, n, H * W).softmax(2).view(N, n, H, W)\n"
        "        x, y = torch.linspace(-1, 1, W), torch.linspace(-1, 1, H)\n"
        "        return torch.stack([(p * x).sum((2, 3)), (p * y[:, None]).sum((2, 3))], dim=-1)",
        "class SpatialSoftmax(nn.Module):\n    def __init__(self, channels, n_keypoints):\n        super().__init__()\n"
        "        self.mix = nn.Conv2d(channels, n_keypoints, 1)\n\n    def forward(self, features):\n"
        "        maps = self.mix(features).flatten(2)\n        weights = (maps - maps.amax(2, keepdim=True)).exp()\n"
        "        grid = pixel_grid(*features.shape[2:])\n"
        "        return torch.einsum('nkp,pd->nkd', weights / weights.sum(2, keepdim=True), grid)",
    ],
    "12.3": [
        "class CameraEncoder(nn.Module):\n    def __init__(self, images, cameras, width, state=None):\n"
        "        super().__init__()\n        self.images, self.cameras, self.state = images, list(cameras), state\n"
        "        self.project = nn.Linear(images.out.out_features, width)\n\n    def forward(self, observation):\n"
        "        tokens = []\n        for name in self.cameras:\n            seen = observation[name]\n"
        "            steps = [self.project(self.images(seen[:, t])) for t in range(seen.shape[1])]\n"
        "            tokens.append(torch.stack(steps, dim=1).unsqueeze(2))\n"
        "        if self.state is not None:\n            tokens.append(self.state(observation))\n"
        "        return torch.cat(tokens, dim=2)"
    ],
}
"""Other ways to compute the same, by exercise."""
