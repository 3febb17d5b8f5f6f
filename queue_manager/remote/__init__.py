"""Commands for a host, each called over SSH and answering with one JSON document."""
