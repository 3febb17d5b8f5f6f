"""The MCP server: what an agent may read of runs, and how it changes them."""
