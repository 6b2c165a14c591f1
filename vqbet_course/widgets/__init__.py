"""The explorers of the lessons. Each has a static twin, `plot_...`: the same figure for readers without a kernel.

Figures are made without pyplot, so none stays open. Every control is native: Tab reaches it, the arrow keys move
it. Colours are those of Okabe and Ito, and viridis: distinguishable with every kind of colour vision.
"""

from vqbet_course.widgets.attention import attention_explorer, attention_weights, plot_attention
from vqbet_course.widgets.cockpit import Thought, cockpit_explorer, fly, plot_cockpit, plot_panel, think
from vqbet_course.widgets.decisions import Mind, mind_of
from vqbet_course.widgets.drive import Drive, drive_explorer, plot_drive, save_driven, write_driven
from vqbet_course.widgets.kmeans import kmeans_explorer, kmeans_steps, plot_kmeans
from vqbet_course.widgets.layers import layers_explorer, plot_layers
from vqbet_course.widgets.learning import Moment, learning_explorer, plot_learning, recorded_moments
from vqbet_course.widgets.moves import Moves, move_explorer, moves_of, plot_move
from vqbet_course.widgets.pairs import pair_usage_explorer, plot_pair_usage
from vqbet_course.widgets.parts import as_image, explorer
from vqbet_course.widgets.side_by_side import plot_side_by_side, recorded_policies, side_by_side_explorer, steps_of
from vqbet_course.widgets.snippets import Snippets, plot_snippets, snippet_explorer, snippets_of
from vqbet_course.widgets.usage import DEAD, describe_usage, plot_token_usage, token_usage_explorer

__all__ = [
    "DEAD",
    "Drive",
    "Mind",
    "Moment",
    "Moves",
    "Snippets",
    "Thought",
    "as_image",
    "attention_explorer",
    "attention_weights",
    "cockpit_explorer",
    "describe_usage",
    "drive_explorer",
    "explorer",
    "fly",
    "kmeans_explorer",
    "kmeans_steps",
    "layers_explorer",
    "learning_explorer",
    "mind_of",
    "move_explorer",
    "moves_of",
    "pair_usage_explorer",
    "plot_attention",
    "plot_cockpit",
    "plot_drive",
    "plot_kmeans",
    "plot_layers",
    "plot_learning",
    "plot_move",
    "plot_pair_usage",
    "plot_panel",
    "plot_side_by_side",
    "plot_snippets",
    "plot_token_usage",
    "recorded_moments",
    "recorded_policies",
    "save_driven",
    "side_by_side_explorer",
    "snippet_explorer",
    "snippets_of",
    "steps_of",
    "think",
    "token_usage_explorer",
    "write_driven",
]
