"""Quoted words match exactly as written: Elasticsearch against a reading of the definition in plain Python."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.integration.search.conftest import UNSHRUNK, Index
from tests.integration.search.written import is_written, texts, tokens

PIECES = [
    *("a", "B", "ab", "Ab", "fix", "x1", "_", "é", "e\u0301", "\u0301", "ß", "Ａ", "１", "ſ", "İ"),
    *("组", "件", "组件", "修复", "ー", "サ", "ｻ", "한", "는", "ไทย", "𠮷"),
    *(
        ".",
        ",",
        "-",
        "'",
        '"',
        "\\",
        "\\n",
        "(",
        ")",
        ":",
        "/",
        "@",
        "*",
        "?",
        "，",
        "。",
        "“",
        "\u200d",
        "❤\ufe0f",
        "👩",
    ),
    *(" ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u2028"),
]
some_text = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
an_event = st.dictionaries(st.sampled_from(["s", "t", "组"]), some_text | st.lists(some_text, max_size=3), max_size=3)


def quoted(phrase: str) -> str:
    return '"' + phrase.replace("\\", "\\\\").replace('"', '\\"') + '"'


@settings(
    phases=UNSHRUNK,
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data(), st.lists(an_event, min_size=3, max_size=25))
async def test_a_quoted_phrase_finds_what_an_independent_reading_finds(
    index: Index, data: st.DataObject, events: list[Any]
) -> None:
    tenant_id = await index.holding(*events)
    written = [text for event in events for text in texts(event) if text.strip()]
    phrases = data.draw(st.lists(some_text, max_size=6))
    for text in written[:20]:
        start = data.draw(st.integers(0, len(text) - 1))
        phrases.append(text[start : data.draw(st.integers(start + 1, len(text)))])
    for phrase in filter(str.strip, phrases):
        expected = {n for n, event in enumerate(events) if any(is_written(phrase, text) for text in texts(event))}
        assert await index.found(tenant_id, quoted(phrase)) == expected, phrase


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("修复组件错误", ["组件", "修复组件错误", "误"], ["组错", "件组", "组 件"]),
        ("fix(Button): 修复antd组件", ["fix", "fix(Button):", "antd", "复antd"], ["button", "ant", "fix Button"]),
        ("prefixed foo_bar v1.2", ["v1", "foo_bar", "v1.2", "."], ["fix", "foo", "bar", "v"]),
        ("user@example.com", ["user", "example.com", "@", "user@example.com"], ["user example", "exam"]),
        ("E_CONN-504 café", ["E_CONN", "504", "E_CONN-504", "café"], ["CONN", "e_conn", "cafe", "504 E_CONN"]),
        ("오류가 났다", ["오류", "류가 났"], ["오류 가"]),
        ("ＡＢＣ １２", ["ＡＢＣ", "ＡＢＣ １２"], ["ABC", "ＡＢ"]),
        ("I ❤\ufe0f 👩\u200d💻!", ["❤\ufe0f", "👩", "👩\u200d💻!"], ["💻👩"]),
        ("line one\n\n  line two", ["one line", "one\nline"], ["one  lines"]),
    ],
)  # fmt: skip
async def test_examples_of_what_exactly_as_written_means(
    index: Index, text: str, yes: list[str], no: list[str]
) -> None:
    tenant_id = await index.holding({"s": text})
    for phrase in yes:
        assert await index.found(tenant_id, quoted(phrase)) == {0}, phrase
        assert is_written(phrase, text)
    for phrase in no:
        assert await index.found(tenant_id, quoted(phrase)) == set(), phrase
        assert not is_written(phrase, text)


async def test_a_phrase_stays_within_one_value_and_keys_are_no_text(index: Index) -> None:
    tenant_id = await index.holding({"a": "one", "b": ["two", {"c": "three"}]}, {"one two": "x"}, {"x": "one two"})
    assert await index.found(tenant_id, '"one two"') == {2}
    assert await index.found(tenant_id, '"two three"') == set()
    assert await index.found(tenant_id, '"two"') == {0, 2}


async def test_event_type_and_user_are_found_by_bare_words_only(index: Index) -> None:
    tenant_id = await index.holding({"s": "x"})
    assert await index.found(tenant_id, "order.paid") == {0}
    assert await index.found(tenant_id, "u1") == {0}
    assert await index.found(tenant_id, '"order.paid"') == set()


@pytest.mark.parametrize("length", [254, 255, 256, 600, 60_000])
async def test_very_long_words_are_found_whole_and_not_by_a_part(index: Index, length: int) -> None:
    word = "ab" * (length // 2)
    tenant_id = await index.holding({"s": f"x {word} y"}, {"s": f"x {word}b y"})
    phrase = word[:900] if length > 900 else word
    expected = {n for n, text in enumerate([f"x {word} y", f"x {word}b y"]) if is_written(phrase, text)}
    assert await index.found(tenant_id, quoted(phrase)) == expected
    assert await index.found(tenant_id, quoted("ab")) == set()


async def test_words_far_apart_in_a_long_text_are_told_from_neighbours(index: Index) -> None:
    filler = "lorem 填充 " * 5000
    tenant_id = await index.holding({"s": f"start {filler} end"}, {"s": f"{filler} start end"})
    assert await index.found(tenant_id, '"start end"') == {1}
    assert await index.found(tenant_id, '"填充 end"') == {0}


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
@example("e\u0301\u0301 \u0301")
def test_tokens_lose_nothing_but_white_space(text: str) -> None:
    assert "".join(tokens(text)) == " ".join(text.split())
