"""Providers of rented machines: one package each, and their port."""
