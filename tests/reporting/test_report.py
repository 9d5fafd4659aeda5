"""A report is one complete HTML file with the metrics of its runs, whatever is missing, and whatever names contain."""

import base64
import copy
import dataclasses
import io
import json
import math
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from s2pecnet.cli import report
from s2pecnet.corpora.detect import find_split
from s2pecnet.errors import InputError
from s2pecnet.files import write_json
from s2pecnet.metrics.bootstrap import bootstrap_intervals
from s2pecnet.metrics.countermeasure import Metrics, evaluate
from s2pecnet.metrics.tdcf import TandemWeights
from s2pecnet.reporting.html.charts import Series, det_chart, histogram, percent, tdcf_chart, training_charts
from s2pecnet.reporting.html.clips import CLIP_SAMPLES, Clip, ClipMaker, spectrogram_png, worst_trials
from s2pecnet.reporting.html.markup import Markup, join, tag
from s2pecnet.reporting.html.page import page
from s2pecnet.reporting.html.runs import Evaluation, Run, read_runs
from s2pecnet.reporting.html.svg import Chart, linear_axis
from s2pecnet.reporting.report import write_report
from s2pecnet.score_files.cm_asv import CMScores, read_asv_scores, read_cm_scores, write_cm_scores
from tests.helpers import ROOT
from tests.helpers.run_samples import change, make_run, write_scores
from tests.helpers.samples import TINIEST
from tests.helpers.trials import tied_scores

VOID = {"br", "img", "input", "meta"}


class Reader(HTMLParser):
    """The content of a page: texts, elements with their attributes; elements must be closed in their order."""

    def __init__(self, document: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(document)
        self.close()
        assert self._open == []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self._open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self._open.pop() == name

    def handle_data(self, text: str) -> None:
        self.texts.append(text)

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for element, attributes in self.elements if element == name]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


DRAWS = 20


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """How many times the trials are drawn decides how long these tests take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s2pecnet.reporting.html.runs.replicates_of", lambda trials: DRAWS)
        yield


@pytest.fixture
def run(tmp_path: Path, corpus: Path) -> Path:
    return make_run(tmp_path / "LA_run", corpus)


def read_report(*runs: Path, **options: Any) -> Reader:
    """The page of runs of our own; of anybody's, with a database_path, or own=False."""
    return Reader(page(read_runs(runs, **{"own": True, **options})))


# ---- a run -------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_scores(run: Path, corpus: Path) -> None:
    scores = read_cm_scores(run / "eval_scores_using_best_dev_model.txt")
    asv_file = find_split(corpus, "LA", "eval").asv_scores
    assert asv_file is not None
    asv = read_asv_scores(asv_file)
    metrics = evaluate(scores, asv)
    intervals = bootstrap_intervals([scores], asv, replicates=DRAWS, metrics=("eer", "min_dcf", "min_tdcf"))
    text = read_report(run).text
    eer, dcf, cost = intervals["eer"], intervals["min_dcf"], intervals["min_tdcf"]
    assert eer is not None
    assert dcf is not None
    assert cost is not None
    assert f"minDCF {metrics.min_dcf:.4f} 95 % interval {dcf.low:.4f} to {dcf.high:.4f}" in text
    assert f"EER {percent(metrics.eer)} % 95 % interval {percent(eer.low)} to {percent(eer.high)}" in text
    assert f"min t-DCF {metrics.min_tdcf:.4f} 95 % interval {cost.low:.4f} to {cost.high:.4f}" in text
    n_bonafide, n_spoof = int(scores.is_bonafide.sum()), int((~scores.is_bonafide).sum())
    assert f"trials {n_bonafide + n_spoof} {n_bonafide} bona fide, {n_spoof} spoofed" in text
    for name, value in metrics.per_attack_eer.items():
        assert f"{name} {percent(value)}" in text
    assert "selected epoch 2 of 4, by dev EER" in text
    assert "parameters 12,345" in text
    assert "took 1 min 1 s" in text
    assert "python main.py --config 'a b.conf'" in text


def test_published_scores_give_the_published_metrics(shared: Path, expected: Mapping[str, Any]) -> None:
    scores = shared / "reference" / "minila_AASIST_scores.txt"
    asv = find_split(shared / "minila" / "LA", "LA", "eval").asv_scores
    text = read_report(scores, asv=asv).text
    published = expected["minila_AASIST"]
    assert f"EER {published['eer_percent']:.2f} %" in text
    assert f"min t-DCF {published['min_tdcf']:.4f}" in text
    for name, value in published["per_attack_eer_percent"].items():
        assert f"{name} {value:.2f} 30" in text


def test_costs_are_shown_where_they_are_known(run: Path, corpus: Path) -> None:
    """minDCF always; actDCF and Cllr where an evaluation has them, in the tiles and in the table."""
    text = read_report(run).text
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    assert text.count("actDCF") == text.count("Cllr") == 0
    (run / "eval_scores_using_best_dev_model.txt").unlink()
    with_ratios = metrics["eval"] | {"min_dcf": 0.4321, "act_dcf": 0.5432, "cllr": 0.6543}
    change(run, metrics=metrics | {"eval": with_ratios})
    reader = read_report(run)
    assert "minDCF 0.4321" in reader.text
    assert "actDCF 0.5432" in reader.text
    assert "Cllr 0.6543 bits" in reader.text
    headings = [one.get("data-label") for one in reader.named("td") if one.get("data-label")]
    assert headings[:5] == ["EER (%)", "minDCF", "min t-DCF", "actDCF", "Cllr (bits)"]
    assert "dev EER, minDCF, min t-DCF" in read_report(run, make_run(run.with_name("other"), corpus, seed=7)).text


def test_the_file_asks_nobody_for_anything(run: Path, tmp_path: Path) -> None:
    write_report(read_runs([run], own=True), tmp_path / "report.html")
    document = (tmp_path / "report.html").read_text(encoding="utf-8")
    reader = Reader(document)
    assert len(reader.named("audio")) >= 6
    assert not reader.named("link")
    for _, attributes in reader.elements:
        assert all((attributes.get(name) or "data:").startswith("data:") for name in ("src", "href", "srcset"))
    styles = re.findall(r"<style>(.*?)</style>", document, re.DOTALL)
    assert all(url.startswith('"data:') for style in styles for url in re.findall(r"url\((.*?)\)", style))
    assert "@import" not in document
    policy = next(one for one in reader.named("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none';")


def test_a_report_is_the_same_each_time(run: Path) -> None:
    assert page(read_runs([run], own=True)) == page(read_runs([run], own=True))


def test_scores_that_are_gone_leave_their_metrics(run: Path) -> None:
    (run / "dev_scores.txt").unlink()
    assert [one.name for one in read_runs([run], own=True)[0].evaluations if one.scores] == ["eval", "eval_swa"]
    assert "dev_scores.txt is not there: of dev, epoch 2 there are no curves" in read_report(run).text


def test_scores_that_do_not_give_the_metrics_given_are_pointed_out(run: Path, corpus: Path) -> None:
    name = "eval_scores_using_best_dev_model.txt"
    scores = write_scores(run / name, find_split(corpus, "LA", "eval").protocol, seed=99, apart=0.3)
    text = read_report(run).text
    assert f"{name} gives another EER ({100 * evaluate(scores).eer:.4f} %)" in text


def test_unscored_trials_and_skipped_batches_are_reported(run: Path) -> None:
    path = run / "eval_scores_using_best_dev_model.txt"
    path.write_text(path.read_text() + "LA_E_0 A07 spoof unscored\n")
    change(run, skipped_batches=2)
    text = read_report(run).text
    assert "unscored 1 more trials, not in the metrics" in text
    assert "2 batches without a finite loss were skipped" in text


def test_what_makes_metrics_doubtful_is_reported(run: Path, cm_file: Path) -> None:
    """Scores the wrong way round, in a comparison too; and equal scores."""
    path = run / "eval_scores_using_best_dev_model.txt"
    scores = read_cm_scores(path)
    write_cm_scores(path, dataclasses.replace(scores, scores=-scores.scores))
    remark = "eval, epoch 2: EER above 50 %: are these scores higher for spoofs? Here higher = bona fide"
    assert remark in read_report(run).text
    assert remark in read_report(run, cm_file).text
    assert "EER above 50 %" not in read_report(cm_file).text
    write_cm_scores(path, dataclasses.replace(scores, scores=0 * scores.scores))
    assert "eval, epoch 2: all scores are equal: they say nothing" in read_report(run).text


def test_thresholds_are_those_of_the_metrics(tmp_path: Path) -> None:
    """Halfway between two scores, as evaluation and calibration have them."""
    cm = scores_of([3.0, 4.0, 5.0], [-1.0, 0.0, 1.0])
    write_cm_scores(tmp_path / "scores.txt", cm)
    text = read_report(tmp_path / "scores.txt").text
    assert evaluate(cm).eer_threshold == 2.0
    assert "EER 2 0 0 minDCF 2 0 0" in text


def test_a_page_in_the_folder_of_its_run_is_made_again(run: Path) -> None:
    for _ in range(2):
        assert report.main([str(run), "--output", str(run / "shared.html")]) == 0
    with pytest.raises(InputError, match="that is an input of this command"):
        report.main([str(run), "--output", str(run / "results.json")])
    with pytest.raises(InputError, match="that is an input of this command"):
        report.main([str(run), "--output", str(run / "dev_scores.txt")])


# ---- what is missing ---------------------------------------------------------------------------


def test_without_the_corpus_the_worst_errors_are_listed_silently(run: Path, tmp_path: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    change(run, config=results["config"] | {"database_path": str(tmp_path / "nowhere")})
    reader = read_report(run)
    assert not reader.named("audio")
    assert "No corpus (--database_path gives its folder)" in reader.text
    assert f"{results['metrics']['eval']['min_tdcf']:.4f}" in reader.text
    assert "There are no ASV scores of eval" in reader.text
    worst, _ = worst_trials(read_cm_scores(run / "eval_scores_using_best_dev_model.txt"), 0.0, 10)
    assert worst[0].utterance in reader.text


def test_given_where_the_corpus_is_the_report_has_all(run: Path, corpus: Path, tmp_path: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    complete = read_report(run)
    change(run, config=results["config"] | {"database_path": str(tmp_path / "nowhere")})
    found = read_report(run, database_path=corpus)
    assert len(found.named("audio")) == len(complete.named("audio")) > 0
    assert "Not in this report" not in found.text


def test_a_relative_corpus_is_looked_for_where_the_run_was(run: Path, corpus: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    change(run, config=results["config"] | {"database_path": corpus.name}, working_directory=str(corpus.parent))
    assert read_report(run).named("audio")


def test_one_bad_audio_file_costs_one_player(run: Path, corpus: Path, tmp_path: Path) -> None:
    other = tmp_path / "LA"
    (split,) = [find_split(corpus, "LA", "eval")]
    worst, _ = worst_trials(read_cm_scores(run / "eval_scores_using_best_dev_model.txt"), 0.0, 10)
    shutil.copytree(split.protocol.parent, other / split.protocol.parent.relative_to(corpus))
    target = other / split.audio.relative_to(corpus) / "flac"
    target.mkdir(parents=True)
    for path in (split.audio / "flac").iterdir():
        (target / path.name).write_bytes(b"" if path.stem == worst[0].utterance else path.read_bytes())
    reader = read_report(run, database_path=other, asv=split.asv_scores)
    assert len(reader.named("audio")) == len(read_report(run).named("audio")) - 1
    assert "the audio file is empty" in reader.text


def test_a_run_of_somebody_else_shows_nothing_of_this_machine(
    run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither audio nor words of files that its record names; with --database_path, what lies below it alone."""
    results = json.loads((run / "results.json").read_text())
    private = tmp_path / "private"
    shutil.copytree(corpus, private / "LA")
    secret = private / "netrc"
    secret.write_text("machine host.example s3cret\n")
    scores = read_cm_scores(run / "eval_scores_using_best_dev_model.txt")
    audio = private / "LA" / "ASVspoof2019_LA_eval" / "flac"
    rows = [f"{audio / name}.flac,{'real' if real else 'fake'},eval" for name, real in
            zip(scores.utterances, scores.is_bonafide, strict=True)]  # fmt: skip
    (run / "e.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    text = (run / "eval_scores_using_best_dev_model.txt").read_text()
    for name in scores.utterances:
        text = text.replace(f"{name} ", f"{audio / name}.flac ")
    (run / "eval_scores_using_best_dev_model.txt").write_text(text)
    config = results["config"] | {"database_path": str(run / "e.csv"), "asv_score_path": str(secret)}
    change(run, config=config, asv_scores={"eval": str(secret)})
    page_of = run / "report.html"
    for more in ([], ["--database_path", str(run / "e.csv")], ["--database_path", str(corpus)]):
        assert report.main([str(run), *more]) == 0
        assert "data:audio" not in page_of.read_text()
        assert "s3cret" not in page_of.read_text() + capsys.readouterr().err
    link = run / "eval_scores_using_best_dev_model.txt"
    link.unlink()
    link.symlink_to(secret)
    assert report.main([str(run)]) == 0
    assert "s3cret" not in page_of.read_text() + capsys.readouterr().err


def test_results_alone_give_their_figures(tmp_path: Path) -> None:
    write_json(
        tmp_path / "results.json",
        {"config": TINIEST, "metrics": {"eval": Metrics(0.125, 0.5, None, None, None, {}, 8, 8).as_dict()}},
    )
    text = read_report(tmp_path).text
    assert "EER 12.50 %" in text
    assert "min t-DCF not computed" in text
    assert "eval_scores_using_best_dev_model.txt is not there" in text
    assert "No intervals" in text


def test_scores_alone_give_their_figures(tmp_path: Path, cm_file: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "eval_scores_using_best_dev_model.txt").write_bytes(cm_file.read_bytes())
    text = read_report(tmp_path / "run").text
    assert "There is no results.json" in text
    assert "EER 50.00 %" in text
    assert "EER 50.00 %" in read_report(cm_file).text


numbers = st.just(10**400) | st.floats(allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = (
    "mode", "system", "seed", "device", "started", "command", "working_directory", "commit", "versions", "protocols",
    "config", "config.database_path", "config.track", "config.corpus", "config.eval_output", "config.asv_score_path",
    "config.model_config",
    "config.model_config.nb_samp", "selected_epoch", "swa_epochs", "metrics", "metrics.eval", "metrics.dev",
    "metrics.dev.eer", "metrics.eval.per_attack_eer", "metrics.eval_swa.min_tdcf", "metrics.eval.n_spoof", "history",
    "history.0", "history.1.loss", "history.1.terms", "history.2.dev", "history.3.epoch", "batches_passed_over",
    "wall_time_s", "parameters", "experiment",
)  # fmt: skip


@given(place=st.sampled_from(PLACES), value=json_values | st.just(...))
@settings(max_examples=30)
def test_whatever_results_say_there_is_a_report_or_one_line(
    place: str, value: Any, tmp_path_factory: pytest.TempPathFactory, cm_file_of_session: Path
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    metrics = Metrics(0.5, 0.1, 0.7, 0.2, 0.1, {"A07": 0.1}, 2, 2).as_dict()
    results: dict[str, Any] = {
        # A copy: what is changed below is nested, and the other tests read it too.
        "config": copy.deepcopy(TINIEST) | {"database_path": "nowhere"},
        "metrics": {"eval": metrics, "eval_swa": metrics, "dev": metrics},
        "history": [{"epoch": epoch, "loss": 0.1, "terms": {"a": 0.1, "b": 1}, "dev": metrics} for epoch in range(4)],
    }
    *path, last = place.split(".")
    parent: Any = results
    for step in path:
        parent = parent[int(step)] if isinstance(parent, list) else parent[step]
    key: Any = int(last) if isinstance(parent, list) else last
    parent[key] = value
    if value is ...:
        del parent[key]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "eval_scores_using_best_dev_model.txt").write_bytes(cm_file_of_session.read_bytes())
    for runs in ([folder], [folder, cm_file_of_session]):
        refused = ""
        try:
            Reader(page(read_runs(runs, own=True)).encode("utf-8", "replace").decode())
        except InputError as error:
            refused = str(error)
        # What cannot be a run record is one line that names the file.
        assert not refused or (refused.startswith(str(folder)) and "\n" not in refused)


@pytest.fixture(scope="session")
def cm_file_of_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scores") / "cm.txt"
    path.write_text("u1 - bonafide 1.0\nu2 - bonafide 2.0\nu3 A07 spoof 1.5\nu4 A08 spoof 0.5\n")
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds neither results.json nor eval_scores_using_best_dev_model.txt"),
        ({"results.json": "{"}, "results.json:1: not valid JSON"),
        ({"results.json": "[]"}, "results.json: expected a JSON object {...}, got list"),
        ({"results.json": "{}"}, "results.json: holds no metrics"),
        ({"eval_scores_using_best_dev_model.txt": "u1 - bonafide x\n"}, "txt:1: score 'x'"),
    ],
)
def test_what_is_no_run_is_reported_in_a_line(tmp_path: Path, content: dict[str, str], message: str) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_runs([tmp_path])
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_run_and_no_such_run_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run"):
        read_runs([tmp_path / "nothing"])
    with pytest.raises(InputError, match="no run to report"):
        write_report([], tmp_path / "report.html")


# ---- names that mean harm ----------------------------------------------------------------------


def test_names_are_text_and_nothing_else(run: Path, tmp_path: Path) -> None:
    evil = "</title></style></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    results = json.loads((run / "results.json").read_text())
    attack = "<b>A07</b>"
    path = run / "eval_scores_using_best_dev_model.txt"
    path.write_text(path.read_text().replace(" A07 ", f" {attack} "))
    results["history"][0]["terms"] = {evil: 1.0, "other": 2.0}
    results["config"] |= {"note": evil}
    change(run, system=evil, command=["python", evil], versions={evil: evil}, history=results["history"],
           config=results["config"], commit="\ud800")  # fmt: skip
    renamed = run.with_name("<script>alert(2)<")
    run.rename(renamed)
    other = tmp_path / "plain.txt"
    other.write_text((renamed / path.name).read_text())
    for runs in ([renamed], [renamed, other]):
        write_report(read_runs(runs, own=True), tmp_path / "report.html")
        reader = Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert len(reader.named("script")) == 1
        assert all("onerror" not in attributes for attributes in reader.named("img"))
        assert not reader.named("b")
        assert evil in reader.text
        assert attack in reader.text


def test_markup_escapes_all_but_markup() -> None:
    assert join("<", ["&", None, Markup("<br>")], tag("p", "'")) == "&lt;&amp;<br><p>&#x27;</p>"
    assert (
        tag("a", title='"<', class_="x", data_run=0, hidden=False)
        == '<a title="&quot;&lt;" class="x" data-run="0"></a>'
    )


# ---- several runs ------------------------------------------------------------------------------


def test_runs_stand_side_by_side(tmp_path: Path, corpus: Path) -> None:
    runs = [make_run(tmp_path / name, corpus, seed) for name, seed in (("one", 1), ("two", 11), ("three", 21))]
    config = json.loads((runs[0] / "results.json").read_text())["config"]
    change(runs[1], config=config | {"batch_size": 99})
    reader = read_report(*runs)
    for run, name in zip(runs, ("one", "two", "three"), strict=True):
        eer = json.loads((run / "results.json").read_text())["metrics"]["eval"]["eer"]
        assert f"{name} {percent(eer)}" in reader.text
    assert "batch_size 6 99 6" in reader.text
    assert (
        "track"
        not in reader.text[reader.text.index("Side by side") : reader.text.index("What differs between the runs")]
    )
    assert len([one for one in reader.named("input") if one.get("type") == "checkbox"]) == 3
    assert "did not score the same trials" not in reader.text
    curves = [one for one in reader.named("path") if "data-run" in one]
    assert {one["data-run"] for one in curves} == {"0", "1", "2"}


def test_runs_of_different_trials_are_not_compared_unwarned(run: Path, cm_file: Path) -> None:
    assert "did not score the same trials" in read_report(run, cm_file).text


def test_runs_of_one_name_are_distinguished(tmp_path: Path, corpus: Path) -> None:
    runs = read_runs([make_run(tmp_path / parent / "LA_run", corpus) for parent in "ab"])
    assert [run.name for run in runs] == [str(tmp_path / parent / "LA_run") for parent in "ab"]


# ---- curves ------------------------------------------------------------------------------------


def scores_of(bonafide: list[float], spoof: list[float]) -> CMScores:
    n = len(bonafide) + len(spoof)
    names = np.array([f"u{number}" for number in range(n)])
    attacks = np.array(["-"] * len(bonafide) + ["A07"] * len(spoof))
    return CMScores(names, attacks, np.arange(n) < len(bonafide), np.array(bonafide + spoof))


@pytest.mark.parametrize(
    ("bonafide", "spoof"),
    [([0.0], [0.0]), ([1e30], [1e30]), ([1.7e308], [-1.7e308]), ([0.0], [1.0]), ([2.0, 3.0], [0.0, 1.0]),
     ([1e-300], [0.0]), ([0.0] * 50, [1e9] + [-1.0] * 50)],
)  # fmt: skip
def test_curves_of_any_scores_are_finite(bonafide: list[float], spoof: list[float]) -> None:
    scores = scores_of(bonafide, spoof)
    evaluation = Evaluation("eval", "eval", evaluate(scores), scores, TandemWeights(0.5, 0.2))
    series = [Series(0, "eval", evaluation), Series(1, "again", evaluation)]
    for chart in (det_chart(series), histogram(evaluation), tdcf_chart(evaluation)):
        assert chart is not None
        for numbers in re.findall(r' (?:d|x|y|cx|cy|width|height)="([^"]*)"', chart):
            assert not re.search("nan|inf", numbers)


def test_the_det_curve_has_the_eer_point_on_it() -> None:
    generator = np.random.default_rng(0)
    scores = scores_of(generator.normal(2, 1, 3000).tolist(), generator.normal(0, 1, 9000).tolist())
    chart = det_chart([Series(0, "eval", Evaluation("eval", "eval", evaluate(scores), scores))])
    assert chart is not None
    curve = re.search(r'<path d="M([^"]*)" class="line s0"', chart)
    dot = re.search(r'<circle cx="([\d.]*)" cy="([\d.]*)"', chart)
    assert curve
    assert dot
    points = np.array([[float(value) for value in point.split()] for point in curve[1].split("L")])
    nearest = np.hypot(*(points - [float(dot[1]), float(dot[2])]).T).min()
    assert nearest < 3
    assert len(curve[1]) < 20_000


def test_lines_keep_what_can_be_seen() -> None:
    x = np.linspace(0, 1, 100_001)
    y = np.where(np.arange(x.size) == 50_000, 1.0, 0.1)
    chart = Chart(linear_axis(0, 1, "x"), linear_axis(0, 1, "y"))
    chart.line(x, y, "s0")
    picture = chart.render("a spike")
    path = re.search(r'<path d="([^"]*)" class="line s0"', picture)
    assert path
    heights = [float(point.split()[1]) for point in path[1][1:].split("L")]
    top, base = float(chart._down(1.0)), float(chart._down(0.1))
    assert min(heights) == top
    assert abs(max(heights) - base) <= 0.125
    assert len(heights) <= 5


def test_training_charts_show_what_the_epochs_gave() -> None:
    history: list[dict[str, Any]] = [
        {"epoch": 0, "loss": 0.5, "dev": {"eer": 0.1, "min_tdcf": None}},
        {"epoch": 1, "loss": None},
        {"epoch": 2, "loss": 0.25, "dev": {"eer": 0.05}, "eval": {"eer": 0.2}},
    ]
    charts = {title: (chart, names) for title, chart, names in training_charts(history, 2)}
    assert set(charts) == {"Loss", "EER by epoch"}
    assert charts["EER by epoch"][1] == ["dev EER", "eval EER"]
    assert re.findall(r"epoch \d: loss [\d.]+", charts["Loss"][0]) == ["epoch 0: loss 0.5", "epoch 2: loss 0.25"]
    assert "epoch 2: eval EER 20" in charts["EER by epoch"][0]
    assert "selected epoch 2" in charts["Loss"][0]
    assert training_charts([], None) == []


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_on_their_axis(low: float, span: float) -> None:
    axis = linear_axis(low, low + span, "x")
    places = axis.share([value for value, _ in axis.ticks])
    assert 2 <= len(axis.ticks) <= 13
    assert ((places >= -1e-6) & (places <= 1 + 1e-6)).all()


# ---- the worst errors --------------------------------------------------------------------------


@given(tied_scores, tied_scores)
def test_the_worst_are_those_farthest_on_the_wrong_side(bonafide: list[float], spoof: list[float]) -> None:
    rejected, accepted = worst_trials(scores_of(bonafide, spoof), threshold=0.0, most=5)
    wrong = sorted(score for score in bonafide if score <= 0)[:5], sorted((s for s in spoof if s > 0), reverse=True)[:5]
    for trials, expected_scores, all_scores in (
        (rejected, wrong[0], sorted(bonafide)),
        (accepted, wrong[1], sorted(spoof)[::-1]),
    ):
        assert [trial.score for trial in trials if trial.wrong] == expected_scores
        assert [trial.score for trial in trials] == all_scores[: max(len(expected_scores), 3)]


@pytest.mark.parametrize("files", ["flac/{}.flac", "{}.wav"])
def test_a_clip_is_what_the_system_heard(corpus: Path, tmp_path: Path, files: str) -> None:
    samples = (np.random.default_rng(0).normal(0, 0.1, 80_000).clip(-1, 1) * 32767).astype(np.int16)
    path = tmp_path / files.format("u")
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, samples, 16000)
    split = dataclasses.replace(find_split(corpus, "LA", "eval"), audio=tmp_path, files=files)
    clip = ClipMaker(10**6, 10).make(split, "u", 32_300)
    assert isinstance(clip, Clip)
    assert clip.seen == 0.5
    assert clip.seconds == CLIP_SAMPLES / 16000
    decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(clip.audio.partition(",")[2])), dtype="int16")
    assert rate == 16000
    assert np.array_equal(decoded, samples[:CLIP_SAMPLES])
    assert ClipMaker(1000, 10).make(split, "u", 32_300) == "left out: the clips of a report have a limited size"
    assert "no such audio file" in str(ClipMaker(1000, 10).make(split, "none", 1))


def test_the_audio_of_other_corpora_is_found(corpus: Path, tmp_path: Path) -> None:
    audio = find_split(corpus, "LA", "eval").audio / "flac"
    lines = []
    for place, path in enumerate(sorted(audio.iterdir())[:6]):
        attack, key = ("-", "bonafide") if place < 3 else ("A07", "spoof")
        target = tmp_path / "mine" / ("real" if place < 3 else "fake/A07") / f"a clip {place}.flac"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        name = str(target.relative_to(tmp_path / "mine")).replace(" ", "%20")
        lines.append(f"{name} {attack} {key} {-place}\n")
    run = tmp_path / "run"
    run.mkdir()
    (run / "eval_scores_using_best_dev_model.txt").write_text("".join(lines))
    config = TINIEST | {"database_path": str(tmp_path / "mine"), "track": "mine", "split_policy": "eval"}
    metrics = evaluate(read_cm_scores(run / "eval_scores_using_best_dev_model.txt")).as_dict()
    write_json(run / "results.json", {"mode": "eval", "config": config, "metrics": {"eval": metrics}})
    assert len(read_report(run).named("audio")) == 6


@pytest.mark.parametrize("length", [1, 160, 5000, CLIP_SAMPLES])
def test_a_spectrogram_shows_a_tone_where_it_is(length: int) -> None:
    tone = np.sin(2 * np.pi * 2000 * np.arange(length) / 16000 + 1).astype(np.float32)
    picture = spectrogram_png(tone)
    pixels = png_pixels(picture)
    assert pixels.shape[0] == 128
    assert 1 <= pixels.shape[1] <= 320
    if length >= 5000:
        # 2 kHz of 8 lie a quarter up from the bottom.
        assert abs(int(pixels[:, pixels.shape[1] // 2].argmax()) - 96) <= 1


def png_pixels(data: bytes) -> np.ndarray:
    """Pixels of a PNG as we write it, each chunk's checksum checked."""
    chunks, place = {}, 8
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    while place < len(data):
        length, name = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + length]
        assert int.from_bytes(data[place + 8 + length : place + 12 + length], "big") == zlib.crc32(name + body)
        chunks[name], place = body, place + 12 + length
    width, height = (int.from_bytes(chunks[b"IHDR"][at : at + 4], "big") for at in (0, 4))
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    assert rows[:, 1:].max() < len(chunks[b"PLTE"]) // 3
    return rows[:, 1:]


def test_many_runs_keep_to_the_room_for_audio(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2pecnet.reporting.html.page.AUDIO_CHARACTERS", 150_000)
    document = page(read_runs([run] * 4, own=True))
    assert sum(map(len, re.findall(r'"(data:[^"]*)"', document))) < 150_000
    assert "data:audio/flac" in document


# ---- the command line --------------------------------------------------------------------------


def test_command_line_writes_beside_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(run)]) == 0
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().out == f"report in {run / 'report.html'}\n"


def test_several_runs_go_to_the_output_or_here(
    run: Path, cm_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report.main([str(run), str(cm_file)])
    assert "2 runs compared" in (tmp_path / "report.html").read_text(encoding="utf-8")
    report.main([str(cm_file), "--output", "new/one.html"])
    assert "<title>cm</title>" in (tmp_path / "new" / "one.html").read_text(encoding="utf-8")


def test_a_failure_leaves_the_old_report(run: Path) -> None:
    (run / "report.html").write_text("old")
    (run / "results.json").write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "s2pecnet", "report", str(run)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert (run / "report.html").read_text() == "old"


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom s2pecnet.cli import report\n"
        "try: report.main(['--help'])\n"
        "except SystemExit:\n"
        "    print(sorted({'torch', 'numpy', 'matplotlib', 's2pecnet.reporting.html'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_metrics_without_numbers_do_not_break_the_page() -> None:
    metrics = Metrics(0.0, math.nan, None, None, None, {}, 0, 0)
    run = Run("r", Path("r"), None, [Evaluation("eval", "eval", metrics)], None, [], [])
    assert "EER 0 %" in Reader(page([run])).text
