"""The one error of the local stack. Owns no behaviour: its text is the line a person reads."""


class LocalError(Exception):
    """Something a person can act on; the text is one line, complete, without a traceback."""
