"""How an attempt is started, found again, stopped and closed."""
