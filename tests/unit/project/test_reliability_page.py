"""The table of docs/reliability.md is what the last `make faults` found, not what somebody typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.faults.causes import ALL
from tests.faults.table import PAGE, RESULTS, Row, markdown, report, text, write


def test_the_page_holds_the_table_of_the_committed_results() -> None:
    assert markdown(json.loads(RESULTS.read_text(encoding="utf-8"))) in PAGE.read_text(encoding="utf-8")


def test_the_committed_results_have_every_fault_and_nothing_was_lost_or_doubled_in_any() -> None:
    rows = [Row(**row) for row in json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]]
    assert [row.fault for row in rows] == [cause.name for cause in ALL]
    assert {(row.lost, row.doubled) for row in rows} == {(0, 0)}
    assert all(row.acknowledged <= row.stored <= row.sent for row in rows)


def test_a_new_run_replaces_results_and_table_and_nothing_else(tmp_path: Path) -> None:
    page, results = tmp_path / "reliability.md", tmp_path / "faults.json"
    shutil.copy(PAGE, page)
    old = markdown(json.loads(RESULTS.read_text(encoding="utf-8")))
    found = report([Row("a flood", 1200, 1100, 1150, lost=0, doubled=0, seconds=7.77, retries=3)])
    write(found, results, page)
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8").replace(old, markdown(found))
    assert json.loads(results.read_text(encoding="utf-8")) == found


def test_on_the_terminal_numbers_stand_below_each_other() -> None:
    rows = [
        Row("a", 1200, 1100, 1150, lost=0, doubled=0, seconds=7.77, retries=3),
        Row("a longer one", 5, 5, 5, lost=1, doubled=0, seconds=70.0, retries=0),
    ]
    assert text(rows).splitlines() == [
        "fault          sent  acknowledged  stored  lost  doubled  seconds to recover  tried again",
        "a             1,200         1,100   1,150     0        0                 7.8            3",
        "a longer one      5             5       5     1        0                70.0            0",
    ]
