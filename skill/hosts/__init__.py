"""Hosts over SSH: reach them, check them, prepare them."""
