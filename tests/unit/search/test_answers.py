"""How matches are shown."""

from search.answers import highlights


def test_a_piece_found_by_stem_and_as_written_is_shown_once() -> None:
    found = {"text": ["<em>fix</em> the &lt;b&gt;"], "text.exact": ["<em>fix</em><em> </em><em>the</em> &lt;b&gt;"]}
    assert highlights(found) == ["<em>fix the</em> &lt;b&gt;"]


def test_pieces_of_one_field_keep_their_order() -> None:
    assert highlights({"text": ["<em>b</em>", "<em>a</em>"]}) == ["<em>b</em>", "<em>a</em>"]
    assert highlights({}) == []
