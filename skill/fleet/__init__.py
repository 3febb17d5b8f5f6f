"""Decisions about rented hosts. Pure: what is seen goes in, what is to be done comes out."""
