"""What serves the training loop and is not taught: checkpoints, the log, resuming, devices."""
