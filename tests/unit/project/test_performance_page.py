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
