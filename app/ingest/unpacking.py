"""Compressed bodies: never more than a limit comes out, whatever goes in. Pure; knows no header and no event."""

from __future__ import annotations

import zlib

import zstandard

from app.errors import MalformedError, TooLargeError

MAX_FRAMES = 1_000
"""Parts that a body may be made of. Each costs more than its bytes do, and ten megabytes could hold a million."""

_CHUNK_BYTES = 16 * 1024


def too_large(limit: int) -> TooLargeError:
    """The refusal of a body of more than `limit` bytes, packed or not."""
    return TooLargeError(f"The body is larger than {limit} bytes.", extra={"limit_bytes": limit})


def gunzip(body: bytes, limit: int) -> bytes:
    """The bytes that gzip packed (RFC 1952).

    Raises:
        TooLargeError: there are more than `limit`.
        MalformedError: damaged, cut short, or of more than `MAX_FRAMES` members.
    """
    parts: list[bytes] = []
    size = position = members = 0
    try:
        while position < len(body):  # gzip files may be concatenated (RFC 1952 section 2.2)
            members = _one_more(members)
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                if not (chunk := body[position : position + _CHUNK_BYTES]):
                    raise MalformedError("The gzip body is truncated.")
                part = member.decompress(chunk, limit + 1 - size)
                position += len(chunk) - len(member.unused_data)
                size += len(part)
                if size > limit:
                    raise too_large(limit)
                parts.append(part)
    except zlib.error as error:
        raise MalformedError(f"The gzip body is damaged: {error}.") from None
    return b"".join(parts)


def _one_more(frames: int) -> int:
    if frames == MAX_FRAMES:
        raise MalformedError(f"The compressed body is made of more than {MAX_FRAMES} parts.")
    return frames + 1


def unzstd(body: bytes, limit: int) -> bytes:
    """The bytes that zstd packed (RFC 8878); raises as `gunzip`."""
    try:
        # The window is bounded too: a frame may ask for gigabytes before it yields a byte.
        reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(body, read_across_frames=True)
        data = reader.read(limit + 1)
        # A truncated frame reads as a short one; decompressobj knows whether the frame had ended.
        if len(data) <= limit:
            _require_whole_frames(body)
    except zstandard.ZstdError as error:
        raise MalformedError(f"The zstd body is damaged: {error}.") from None
    if len(data) > limit:
        raise too_large(limit)
    return data


def _require_whole_frames(body: bytes) -> None:
    position = frames = 0
    while position < len(body):
        frames = _one_more(frames)
        frame = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
        while not frame.eof:
            if not (chunk := body[position : position + _CHUNK_BYTES]):
                raise MalformedError("The zstd body is truncated.")
            frame.decompress(chunk)
            position += len(chunk) - len(frame.unused_data)
