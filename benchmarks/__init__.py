"""Measurements, side by side in one run; never a timed test. Run all with `make bench`."""
