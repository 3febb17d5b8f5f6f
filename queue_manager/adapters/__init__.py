"""What touches the host: its GPUs, processes, files, clock and locks. Each outside thing has one owner here."""
