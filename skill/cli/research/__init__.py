"""The verbs of `wavequeue research`."""
