"""Evaluate policies: rollouts in a simulator, predictions on held-out demonstrations, failure labels, videos."""
