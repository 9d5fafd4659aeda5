"""Which ASV scores a split is judged with."""

from pathlib import Path

import pytest

from s2pecnet.config.experiment import load_config
from s2pecnet.corpora.published import asvspoof2019
from s2pecnet.corpora.trials import Corpus
from s2pecnet.errors import InputError
from s2pecnet.experiment import RELEASED_ASV_SCORES, asv_scores_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """ASVspoof2019 LA with ASV scores, and PA without."""
    scores = tmp_path / "ASVspoof2019_LA_asv_scores" / RELEASED_ASV_SCORES
    scores.parent.mkdir()
    scores.write_text("- target 3\n- nontarget -1\nA07 spoof 1\n- target 2\n- nontarget -2\n")
    (tmp_path / "own.txt").write_text("- target 3\n- nontarget -1\nA07 spoof 1\n")
    return tmp_path


def corpora(root: Path) -> tuple[Corpus, Corpus]:
    return asvspoof2019(root, "LA"), asvspoof2019(root, "PA")


def test_the_released_path_is_for_la_alone(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    config = load_config("AASIST")
    la, pa = corpora(root)
    path, scores = asv_scores_of(config, la, "eval")
    assert path is not None
    assert (path.name, scores is None, caplog.messages) == (RELEASED_ASV_SCORES, False, [])
    assert asv_scores_of(config, pa, "eval") == (None, None)
    assert "has no ASV scores" in caplog.text


def test_a_path_that_the_user_gives_is_used_with_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config("AASIST", [f"asv_score_path=ASVspoof2019_LA_asv_scores/{RELEASED_ASV_SCORES}"])
    path, scores = asv_scores_of(config, corpora(root)[1], "eval")
    assert path is not None
    assert scores is not None
    (message,) = caplog.messages
    assert message.endswith(f"{RELEASED_ASV_SCORES}: not the ASV scores of this corpus; a t-DCF of them means little")


def test_scores_of_ones_own_are_used_as_they_are(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config("AASIST", ["asv_score_path=own.txt"])
    assert asv_scores_of(config, corpora(root)[1], "eval")[0] == root / "own.txt"
    assert not caplog.messages
    with pytest.raises(InputError, match=r"absent.txt: no such ASV scores \(asv_score_path\)"):
        asv_scores_of(load_config("AASIST", ["asv_score_path=absent.txt"]), corpora(root)[0], "eval")
