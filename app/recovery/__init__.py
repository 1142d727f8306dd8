"""Dead letters, replays, erasure: endpoints, and query functions that commands and workers share."""
