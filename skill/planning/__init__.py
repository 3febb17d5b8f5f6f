"""Plan what would run where, and whether it can. Pure, except for reading existing files."""
