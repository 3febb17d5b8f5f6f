"""Who rents hosts out: one folder each."""
