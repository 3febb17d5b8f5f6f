"""Hosts over SSH: how they are reached, what they need, how they are."""
