"""Documents for people about a run or a job. Pure."""
