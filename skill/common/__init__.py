"""What every package of skill uses."""
