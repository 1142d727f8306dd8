"""The language of `q`."""

import json
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.query import MOST_CLAUSES, All, Phrase, QuerySyntaxError, Word, compiled, parse
from search.scope import scoped


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" \u3000\n", []),
        ("one two", [Word("one"), Word("two")]),
        ('"a  b"', [Phrase("a b")]),
        ('x"a b"y', [Word("x"), Phrase("a b"), Word("y")]),
        (r'"say \"hi\" \\ \n"', [Phrase(r'say "hi" \ \n')]),
        ("修复 “组件”", [Word("修复"), Word("“组件”")]),
        ("a:b AND (c* OR -d)~2", [Word("a:b"), Word("AND"), Word("(c*"), Word("OR"), Word("-d)~2")]),
    ],
)
def test_words_and_quotations_are_told_apart(text: str, parts: list[Word | Phrase]) -> None:
    assert parse(text) == All(tuple(parts))


@pytest.mark.parametrize(
    ("text", "position"),
    [('"', 0), ('ab "cd', 3), ('"a" "', 4), (r'"a\"', 0), ('""', 0), ('x " "', 2), ("w " * (MOST_CLAUSES + 1), 100)],
)
def test_a_mistake_is_named_with_its_position(text: str, position: int) -> None:
    with pytest.raises(QuerySyntaxError) as raised:
        parse(text)
    assert raised.value.position == position
    assert raised.value.reason


@given(st.text(st.sampled_from('ab "\\:*()-~/{}[]<>=&|!件\n'), max_size=60))
def test_any_text_is_refused_or_becomes_clauses_that_only_hold_it_as_values(text: str) -> None:
    tree: All | QuerySyntaxError
    try:
        tree = parse(text)
    except QuerySyntaxError as error:
        tree = error
    if isinstance(tree, QuerySyntaxError):
        assert 0 <= tree.position < len(text)
        return
    body = scoped(uuid4(), compiled(tree)).body
    names = set(_keys(body["query"]))
    assert names <= {"bool", "filter", "must", "should", "term", "tenant_id", "multi_match", "match_all"} | {
        *("query", "type", "fields", "zero_terms_query", "operator", "boost")
    }
    assert "query_string" not in json.dumps(body).replace(text, "")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_text_with_more_than_white_space_can_be_quoted(text: str) -> None:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if text.strip():
        assert parse(quoted) == All((Phrase(" ".join(text.split())),))


def _keys(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for member in value.values() for key in _keys(member))]
    return [key for member in value for key in _keys(member)] if isinstance(value, list) else []
