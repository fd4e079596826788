"""The benchmarks go on working; how fast anything is, is no business of the test suite."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.__main__ import main


def test_the_quickest_ones_run_and_tell_their_figures_to_machines(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    main(["get", "seal", "--share", "0.002", "--json", str(file)])
    told = json.loads(file.read_text())
    assert {section["name"] for section in told["sections"]} == {"get", "seal"}
    assert all(figure["value"] > 0 for section in told["sections"] for figure in section["figures"])
    assert told["machine"]["python"]
