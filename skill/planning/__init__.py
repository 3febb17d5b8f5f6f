"""What would run where, and whether it can. Pure, but for a look at files that are there."""
