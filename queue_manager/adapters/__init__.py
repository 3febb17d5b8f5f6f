"""Access to the host: GPUs, processes, files, clock and locks. Each has one owner here."""
