"""Vast.ai: its client over plain HTTP, and what its answers mean."""
