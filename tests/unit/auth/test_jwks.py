"""Which public keys of clients are taken, what is stored of them, and what is said of those that are not."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from app.errors import InvalidError
from auth.jwks import LARGEST_SET, key_ids, public_key_set, thumbprint

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
RSA: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key())) | {"key_ops": ["verify"]}
EC: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(EC_KEY.public_key()))
ED: dict[str, Any] = json.loads(OKPAlgorithm.to_jwk(ED_KEY.public_key()))


def faults(given: Any) -> dict[str, str]:
    with pytest.raises(InvalidError) as refusal:
        public_key_set(given, "/jwks")
    return {fault.pointer: fault.detail for fault in refusal.value.faults}


def of_number(value: int) -> str:
    raw = value.to_bytes((value.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_each_kind_of_key_is_stored_with_its_algorithm_its_use_and_an_id(key: dict[str, Any], algorithm: str) -> None:
    (stored,) = public_key_set({"keys": [key]})["keys"]
    assert (stored["alg"], stored["use"], stored["kid"]) == (algorithm, "sig", thumbprint(key))
    assert stored.keys() - {"alg", "use", "kid"} == key.keys() - {"key_ops"}


@pytest.mark.parametrize(
    ("private", "key", "algorithm"), [(RSA_KEY, RSA, "RS256"), (EC_KEY, EC, "ES256"), (ED_KEY, ED, "EdDSA")]
)
def test_what_is_stored_verifies_what_the_private_key_signed(private: Any, key: dict[str, Any], algorithm: str) -> None:
    (stored,) = public_key_set({"keys": [key]})["keys"]
    token = jwt.encode({"sub": "a"}, private, algorithm)
    assert jwt.decode(token, jwt.PyJWK(stored), [algorithm]) == {"sub": "a"}


def test_the_thumbprint_is_that_of_the_rfc() -> None:
    # RFC 7638 section 3.1, and RFC 8037 appendix A.3.
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    assert thumbprint({"kty": "RSA", "n": modulus, "e": "AQAB"}) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    edwards = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert thumbprint(edwards) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_members_that_say_nothing_about_a_signature_are_not_kept() -> None:
    given = {"keys": [EC | {"kid": "a", "x5u": "https://example.com/", "x5c": ["…"], "exp": 7}], "more": 1}
    stored = public_key_set(given)
    assert stored == {"keys": [{**EC, "kid": "a", "use": "sig", "alg": "ES256"}]}


def test_ids_are_kept_in_order() -> None:
    stored = public_key_set({"keys": [ED | {"kid": "b"}, EC | {"kid": "a"}]})
    assert key_ids(stored) == ["b", "a"]
    assert key_ids(None) == []


@pytest.mark.parametrize(
    "given",
    [None, [], "keys", {}, {"keys": []}, {"keys": EC}, {"keys": [EC] * 6}, {"keys": {"0": EC}}],
)
def test_what_is_no_set_of_one_to_five_keys_is_refused_as_a_whole(given: Any) -> None:
    assert faults(given).keys() == {"/jwks"}


def test_a_set_that_is_too_large_is_refused() -> None:
    assert faults({"keys": [EC | {"x5c": ["x" * LARGEST_SET]}]}).keys() == {"/jwks"}


PRIVATE_RSA = json.loads(RSAAlgorithm.to_jwk(RSA_KEY))


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (PRIVATE_RSA, {"d", "p", "q", "dp", "dq", "qi"}),
        (json.loads(ECAlgorithm.to_jwk(EC_KEY)), {"d"}),
        (json.loads(OKPAlgorithm.to_jwk(ED_KEY)), {"d"}),
        (RSA | {"oth": []}, {"oth"}),
        (EC | {"d": ""}, {"d"}),
        (EC | {"k": "c2VjcmV0"}, {"k"}),
    ],
)
def test_private_members_are_refused_by_name_and_never_repeated(key: dict[str, Any], names: set[str]) -> None:
    found = faults({"keys": [ED, key]})
    assert found.keys() == {f"/jwks/keys/1/{name}" for name in names}
    assert not [name for name in names if len(str(key[name])) > 8 and str(key[name]) in str(found)]


def test_a_symmetric_key_is_refused_without_repeating_it() -> None:
    found = faults({"keys": [{"kty": "oct", "k": "bm90LWEtc2VjcmV0"}]})
    assert found.keys() == {"/jwks/keys/0/kty"}
    assert "symmetric" in found["/jwks/keys/0/kty"]
    assert "bm90LWEtc2VjcmV0" not in str(found)


WEAK = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key()))  # noqa: S505  to be refused


@pytest.mark.parametrize(
    ("key", "pointer"),
    [
        (7, ""),
        ({}, "/kty"),
        (EC | {"kty": None}, "/kty"),
        (EC | {"kty": ["EC"]}, "/kty"),
        (EC | {"kty": "DSA"}, "/kty"),
        (WEAK, "/n"),
        (RSA | {"n": of_number(2**4096 + 1)}, "/n"),
        (RSA | {"e": of_number(1)}, "/e"),
        (RSA | {"e": of_number(3)}, "/e"),
        (RSA | {"e": of_number(65536)}, "/e"),
        (RSA | {"e": of_number(2**64 + 1)}, "/e"),
        (RSA | {"n": 5}, "/n"),
        (RSA | {"e": "AQAB="}, "/e"),
        (EC | {"crv": "P-384"}, "/crv"),
        (EC | {"crv": "secp256k1"}, "/crv"),
        (EC | {"x": ED["x"]}, ""),
        (EC | {"x": EC["x"][:-4]}, ""),
        (EC | {"y": "+/8"}, "/y"),
        ({name: value for name, value in EC.items() if name != "y"}, "/y"),
        (ED | {"crv": "Ed448"}, "/crv"),
        (ED | {"crv": "X25519"}, "/crv"),
        (ED | {"x": ED["x"][:-4]}, ""),
        (ED | {"x": ""}, "/x"),
        (ED | {"x": "AAAAA"}, "/x"),
        (EC | {"use": "enc"}, "/use"),
        (EC | {"use": None}, "/use"),
        (EC | {"key_ops": ["sign"]}, "/key_ops"),
        (EC | {"key_ops": ["verify", "sign"]}, "/key_ops"),
        (RSA | {"alg": "HS256"}, "/alg"),
        (RSA | {"alg": "none"}, "/alg"),
        (RSA | {"alg": "PS256"}, "/alg"),
        (EC | {"alg": "EdDSA"}, "/alg"),
        (EC | {"kid": ""}, "/kid"),
        (EC | {"kid": "a b"}, "/kid"),
        (EC | {"kid": "a\n"}, "/kid"),
        (EC | {"kid": "x" * 201}, "/kid"),
        (EC | {"kid": 7}, "/kid"),
    ],
)
def test_each_fault_is_named_where_it_is(key: Any, pointer: str) -> None:
    assert faults({"keys": [ED, key]}).keys() == {f"/jwks/keys/1{pointer}"}


def test_every_fault_of_a_set_is_told_at_once() -> None:
    found = faults({"keys": [EC | {"use": "enc", "alg": "none"}, {"kty": "oct"}, ED]})
    assert found.keys() == {"/jwks/keys/0/use", "/jwks/keys/0/alg", "/jwks/keys/1/kty"}


def test_one_id_for_two_keys_and_one_key_under_two_ids_are_refused() -> None:
    assert faults({"keys": [EC | {"kid": "a"}, ED | {"kid": "a"}]}).keys() == {"/jwks/keys/1/kid"}
    assert faults({"keys": [EC | {"kid": "a"}, EC | {"kid": "b"}]}).keys() == {"/jwks/keys/1"}
    assert faults({"keys": [EC, ED | {"kid": thumbprint(EC)}]}).keys() == {"/jwks/keys/1/kid"}


def test_a_set_that_is_nested_too_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert faults({"keys": [EC | {"other": deep}]}) == {"/jwks": "is nested too deep"}
