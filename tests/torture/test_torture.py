"""A sample of the faults at every call; `python -m tests.torture` (`make torture`) takes all of them."""

from pathlib import Path

import pytest

from tests.torture.harness import build_faults, tortured

pytestmark = pytest.mark.slow

# Every n-th fault of each command: about forty of them in all.
SAMPLE = {"train": 47, "score": 31, "report": 4, "calibrate": 3, "download": 41}


def test_after_a_fault_at_any_call_nothing_is_lost(tmp_path: Path) -> None:
    library = build_faults(tmp_path)
    if library is None:
        pytest.skip("needs Linux and a C compiler: faults are made by a preloaded library")
    with tortured(tmp_path, library) as (torture, known):
        for name, every in SAMPLE.items():
            program, earlier = known[name]
            torture.prepare(*earlier)
            found = list(torture.faults(program, every))
            assert len(found) > 1, name
            assert {how for *_, how in found} & {"killed", "one line, status 2"}, name
            assert not [(hit, action, wrong) for hit, action, wrong, _ in found if wrong], name
