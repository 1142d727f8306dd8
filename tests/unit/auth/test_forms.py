"""Form bodies of OAuth requests."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from authlib.oauth2.rfc6749 import InvalidRequestError
from hypothesis import given
from hypothesis import strategies as st

from auth.forms import FORM, MAX_PARAMETERS, parse_form

TEXT = st.text(min_size=1, max_size=30)


@given(form=st.dictionaries(TEXT, TEXT, max_size=10))
def test_a_form_of_any_text_comes_back_as_it_was(form: dict[str, str]) -> None:
    assert parse_form(FORM, urlencode(form).encode()) == form


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=UTF-8", FORM.upper(), f" {FORM} ;charset=utf-8"])
def test_the_media_type_may_have_parameters_and_any_case(content_type: str) -> None:
    assert parse_form(content_type, b"a=b") == {"a": "b"}


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/form-data; boundary=x", "text/plain", FORM + "x"]
)
def test_another_media_type_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequestError, match=FORM):
        parse_form(content_type, b"a=b")


@pytest.mark.parametrize("body", [b"a=1&a=2", b"a=1&a=1", b"a=&a=1", b"a&a", b"%61=1&a=1"])
def test_a_parameter_given_twice_is_refused_whatever_its_values_are(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="more than once"):
        parse_form(FORM, body)


def test_a_parameter_without_a_value_counts_as_left_out() -> None:
    assert parse_form(FORM, b"grant_type=client_credentials&scope=&flag") == {"grant_type": "client_credentials"}


@pytest.mark.parametrize("body", [b"a=\xff", b"a=%ff", b"&".join(b"p%d=1" % n for n in range(MAX_PARAMETERS + 1))])
def test_what_is_not_utf8_or_has_too_many_parameters_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="UTF-8"):
        parse_form(FORM, body)


@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        form = parse_form(FORM, body)
    except InvalidRequestError:
        return
    assert all(form.values())
