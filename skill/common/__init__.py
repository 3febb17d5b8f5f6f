"""Helpers that every package of skill uses."""
