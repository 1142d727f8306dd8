"""The error that any command raises to end with one line and exit status 1."""


class CommandError(Exception):
    """A command failed; the text is the line that its user reads."""
