"""The pure core: types and decisions. Reads no clock, file, process or GPU."""
