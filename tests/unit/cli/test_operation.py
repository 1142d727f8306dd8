"""Other people's text in an operator's terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from app.cli.operation import printable

MARKUP = st.lists(st.sampled_from(["\\", "[", "]", "/", "red", "link=https://example.org", " "]), max_size=12)


@given(MARKUP.map("".join))
def test_a_name_is_shown_and_styles_nothing_whatever_markup_it_holds(name: str) -> None:
    shown = Text.from_markup(f"{printable(name)} [bold]ready[/bold]")
    # Rich shows a backslash before what looks like a tag once too often or too seldom.
    assert shown.plain.replace("\\", "") == f"{name} ready".replace("\\", "")
    assert [span.style for span in shown.spans] == ["bold"]


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "a\u202eb", "\x9b31m"])
def test_what_would_steer_the_terminal_is_replaced(name: str) -> None:
    shown = Text.from_markup(printable(name)).plain
    assert shown.isprintable()
    assert "\N{REPLACEMENT CHARACTER}" in shown
