"""A queue manager for tests of faults: it waits seconds where a real one waits minutes, and dies where DIE says."""
