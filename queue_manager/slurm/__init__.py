"""Slurm starts the attempts: Slurm places them, the manager judges them."""
