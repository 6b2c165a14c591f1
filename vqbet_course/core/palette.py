"""The colours of figures and explorers: each has one meaning, and all can be told apart with every kind of colour
vision (Okabe and Ito)."""

DEMO = "#0072B2"
"""Blue: what was demonstrated, and the pusher."""

CODE = "#E69F00"
"""Orange: a code, and what tokens decode to."""

OFFSET = "#CC79A7"
"""Purple: what is added to a code: the secondary code, a residual, an offset."""

POLICY = "#56B4E9"
"""Light blue: what a model predicts or a policy does."""

GOAL = "#009E73"
"""Green: the goal, success."""

FAILURE = "#D55E00"
"""Red: a failure, an error, a dead code."""

OTHER = "#777777"
"""Grey: the baseline, the context, what is compared with."""
