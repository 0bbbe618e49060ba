"""What bench.drift compares with: river's detectors with their defaults, as the golden figures have them."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.drift import RIVER

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "river_drift.json").read_text())


@pytest.mark.parametrize(
    ("name", "told"), [("ADWIN", "adwin_default"), ("Page-Hinkley", "page_hinkley_default"), ("KSWIN", "kswin_seed42")]
)
def test_the_detectors_that_ours_are_measured_against_alarm_where_the_golden_figures_do(name: str, told: str) -> None:
    detector, alarms = RIVER[name](), []
    for at, value in enumerate(GOLDEN["x"]):
        detector.update(value)
        if detector.drift_detected:
            alarms.append(at)
    assert alarms == GOLDEN[told]
