"""Ids for lines that came without one, so that importing the same content again counts nothing twice.

The id depends on the SHA-256 of the whole content (decompressed) and the line's number, and on nothing else: not on
the file's name, the time or the machine. Two lines that say the same thing are two events. A file that was changed,
even by one line more at its end, is other content, and all of its lines without an `event_id` get other ids.
"""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID


def id_of_line(content_digest: bytes, number: int) -> str:
    """A UUIDv8 (RFC 9562 section 5.8, made as in appendix B.2) for line `number` of content with this SHA-256."""
    value = int.from_bytes(sha256(b"%b:%d" % (content_digest, number)).digest()[:16], "big")
    value = value & ~(0xF << 76) | 8 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return str(UUID(int=value))
