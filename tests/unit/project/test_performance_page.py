"""The table of docs/performance.md is what the last `make bench` measured, not what somebody typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench.report import PAGE, RESULTS, document, markdown


def test_the_page_holds_the_table_of_the_committed_results() -> None:
    assert markdown(json.loads(RESULTS.read_text(encoding="utf-8"))) in PAGE.read_text(encoding="utf-8")


def test_a_new_run_replaces_the_table_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    shutil.copy(PAGE, page)
    report = json.loads(RESULTS.read_text(encoding="utf-8"))
    old = markdown(report)
    report["rows"][0]["ratio"] = 7.77
    document(report, page)
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8").replace(old, markdown(report))


def test_a_row_without_a_reference_says_its_time_and_at_most_how_much_it_may_be() -> None:
    report = json.loads(RESULTS.read_text(encoding="utf-8"))
    timed = {"subject": [17.0, 12.34, 11.0], "reference": [], "ratio": None, "aim": 20.0, "notes": {"bucket µs": 9.0}}
    report["rows"] = [{"number": 11, "name": "token check", "unit": "µs/request"} | timed]
    assert "| 11 | token check | 12.3 µs/request |  |  | ≤ 20 µs | bucket µs 9.0 |" in markdown(report)
