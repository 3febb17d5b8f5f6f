"""The verbs of `wavequeue`: parse, confirm, call an operation, show its result, exit."""
