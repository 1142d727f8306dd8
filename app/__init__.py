"""The HTTP gateway and the `sluice` command. `create_app` in `main` is the only composition root."""
