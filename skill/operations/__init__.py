"""Use cases, each a function with typed arguments and a typed result, for the command line and for Python."""
