"""What is drawn in a terminal, and what may reach one."""
