"""Use cases: functions with typed arguments and a typed result, for the command line and for Python. They print
nothing."""
