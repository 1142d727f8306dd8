"""The reference of the batch row: decode the same bytes with msgspec and produce them, without HTTP.

Prints one line of JSON: bodies a second. A process of its own, so that it can be pinned like the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer

from app.events.model import IncomingEvent


async def measure(bootstrap: str, topic: str, body: bytes, seconds: float, in_flight: int) -> float:
    """Bodies a second that are decoded and acknowledged with acks=all, `in_flight` at once."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_request_size=2**21, max_batch_size=2**21
    )
    await producer.start()
    decode = msgspec.json.Decoder(list[IncomingEvent]).decode
    done = 0
    deadline = time.perf_counter() + seconds

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < deadline:
            decode(body)
            await producer.send_and_wait(topic, body, partition=0)
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(in_flight)))
    elapsed = time.perf_counter() - started
    await producer.stop()
    return done / elapsed


if __name__ == "__main__":
    bootstrap, topic, path, seconds, in_flight = sys.argv[1:]
    with open(path, "rb") as file:  # noqa: PTH123
        body = file.read()
    rate = uvloop.run(measure(bootstrap, topic, body, float(seconds), int(in_flight)))
    print(json.dumps({"bodies_per_second": rate}))
