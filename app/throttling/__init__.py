"""How often the routes apart from ingest may be called, counted by each process in its own memory."""
