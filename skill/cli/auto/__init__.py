"""The verbs of `wavequeue auto`."""
