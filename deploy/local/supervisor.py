"""Children under supervision: start until healthy, restart with a limit, stop in time. Knows no component.

A child that dies before it was healthy for the first time is an error of `start`; later it is restarted. One that dies
too often sets `failure`, and whoever owns the supervisor stops the rest.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from deploy.local.errors import LocalError
from deploy.local.policy import RestartPolicy
from deploy.local.processes import Record, kill, members, serving, spawn
from deploy.local.service import last_words, log_size

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable

    from deploy.local.processes import Register
    from deploy.local.service import Service

_POLL_SECONDS = 0.1
_HEALTHY_WITHIN_SECONDS = 120.0
_STARTING_PATIENCE = 3.0


@dataclass
class _Child:
    service: Service
    process: subprocess.Popen[bytes]
    record: Record
    said_before: int
    healthy: bool = False
    deaths: list[float] = field(default_factory=list)
    watch: asyncio.Task[None] | None = None


class Supervisor:
    def __init__(self, register: Register, report: Callable[[str], None], policy: RestartPolicy | None = None) -> None:
        self._register = register
        self._report = report
        self._policy = policy or RestartPolicy()
        self._children: dict[str, _Child] = {}
        self._failed = asyncio.Event()
        self.failure: str | None = None

    async def start(self, service: Service) -> None:
        """Start it and return when it is healthy. Raises LocalError with its last words where it isn't."""
        await service.prepare()
        child = self._spawn(service)
        try:
            await self._until_healthy(child)
        except BaseException:  # a cancelled start too leaves nothing running; then it is raised on
            await self.stop(service.name)
            raise
        child.watch = asyncio.create_task(self._watch(child), name=f"watch {service.name}")

    async def stop(self, name: str) -> None:
        """Stop it, by force once its patience is over. Does nothing where it doesn't run."""
        child = self._children.get(name)
        if child is None:
            return
        if child.watch:
            child.watch.cancel()
            with suppress(asyncio.CancelledError):
                await child.watch
        await self._end(child)
        # Only now: a stop that is interrupted can be asked for again.
        self._children.pop(name, None)
        self._register.remove(name)

    async def start_all(self, services: Iterable[Service]) -> None:
        """Side by side; the first that fails ends the others and is the error."""
        tasks = [asyncio.create_task(self.start(service), name=f"start {service.name}") for service in services]
        try:
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_failed(self) -> str:
        """Returns, with the line to show, once a component is given up."""
        await self._failed.wait()
        return self.failure or ""

    def record(self, name: str) -> Record:
        return self._children[name].record

    def running(self) -> list[str]:
        return list(self._children)

    def _spawn(self, service: Service) -> _Child:
        said_before = log_size(service.command.log)
        process = spawn(service.command)
        try:
            created = psutil.Process(process.pid).create_time()
        except psutil.NoSuchProcess:  # it died at once, and `_until_healthy` says so
            created = time.time()
        record = Record(service.name, process.pid, created, service.stop_signal, service.port, str(service.command.log))
        child = _Child(service, process, record, said_before)
        self._children[service.name] = child
        self._register.add(record)
        return child

    async def _until_healthy(self, child: _Child) -> None:
        service = child.service
        deadline = time.monotonic() + _HEALTHY_WITHIN_SECONDS
        while not await service.healthy():
            if child.process.poll() is not None:
                how, log = _how(child.process.returncode), service.command.log
                raise LocalError(
                    f"{service.name} {how} while starting: {last_words(log, child.said_before)} (log: {log})"
                )
            if time.monotonic() > deadline:
                raise LocalError(
                    f"{service.name} wasn't healthy within {_HEALTHY_WITHIN_SECONDS:.0f} s:"
                    f" {last_words(service.command.log, child.said_before)} (log: {service.command.log})"
                )
            await asyncio.sleep(_POLL_SECONDS)
        child.healthy = True

    async def _watch(self, child: _Child) -> None:
        while True:
            while child.process.poll() is None:  # noqa: ASYNC110 - a child's end is no event of asyncio's
                await asyncio.sleep(_POLL_SECONDS)
            name, log = child.service.name, child.service.command.log
            now = time.monotonic()
            child.deaths = [*child.deaths, now][-self._policy.limit - 1 :]
            delay = self._policy.delay(child.deaths, now)
            if delay is None:
                self.failure = (
                    f"{name} died {len(child.deaths)} times within {self._policy.window:.0f} s: giving up (log: {log})"
                )
                self._report(self.failure)
                self._failed.set()
                return
            self._report(f"{name} {_how(child.process.returncode)}: starting it again (log: {log})")
            await asyncio.sleep(delay)
            await self._again(child)

    async def _again(self, child: _Child) -> None:
        name = child.service.name
        try:
            await self._end(child)
            await child.service.prepare()
            child.healthy = False
            fresh = self._spawn(child.service)
            self._children[name] = child
            child.process, child.record, child.said_before = fresh.process, fresh.record, fresh.said_before
            await self._until_healthy(child)
        except (LocalError, OSError) as error:
            # The dead or unhealthy process counts as a death of its own.
            self._report(str(error))
            await self._end(child)
        else:
            self._report(f"{name} is healthy again")

    async def _end(self, child: _Child) -> None:
        family = members(child.record)
        if child.process.poll() is None:
            with suppress(ProcessLookupError):
                child.process.send_signal(child.service.stop_signal)
            # One that is still starting often can't listen yet, and there is nothing in it to save.
            patience = child.service.patience if child.healthy else min(_STARTING_PATIENCE, child.service.patience)
            deadline = time.monotonic() + patience
            while child.process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - as above
                await asyncio.sleep(_POLL_SECONDS / 2)
            if child.process.poll() is None:
                self._report(f"{child.service.name} didn't stop within {patience:.0f} s: killed")
        if child.process.poll() is None:
            with suppress(ProcessLookupError):
                child.process.kill()
        left = [*family, *members(child.record), *(serving(child.service.data) if child.service.data else ())]
        await asyncio.to_thread(kill, [process for process in left if process.pid != child.process.pid])
        await asyncio.to_thread(child.process.wait)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    return f"was ended by {signal.Signals(-code).name}"
