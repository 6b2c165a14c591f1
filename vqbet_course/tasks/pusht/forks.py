"""Starts of PushT from which there are two ways round the T, and which of them an episode takes."""

from collections.abc import Sequence

import numpy as np

FORK_SEEDS = (300_000, 300_001, 300_003, 300_004, 300_005, 300_010, 300_013, 300_014)
"""The first eight environment seeds from 300000 on from which the pusher has to get to the other side of the T, and the
demonstrator's two styles walk round it by more than a quarter turn either way."""


def way_round(observations: np.ndarray, contacts: Sequence[int | None], least: float = np.pi / 3) -> str | None:
    """On which hand the pusher has the T on its way to the first contact: `left` or `right`, and None when it
    touches nothing, or goes less than `least` radians about the T's centre.

    Args: observations (T, 18), keypoints and pusher in pixels; contacts (T,)."""
    touched = next((i for i, touches in enumerate(contacts) if touches), None)
    if touched is None:
        return None
    seen = np.asarray(observations)[: touched + 1]
    away = seen[:, 16:] - seen[:, :16].reshape(-1, 8, 2).mean(1)
    angle = np.unwrap(np.arctan2(away[:, 1], away[:, 0]))
    turned = angle[-1] - angle[0]  # y points down: anticlockwise on the screen is negative
    return None if abs(turned) < least else "left" if turned < 0 else "right"
