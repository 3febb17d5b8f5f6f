"""A process that reads GPUs when it is told to."""
