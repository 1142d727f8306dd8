"""What a tenant stored and was refused, by hour and client, and how that stands to its quota."""
