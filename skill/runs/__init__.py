"""Runs, wherever they are: their directories, states, logs and requests."""
