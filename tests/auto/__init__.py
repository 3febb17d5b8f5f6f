"""Tests of the autoresearch loop."""
