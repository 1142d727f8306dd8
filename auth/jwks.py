"""A client's public keys (JWK Set, RFC 7517), checked before they are stored in `oauth_clients.jwks`.

What is stored is `{"keys": [1 to 5 keys]}`, and each key holds exactly its public members and `kid` (1 to 200 printable
ASCII characters, unique in the set), `use` ("sig") and `alg`: RS256 with RSA of 2048 to 4096 bits, ES256 with EC P-256,
or EdDSA with OKP Ed25519; PyJWT loads it. No private or symmetric key is ever stored. Refuses to verify signatures
(`auth.assertions`) and to fetch keys from anywhere.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import jwt

from app.errors import Fault, InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_KEYS = 5
LARGEST_SET = 16 * 1024
"""Bytes of JSON without white space."""

_RSA_BITS = (2048, 4096)
_RSA_EXPONENT_BITS = (17, 64)  # 65537 and up; small ones have a history, huge ones cost time
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")  # RFC 7518 section 6, RFC 8037 section 2
_KID = re.compile(r"[\x21-\x7e]{1,200}")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class _Kind:
    """A kind of key: the algorithm that it signs with, its curve, and its members that hold numbers or octets."""

    alg: str
    crv: str | None
    numbers: tuple[str, ...]


_KINDS = {
    "RSA": _Kind("RS256", None, ("n", "e")),
    "EC": _Kind("ES256", "P-256", ("x", "y")),
    "OKP": _Kind("EdDSA", "Ed25519", ("x",)),
}
ALGORITHMS = tuple(kind.alg for kind in _KINDS.values())


def public_key_set(given: Any, pointer: str = "/jwks") -> dict[str, Any]:
    """`given` as it is to be stored; see the module's text. Members that say nothing about a signature are left out.

    A key without `kid` gets its thumbprint (RFC 7638, SHA-256) as one.

    Raises:
        InvalidError: each fault with its pointer, which begins with `pointer`.
    """
    match given:
        case {"keys": [*keys]} if 1 <= len(keys) <= MOST_KEYS:
            pass
        case _:
            raise _invalid([Fault(pointer, f'must be {{"keys": […]}} with 1 to {MOST_KEYS} keys (RFC 7517)')])
    try:
        size = len(json.dumps(given, separators=(",", ":")))
    except RecursionError:
        raise _invalid([Fault(pointer, "is nested too deep")]) from None
    if size > LARGEST_SET:
        raise _invalid([Fault(pointer, f"must be at most {LARGEST_SET} bytes of JSON")])
    faults: list[Fault] = []
    stored: list[dict[str, str]] = []
    for number, key in enumerate(keys):
        where = f"{pointer}/keys/{number}"
        if not isinstance(key, dict):
            faults.append(Fault(where, "must be an object"))
            continue
        found = [Fault(f"{where}{at}", detail) for at, detail in _faults_of(key)]
        if not found:
            entry = _stored(key)
            found = [Fault(f"{where}{at}", detail) for at, detail in _beside(entry, stored)]
            stored.append(entry)
        faults += found
    if faults:
        raise _invalid(faults)
    return {"keys": stored}


def thumbprint(key: Mapping[str, Any]) -> str:
    """The SHA-256 thumbprint of a key of one of the three kinds, in base64url (RFC 7638 section 3)."""
    kind = _KINDS[key["kty"]]
    named = ("kty", *(("crv",) if kind.crv else ()), *kind.numbers)
    required = json.dumps({name: key[name] for name in sorted(named)}, separators=(",", ":"))
    return urlsafe_b64encode(sha256(required.encode()).digest()).decode().rstrip("=")


def key_ids(jwks: Mapping[str, Any] | None) -> list[str]:
    """The `kid` of each key of a stored set; none if there is no set."""
    return [] if jwks is None else [key["kid"] for key in jwks["keys"]]


def _faults_of(key: dict[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with a key alone: pointers within it, and texts that repeat none of its values."""
    if key.get("kty") == "oct":
        return [("/kty", "is a symmetric key: whoever verifies with it could sign with it too; send a public key")]
    private = [(f"/{name}", "is private: send the public members only") for name in _PRIVATE if name in key]
    if private:
        return private
    kty = key.get("kty")
    kind = _KINDS.get(kty) if isinstance(kty, str) else None
    if kind is None:
        return [("/kty", f"must be one of {', '.join(_KINDS)}")]
    faults = []
    if kind.crv is not None and key.get("crv") != kind.crv:
        faults.append(("/crv", f"must be {kind.crv} with kty {kty}"))
    if key.get("use", "sig") != "sig":
        faults.append(("/use", "must be sig, if it is given"))
    if key.get("key_ops", ["verify"]) != ["verify"]:
        faults.append(("/key_ops", 'must be ["verify"], if it is given'))
    if key.get("alg", kind.alg) != kind.alg:
        faults.append(("/alg", f"must be {kind.alg} with kty {kty}, if it is given"))
    if "kid" in key and not (isinstance(key["kid"], str) and _KID.fullmatch(key["kid"])):
        faults.append(("/kid", "must be 1 to 200 printable ASCII characters without spaces, if it is given"))
    faults += [
        (f"/{name}", "must be base64url without padding")
        for name in kind.numbers
        if not (isinstance(key.get(name), str) and _BASE64URL.fullmatch(key[name]) and len(key[name]) % 4 != 1)
    ]
    return faults or _faults_of_numbers(key)


def _faults_of_numbers(key: dict[str, Any]) -> list[tuple[str, str]]:
    if key["kty"] == "RSA":
        low, high = _RSA_BITS
        faults = []
        if not low <= _number(key["n"]).bit_length() <= high:
            faults.append(("/n", f"must be of {low} to {high} bits"))
        low, high = _RSA_EXPONENT_BITS
        if not (low <= _number(key["e"]).bit_length() <= high and _number(key["e"]) % 2):
            faults.append(("/e", "must be 65537 (AQAB), or a larger odd number of at most 64 bits"))
        if faults:
            return faults
    try:
        jwt.PyJWK(_stored(key))
    except (jwt.PyJWTError, ValueError):  # for instance: not a point of the curve
        return [("", f"is not a public key of kty {key['kty']}")]
    return []


def _beside(entry: dict[str, str], others: list[dict[str, str]]) -> list[tuple[str, str]]:
    """What is wrong with a key among others."""
    if any(thumbprint(entry) == thumbprint(other) for other in others):
        return [("", "is the same key as another one in the set")]
    if any(entry["kid"] == other["kid"] for other in others):
        return [("/kid", "is another key's too")]
    return []


def _stored(key: dict[str, Any]) -> dict[str, str]:
    kind = _KINDS[key["kty"]]
    curve = {} if kind.crv is None else {"crv": kind.crv}
    numbers = {name: key[name] for name in kind.numbers}
    kid = key["kid"] if "kid" in key else thumbprint(key)
    return {"kty": key["kty"], "kid": kid, "use": "sig", "alg": kind.alg} | curve | numbers


def _number(text: str) -> int:
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _invalid(faults: list[Fault]) -> InvalidError:
    return InvalidError("The keys are not valid.", tuple(faults))
