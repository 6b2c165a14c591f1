"""Experiments: the panel of policies, ablations, designs, rounds of corrections, reproduction."""
