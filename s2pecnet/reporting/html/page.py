"""The document: a page of one run or of several side by side, page.css and page.js within it.

It loads nothing: a content security policy forbids the browser to load what is not in the file, and to run another
script than ours, whatever the names in a report contain.
"""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from s2pecnet.reporting.html.cards import card, own_cards, series_legend, subtitle, tiles, warning_list
from s2pecnet.reporting.html.charts import (
    EpochLine,
    Series,
    det_chart,
    epoch_chart,
    over_epochs,
    percent,
    tdcf_by_miss_rate,
)
from s2pecnet.reporting.html.clips import ClipMaker
from s2pecnet.reporting.html.markup import Content, Markup, join, tag
from s2pecnet.reporting.html.runs import Run
from s2pecnet.reporting.html.svg import swatch
from s2pecnet.reporting.html.tables import attack_table, corpus_table, difference_table, metrics_table

_HERE = Path(__file__).resolve().parent
AUDIO_CHARACTERS = 6_000_000  # what the clips of a page may take
_MOST_ERRORS, _CLIP_CHARACTERS = 10, 180_000  # of a class; what a clip takes at most
CONVENTIONS = (
    "A score is higher for bona fide speech, and a trial is accepted when its score lies above the threshold. EER, "
    "minDCF (ASVspoof 5) and min t-DCF (ASVspoof 2019, normalised, ASV fixed at its own EER) are lower for better "
    "systems; a DCF or t-DCF of 1 is a countermeasure that accepts or rejects everything."
)


def page(runs: Sequence[Run]) -> Markup:
    """The complete document for one run or for several."""
    room = AUDIO_CHARACTERS // (2 * _CLIP_CHARACTERS * len(runs))
    clips = ClipMaker(AUDIO_CHARACTERS, most=max(1, min(_MOST_ERRORS, room)))
    title, below = f"{len(runs)} runs compared", "Metrics on eval; of a training, those of the epoch selected on dev."
    if len(runs) == 1:
        title, below = runs[0].name, subtitle(runs[0])
    body = _single(runs[0], clips) if len(runs) == 1 else _comparison(runs, clips)
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=f"default-src 'none'; {allowed}"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup((_HERE / "page.css").read_text(encoding="utf-8"))),
    )
    remark = "No intervals: they are drawn from score files, and there are none."
    draws = sorted({one.replicates for run in runs for one in run.evaluations if one.replicates})
    if draws:
        count = f"{draws[0]}" if len(draws) == 1 else f"{draws[0]} to {draws[-1]}"
        remark = (
            f"Intervals hold 95 % of {count} bootstrap draws of the trials within each class, ASV scores fixed. They "
            "cover the choice of these trials only; for new speakers and new attacks they are too narrow."
        )
    foot = tag("footer", tag("p", CONVENTIONS), tag("p", remark))
    heading = tag("header", tag("h1", title), tag("p", below, class_="muted"))
    shown = tag("body", tag("main", heading, body, foot), tag("script", Markup(script)))
    return Markup(f"<!doctype html>\n{tag('html', tag('head', head), shown, lang='en')}\n")


def _single(run: Run, clips: ClipMaker) -> Content:
    series = [Series(index, one.label, one) for index, one in enumerate(run.evaluations)]
    several = len(series) > 1
    drawn = series_legend([one for one in series if one.evaluation.scores]) if several else None
    return [
        tiles(run),
        warning_list(run.doubts),
        card("Metrics with 95 % intervals", metrics_table(series, "evaluation")) if several else None,
        tag(
            "div",
            card("Detection error trade-off", det_chart(series), legend=drawn, remark=_marks(series)),
            card("EER by corpus", corpus_table(series), legend=series_legend(series) if several else None),
            card("EER by attack", attack_table(series), legend=series_legend(series) if several else None),
            class_="grid",
        ),
        own_cards(run, clips),
    ]


def _comparison(runs: Sequence[Run], clips: ClipMaker) -> Content:
    series = [Series(index, run.name, run.main) for index, run in enumerate(runs)]
    epochs = [EpochLine(run.name, over_epochs(run.history, "dev", "eer", factor=100), i) for i, run in enumerate(runs)]
    trained = any(line.points for line in epochs)
    curves = (
        card("Detection error trade-off", det_chart(series), remark=_marks(series)),
        card("t-DCF", tdcf_by_miss_rate(series)),
        card("Dev EER by epoch", epoch_chart(epochs, "dev EER (%)")) if trained else None,
    )
    counts = {(run.main.metrics.n_bonafide, run.main.metrics.n_spoof) for run in runs}
    names = {frozenset(run.main.scores.utterances.tolist()) for run in runs if run.main.scores}
    warning = "The runs did not score the same trials: their metrics cannot be compared directly."
    switches = []
    for one in series:
        box = tag("input", type="checkbox", checked=True, value=one.number)
        switches.append(tag("label", box, swatch(one.style), tag("span", one.label)))
    return [
        warning_list([warning] if len(counts) > 1 or len(names) > 1 else []),
        tag("div", switches, class_="switches", role="group", aria_label="runs shown"),
        card("Metrics with 95 % intervals", metrics_table(series, "run")),
        card("EER by corpus", corpus_table(series)),
        tag("div", tag("div", curves), card("EER by attack", attack_table(series)), class_="grid uneven"),
        card("Side by side", difference_table(runs), remark="What differs between the runs."),
        [_folded(run, one, clips) for run, one in zip(runs, series, strict=True)],
    ]


def _marks(series: Sequence[Series]) -> str:
    return "Dots: EER. Rings: min t-DCF." if any(one.evaluation.tandem for one in series) else "Dots: EER."


def _folded(run: Run, one: Series, clips: ClipMaker) -> Markup:
    """A run's own part of a comparison, to be opened."""
    eer = f"EER {percent(run.main.metrics.eer)} %"
    summary = tag("summary", swatch(one.style), tag("strong", run.name), tag("span", eer, class_="muted"))
    own = [Series(index, other.label, other) for index, other in enumerate(run.evaluations)]
    metrics = card("Metrics with 95 % intervals", metrics_table(own, "evaluation")) if len(own) > 1 else None
    return tag("details", summary, warning_list(run.doubts), metrics, own_cards(run, clips), class_="run")
