# 1.3 wrong: replaces the function that asks it
import __main__

__main__.ask = lambda probe, answer, inputs: {name: value * 0 for name, value in inputs.items()}


def kmeans(points, n_codes, n_iters=20, generator=None):
    return points[:n_codes]
