"""The parts of one run: headline, scores and t-DCF, training, worst errors, and what is needed to run it again."""

import json
import shlex
from collections.abc import Sequence

from s2pecnet.reporting.html.charts import SERIES, Series, histogram, tdcf_chart, training_charts
from s2pecnet.reporting.html.clips import CLIP_SAMPLES, Clip, ClipMaker, Trial, worst_trials
from s2pecnet.reporting.html.markup import Content, Markup, tag
from s2pecnet.reporting.html.runs import Run, mapping
from s2pecnet.reporting.html.svg import number, swatch
from s2pecnet.reporting.html.tables import METRICS, facts, threshold_table


def own_cards(run: Run, clips: ClipMaker) -> Content:
    """All cards of a run but those that compare its evaluations."""
    evaluation, metrics, selected = run.main, run.main.metrics, run.about.get("selected_epoch")
    names = (("bonafide", f"bona fide ({metrics.n_bonafide:,})"), ("spoofed", f"spoofed ({metrics.n_spoof:,})"))
    classes = [(tag("span", class_=f"patch {class_}"), text) for class_, text in names]
    lines = (swatch("tandem"), "countermeasure and ASV"), (swatch("mark"), "EER threshold")
    figures = []
    for title, chart, terms in training_charts(run.history, selected if isinstance(selected, int) else None):
        samples = [(swatch(f"s{index % SERIES}"), term) for index, term in enumerate(terms)]
        figures.append(tag("figure", tag("figcaption", title), legend(*samples), chart))
    return [
        tag(
            "div",
            card("Scores by class", histogram(evaluation), legend=legend(*classes)),
            card("t-DCF over the threshold", tdcf_chart(evaluation), legend=legend(*lines)),
            class_="grid",
        ),
        card("Thresholds", threshold_table(evaluation)),
        card("Training", tag("div", figures, class_="charts")) if figures else None,
        _worst(run, clips),
        _provenance(run),
    ]


def card(title: str, *content: Content, legend: Content = None, remark: str | None = None) -> Markup | None:
    """A section with its heading; None where there is nothing to show."""
    if all(one is None for one in content):
        return None
    below = tag("p", remark, class_="remark") if remark else None
    return tag("section", tag("h2", title), legend, content, below, class_="card")


def subtitle(run: Run) -> str:
    """What a run is, in a few words."""
    if not run.about:
        return "a score file"
    done = {"train": "trained", "eval": "evaluated"}.get(str(run.about.get("mode")), "")
    when = str(run.about.get("started") or "")[:16].replace("T", " ")
    words = [run.about.get("system"), f"{run.config.get('track', 'LA')} eval", f"{done} {when}".strip()]
    return " · ".join(str(word) for word in words if word)


def tiles(run: Run) -> Markup:
    """The metrics of the main evaluation, and the trials they come from."""
    metrics, content = run.main.metrics, []
    for heading, name, text, always in METRICS:
        value, interval = getattr(metrics, name), run.main.intervals.get(name)
        title, _, unit = heading.rstrip(")").partition(" (")
        below = f"95 % interval {text(interval.low)} to {text(interval.high)}" if interval else None
        if value is not None:
            content.append(_tile(title, f"{text(value)} {unit}".strip(), below))
        elif always:
            content.append(_tile(title, "not computed", "no ASV scores" if name == "min_tdcf" else None))
    trials = f"{metrics.n_bonafide:,} bona fide, {metrics.n_spoof:,} spoofed"
    content.append(_tile("trials", f"{metrics.n_bonafide + metrics.n_spoof:,}", trials))
    if metrics.n_unscored:
        content.append(_tile("unscored", f"{metrics.n_unscored:,}", "more trials, not in the metrics", "warn"))
    if isinstance(run.about.get("selected_epoch"), int):
        config = run.about.get("config")
        by = "by dev loss" if isinstance(config, dict) and config.get("select_by") == "loss" else "by dev EER"
        of = f"of {len(run.history)}, {by}" if run.history else by
        content.append(_tile("selected epoch", str(run.about["selected_epoch"]), of))
    return tag("section", content, class_="tiles")


def _tile(name: str, value: str, below: str | None, class_: str | None = None) -> Markup:
    content = tag("p", name), tag("p", value, class_="value"), tag("p", below) if below else None
    return tag("div", content, class_=f"tile {class_}" if class_ else "tile")


def warning_list(warnings: Sequence[str]) -> Markup | None:
    """What a reader of the metrics must know."""
    return tag("ul", [tag("li", warning) for warning in warnings], class_="warnings") if warnings else None


def legend(*entries: tuple[Markup, str]) -> Markup:
    """Which sample stands for what."""
    return tag("p", [tag("span", sample, tag("span", text)) for sample, text in entries], class_="legend")


def series_legend(series: Sequence[Series]) -> Markup:
    """Which line is which."""
    return legend(*((swatch(one.style), one.label) for one in series))


def _worst(run: Run, clips: ClipMaker) -> Content:
    evaluation = run.main
    if evaluation.scores is None:
        return None
    split, remark = run.split, "The first four seconds, dimmed where the system did not score them. 0 to 8 kHz, 70 dB."
    if split is None:
        remark = "No corpus (--database_path gives its folder): the trials are listed without players."
    elif not split.parts and not (split.audio.exists() if split.store else split.audio.is_dir()):
        remark = f"The audio is not on this machine ({split.audio}): the trials are listed without players."
        split = None
    samples = mapping(run.config.get("model_config")).get("nb_samp")
    in_windows = run.config.get("eval_crop") == "windows"
    scored = samples if isinstance(samples, int) and samples > 0 and not in_windows else CLIP_SAMPLES
    content: list[Content] = []
    titles = "Bona fide with the lowest scores", "Spoofs with the highest scores"
    worst = worst_trials(evaluation.scores, evaluation.metrics.eer_threshold, clips.most)
    for title, trials in zip(titles, worst, strict=True):
        shown = [_trial(one, clips.make(split, one.utterance, scored, run.within) if split else None) for one in trials]
        content += [tag("h3", title), tag("ol", shown, class_="trials")]
    return card("Worst errors", content, remark=remark)


def _trial(trial: Trial, clip: Clip | str | None) -> Markup:
    """A trial and its player; instead of a clip there may be a reason why there is none."""
    name, player = trial.utterance, None
    words = [*([] if trial.is_bonafide else [trial.attack]), f"score {number(trial.score, 4)}"]
    if isinstance(clip, Clip):
        words.append(f"{clip.seconds:.1f}\N{NO-BREAK SPACE}s")
        picture = tag("img", src=clip.picture, alt=f"spectrogram of {name}", width=320, height=128)
        unseen = tag("span", class_="unseen", style=f"left:{100 * clip.seen:.2f}%") if clip.seen < 1 else None
        audio = tag("audio", controls=True, preload="none", src=clip.audio, aria_label=f"play {name}")
        player = tag("div", tag("div", picture, unseen, class_="picture"), audio, class_="player")
    words += [] if trial.wrong else ["no error"]
    below = [" · ".join(words), *([clip] if isinstance(clip, str) else [])]
    muted = [tag("p", text, class_="muted") for text in below]
    return tag("li", player, tag("p", tag("code", name)), muted, class_="trial")


def _provenance(run: Run) -> Content:
    command = run.about.get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    config = json.dumps(dict(run.config), indent=2, ensure_ascii=False)
    return card(
        "The run" if run.about else "The file",
        tag("dl", [(tag("dt", name), tag("dd", value)) for name, value in facts(run).items()], class_="facts"),
        [tag("h3", "Command"), tag("pre", tag("code", shlex.join(words)), class_="copy")] if words else None,
        tag("details", tag("summary", "Config"), tag("pre", tag("code", config))) if run.config else None,
        [tag("h3", "Not in this report"), [tag("p", note, class_="muted") for note in run.notes]]
        if run.notes
        else None,
    )
