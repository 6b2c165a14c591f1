"""MetaWorld 3.0: fifty tasks of one simulated arm, each known as `metaworld-NAME`."""

MEASURED = ("pick-place", "drawer-open", "peg-insert-side")
"""The tasks whose policies this course measures."""

OTHERS = """
    assembly basketball bin-picking box-close button-press button-press-topdown button-press-topdown-wall
    button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble door-close door-lock door-open
    door-unlock drawer-close faucet-close faucet-open hammer hand-insert handle-press handle-press-side handle-pull
    handle-pull-side lever-pull peg-unplug-side pick-out-of-hole pick-place-wall plate-slide plate-slide-back
    plate-slide-back-side plate-slide-side push push-back push-wall reach reach-wall shelf-place soccer stick-pull
    stick-push sweep sweep-into window-close window-open
"""
"""The names of the others."""

METAWORLD_NAMES = (*MEASURED, *OTHERS.split())
"""MetaWorld's names without their `-v3`, the measured ones first."""
