"""The verbs of `wavequeue vast`."""
