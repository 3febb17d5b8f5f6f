"""Which options a training script has, found in its source, and the spec to start from that follows. Pure: nothing of a
script is ever run here."""
