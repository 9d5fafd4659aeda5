"""All metrics equal the organisers' scorer and the single functions; JSON brings them back."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evaluation
from s2pecnet.errors import InputError
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.metrics.dcf import compute_act_dcf, compute_cllr, compute_min_dcf
from s2pecnet.metrics.det import compute_eer, obtain_asv_error_rates
from s2pecnet.metrics.tdcf import ASVSPOOF2019_COST_MODEL, compute_tDCF
from s2pecnet.score_files.cm_asv import ASVScores, CMScores, read_asv_scores, read_cm_scores
from tests.helpers.trials import tied_scores

# ---- equal to the organisers' scorer -----------------------------------------------------------


# minDCF, and actDCF and Cllr of the scores as if they were log-likelihood ratios: what the organisers' evaluation
# package of ASVspoof 5 (asvspoof-challenge/asvspoof5, calculate_modules.py) gives for these files.
ASVSPOOF5 = {
    "cm_softmax": (0.11434904740557615, 1.0, 0.79219145956468),
    "cm_amsoftmax": (0.07216804198240163, 1.0, 0.8650985538444177),
    "cm_S2pecNet": (0.02120483060084586, 0.036724582975694205, 0.0592932033709397),
}


@pytest.mark.parametrize("system", ["cm_softmax", "cm_amsoftmax", "cm_S2pecNet"])
def test_public_systems_get_the_organisers_metrics(shared: Path, expected: dict[str, Any], system: str) -> None:
    folder = shared / "reference" / "evaluation"
    cm = read_cm_scores(folder / f"{system}.txt.gz")
    metrics = evaluate(cm, read_asv_scores(folder / "asv_eval.txt.gz"), cm.scores)
    assert 100 * metrics.eer == pytest.approx(expected[system]["eer_percent"], abs=1e-9)
    assert metrics.min_tdcf == pytest.approx(expected[system]["min_tdcf"], abs=1e-9)
    percent = {name: 100 * eer for name, eer in metrics.per_attack_eer.items()}
    assert percent == pytest.approx(expected[system]["per_attack_eer_percent"], abs=1e-9)
    assert list(percent) == sorted(percent)
    assert (metrics.n_bonafide, metrics.n_spoof) == (7355, 63882)
    assert (metrics.min_dcf, metrics.act_dcf, metrics.cllr) == pytest.approx(ASVSPOOF5[system], abs=1e-12)


def test_released_aasist_on_the_small_corpus(shared: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    asv_scores = shared / "minila/LA/ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt"
    if not asv_scores.exists():
        pytest.skip(f"small corpus not found at {asv_scores}; set S2PEC_SHARED to the folder that holds it")
    scores = shared / "reference" / "minila_AASIST_scores.txt"
    eer_percent, min_tdcf = evaluation.calculate_tDCF_EER(scores, asv_scores, tmp_path / "result.txt", False)
    assert eer_percent == pytest.approx(expected["minila_AASIST"]["eer_percent"], abs=1e-12)
    assert min_tdcf == pytest.approx(expected["minila_AASIST"]["min_tdcf"], abs=1e-12)
    per_attack = evaluate(read_cm_scores(scores)).per_attack_eer
    assert {name: 100 * eer for name, eer in per_attack.items()} == pytest.approx(
        expected["minila_AASIST"]["per_attack_eer_percent"], abs=1e-9
    )


# ---- evaluate ----------------------------------------------------------------------------------


trial = st.tuples(st.booleans(), st.sampled_from(["A07", "A08", "A19"]), st.integers(-4, 4).map(float))


@given(st.lists(trial, max_size=25), tied_scores, tied_scores, tied_scores)
def test_evaluate_is_made_of_the_single_metrics(
    trials: list[tuple[bool, str, float]], target: list[float], nontarget: list[float], asv_spoof: list[float]
) -> None:
    trials = [(True, "-", 0.5), (False, "A10", 0.5), *trials]
    kinds, attacks, scores = (np.array(column) for column in zip(*trials, strict=True))
    cm = CMScores(np.arange(len(trials)).astype(np.str_), attacks, kinds, scores)
    asv = ASVScores(np.array([9.0, *target]), np.array([-9.0, *nontarget]), np.array([9.0, *asv_spoof]))
    metrics = evaluate(cm)
    assert metrics.eer == compute_eer(cm.bonafide, cm.spoof)[0]
    assert metrics.min_dcf == compute_min_dcf(cm.bonafide, cm.spoof)[0]
    pairs = [
        (metrics.eer_threshold, compute_eer(cm.bonafide, cm.spoof)[1]),
        (metrics.min_dcf_threshold, compute_min_dcf(cm.bonafide, cm.spoof)[1]),
    ]
    for threshold, named in pairs:
        # As good as the threshold that the metric names: no score lies between the two.
        assert threshold is not None
        assert ((scores > threshold) == (scores > named)).all()
    tied = (scores[:, None] == scores) & (kinds[:, None] != kinds)
    assert metrics.n_tied == tied.any(axis=1).sum()
    assert metrics.per_attack_eer == {
        name: compute_eer(scores[kinds], scores[~kinds & (attacks == name)])[0]
        for name in sorted(set(attacks[~kinds].tolist()))
    }
    asv_eer, threshold = compute_eer(asv.target, asv.nontarget)
    rates = obtain_asv_error_rates(asv.target, asv.nontarget, asv.spoof, threshold)
    try:
        cost, thresholds = compute_tDCF(cm.bonafide, cm.spoof, *rates, ASVSPOOF2019_COST_MODEL, False)
    except InputError:
        with pytest.raises(InputError):
            evaluate(cm, asv)
        return
    tandem = evaluate(cm, asv)
    assert (tandem.min_tdcf, tandem.asv_eer) == (cost.min(), asv_eer)
    assert tandem.min_tdcf_threshold is not None
    assert ((scores > tandem.min_tdcf_threshold) == (scores > thresholds[cost.argmin()])).all()
    assert dataclasses.replace(tandem, min_tdcf=None, min_tdcf_threshold=None, asv_eer=None) == metrics


@given(st.lists(trial, max_size=25), st.floats(0.1, 3), st.floats(-3, 3))
def test_ratios_add_their_metrics_and_change_no_other(
    trials: list[tuple[bool, str, float]], slope: float, offset: float
) -> None:
    trials = [(True, "-", 0.5), (False, "A10", 0.5), *trials]
    kinds, attacks, scores = (np.array(column) for column in zip(*trials, strict=True))
    cm = CMScores(np.arange(len(trials)).astype(np.str_), attacks, kinds, scores)
    llrs = slope * scores + offset
    with_ratios = evaluate(cm, llrs=llrs)
    assert with_ratios.act_dcf == compute_act_dcf(llrs[kinds], llrs[~kinds])
    assert with_ratios.cllr == compute_cllr(llrs[kinds], llrs[~kinds])
    assert dataclasses.replace(with_ratios, act_dcf=None, cllr=None) == evaluate(cm)


@pytest.mark.parametrize(
    ("llrs", "message"),
    [([0.5], "1 log-likelihood ratios, expected one for each of 2 trials"), ([0.5, np.nan], r"llrs\[1\] is nan")],
)
def test_ratios_that_cannot_be_used(llrs: list[float], message: str) -> None:
    cm = CMScores(np.array(["u1", "u2"]), np.array(["-", "A07"]), np.array([True, False]), np.array([1.0, 0.0]))
    with pytest.raises(InputError, match=message):
        evaluate(cm, llrs=np.array(llrs))


numbers = st.floats(-1e6, 1e6)
some_metrics = st.builds(
    Metrics,
    eer=st.floats(0, 1),
    eer_threshold=numbers | st.just(math.nan),
    per_attack_eer=st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=3),
    per_corpus_eer=st.dictionaries(st.text(max_size=3), st.none() | st.floats(0, 1), max_size=3),
    **dict.fromkeys(("n_bonafide", "n_spoof", "n_unscored"), st.integers(0, 10**9)),
    **dict.fromkeys(
        ("min_tdcf", "min_tdcf_threshold", "asv_eer", "min_dcf", "min_dcf_threshold", "act_dcf", "cllr"),
        st.none() | numbers,
    ),
)


@given(some_metrics)
def test_metrics_come_back_from_json(metrics: Metrics) -> None:
    text = json.dumps(metrics.as_dict(), allow_nan=False)
    again = Metrics.from_dict(json.loads(text))
    assert math.isnan(again.eer_threshold) is math.isnan(metrics.eer_threshold)
    assert dataclasses.replace(again, eer_threshold=0.0) == dataclasses.replace(metrics, eer_threshold=0.0)
    assert math.isnan(metrics.eer_threshold) or again == metrics
    assert json.dumps(again.as_dict()) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eer": None}, "results: eer is None"),
        ({"eer": "low"}, "results: eer is 'low'"),
        ({"eer": math.nan}, "results: eer is nan"),
        ({"eer": True}, "results: eer is True"),
        ({"min_dcf": 10**400}, "results: min_dcf is 1000"),
        ({"n_spoof": 1.5}, "results: n_spoof is 1.5"),
        ({"n_spoof": -1}, "results: n_spoof is -1"),
        ({"per_attack_eer": [0.5]}, r"results: per_attack_eer is \[0.5\]"),
        ({"per_attack_eer": {"A07": None}}, "results: per_attack_eer is {'A07': None}"),
        ({"per_corpus_eer": {"LA": "low"}}, "results: per_corpus_eer is {'LA': 'low'}"),
        ({"err": 0.1}, "results: unknown keys err"),
    ],
)
def test_what_is_not_metrics(changes: dict[str, Any], message: str) -> None:
    sound = Metrics(0.1, 0.0, None, None, None, {"A07": 0.1}, 10, 10).as_dict()
    assert Metrics.from_dict(sound).per_attack_eer == {"A07": 0.1}
    with pytest.raises(InputError, match=message):
        Metrics.from_dict(sound | changes, "results")
    with pytest.raises(InputError, match="results: no n_spoof"):
        Metrics.from_dict({name: value for name, value in sound.items() if name != "n_spoof"}, "results")
    with pytest.raises(InputError, match=r"results: expected an object with metrics, got \[\]"):
        Metrics.from_dict([], "results")


def test_metrics_as_json_and_text(cm_file: Path, asv_file: Path) -> None:
    metrics = evaluate(read_cm_scores(cm_file), read_asv_scores(asv_file))
    content = json.loads(json.dumps(metrics.as_dict(), allow_nan=False))
    assert content == {
        "eer": 0.5,
        "eer_percent": 50.0,
        "eer_threshold": 2.75,
        "min_tdcf": 0.5,
        "min_tdcf_threshold": 0.625,
        "asv_eer": 0.0,
        "per_attack_eer": {"A07": 0.0, "A08": 1.0},
        "n_bonafide": 2,
        "n_spoof": 2,
        "n_unscored": 0,
        "min_dcf": 0.5,
        "min_dcf_threshold": 0.625,
        "act_dcf": None,
        "cllr": None,
        "n_tied": 0,
    }
    lines = metrics.summary().splitlines()
    assert lines[0] == "trials       2 bona fide, 2 spoofed"
    assert [line.split()[:3] for line in lines[1:6]] == [
        ["CM", "EER", "50.0000"],
        ["minDCF", "0.5000", "(threshold"],
        ["actDCF,", "Cllr", "not"],
        ["ASV", "EER", "0.0000"],
        ["min", "t-DCF", "0.5000"],
    ]
    assert lines[6] == "EER per attack"
    assert [line.split() for line in lines[7:]] == [["A07", "0.0000", "%"], ["A08", "100.0000", "%"]]


def test_each_of_several_corpora_has_an_eer_of_its_own_trials(cm_file: Path) -> None:
    read, names = read_cm_scores(cm_file), ("L", "LA", "spoofs")
    utterances = np.array(["L/1", "LA/1", "LA/2", "LA/3"])
    metrics = evaluate(dataclasses.replace(read, utterances=utterances), corpora=names)
    own = CMScores(utterances[1:], read.attacks[1:], read.is_bonafide[1:], read.scores[1:])
    assert metrics.per_corpus_eer == {"L": None, "LA": evaluate(own).eer, "spoofs": None}
    assert metrics.eer == evaluate(read).eer
    lines = metrics.summary().splitlines()
    place = lines.index("EER per corpus")
    assert [line.split()[0] for line in lines[place + 1 : place + 4]] == ["L", "LA", "spoofs"]
    assert lines[place + 1].split(maxsplit=1)[1] == "not defined: trials of one class"
    assert lines[place + 2].split()[1:] == [f"{100 * evaluate(own).eer:.4f}", "%"]
    assert lines[place + 4] == "EER per attack"
    # Of a single corpus it would be the EER once more.
    assert "per_corpus_eer" not in evaluate(dataclasses.replace(read, utterances=utterances), corpora=["LA"]).as_dict()


def test_evaluate_names_the_missing_class() -> None:
    cm = CMScores(np.array(["u1"]), np.array(["-"]), np.array([True]), np.array([1.0]))
    with pytest.raises(InputError, match="spoofed CM scores: no scores"):
        evaluate(cm)


def test_columns_must_be_of_one_length() -> None:
    with pytest.raises(InputError, match="different lengths"):
        CMScores(np.array(["u1", "u2"]), np.array(["-"]), np.array([True]), np.array([1.0]))


def test_ratios_are_in_the_text() -> None:
    cm = CMScores(np.array(["u1", "u2"]), np.array(["-", "A07"]), np.array([True, False]), np.array([0.0, 0.0]))
    lines = evaluate(cm, llrs=cm.scores).summary().splitlines()
    assert lines[3].split() == ["actDCF", "1.0000", "(LLR", "threshold", "-0.641854)"]
    assert lines[4].split() == ["Cllr", "1.0000", "bits"]


@pytest.mark.parametrize(
    ("bonafide", "spoof", "remarks"),
    [
        ([-3.0, -2.0], [1.0, 2.0], ["EER above 50 %: are these scores higher for spoofs? Here higher = bona fide"]),
        ([0.0, 0.0], [0.0], ["all scores are equal: they say nothing, and ties count against the system"]),
        ([0.0, 1.0], [0.0, -1.0], ["2 of 4 trials tie with the other class and count against the system"]),
        ([1.0, 1.0], [-1.0, -1.0], []),
    ],
)
def test_doubtful_metrics_have_a_line(bonafide: list[float], spoof: list[float], remarks: list[str]) -> None:
    scores = np.array([*bonafide, *spoof])
    names = np.arange(scores.size).astype(np.str_)
    metrics = evaluate(CMScores(names, np.full(scores.size, "A01"), np.arange(scores.size) < len(bonafide), scores))
    assert metrics.remarks() == remarks
    assert [line for line in metrics.summary().splitlines() if line.startswith("note")] == [
        f"note         {remark}" for remark in remarks
    ]


def test_asv_scores_the_wrong_way_round_have_a_line() -> None:
    cm = CMScores(np.array(["a", "b"]), np.array(["-", "A01"]), np.array([True, False]), np.array([1.0, 0.0]))
    asv = ASVScores(target=np.array([0.0, 1.0]), nontarget=np.array([2.0, 3.0]), spoof=np.array([1.5, 2.5]))
    assert evaluate(cm, asv).remarks() == [
        "ASV EER above 50 %: are the ASV scores higher for nontargets? Here higher = target"
    ]
