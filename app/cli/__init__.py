"""The `sluice` command: one module a group of subcommands, nothing that a library caller would need."""
