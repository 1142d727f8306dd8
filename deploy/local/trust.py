"""Which certificate authorities downloads trust: this system's and those that Python's HTTP libraries carry.

A company's own authority is in the system's store, and some Python builds have no system store: so both.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import certifi

if TYPE_CHECKING:
    import requests


def context() -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.load_verify_locations(certifi.where())
    return made


def session() -> requests.Session:
    """For remotezip, which is made on requests."""
    import requests  # noqa: PLC0415 - comes with remotezip, which a second start doesn't need
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, ssl_context=context(), **options)

        def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
            return super().proxy_manager_for(proxy, ssl_context=context(), **options)

    made = requests.Session()
    made.mount("https://", Adapter())
    return made
