"""Launchers: start attempts, find them again, stop and close them."""
