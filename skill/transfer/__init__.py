"""Files between this machine and the hosts of a run."""
