"""Decisions about rented machines, and the code that carries them out."""
