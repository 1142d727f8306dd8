"""Why an import ends early. Each text is one line for the person who started it."""

from __future__ import annotations


class TargetError(Exception):
    """It isn't said where to send, or as whom."""


class SourceError(Exception):
    """A file or a repository can't be read, or not to its end."""


class DeliveryError(Exception):
    """The API refuses the import as a whole, or gives no usable answer for too long."""


class StoppedError(Exception):
    """The person asked to stop, or another part of the import failed: nothing more is sent."""
