"""Commands of the documentation, and a folder in which they mean something.

`commands_of` finds the commands of a page: lines of its code blocks that begin with a program's name. `make_workspace`
makes what they speak of: a corpus of every kind, weights, clips, score files, folders of runs, all of a few clips: of
MiniLA, scored by the published AASIST, where the reference data lie beside the checkout; else of the demo corpus.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch

from s2pecnet.config.experiment import load_config
from s2pecnet.conventions import SPLITS
from s2pecnet.corpora.demo import make_demo_corpus
from s2pecnet.corpora.detect import find_split
from s2pecnet.files import write_json
from s2pecnet.metrics.calibration import fit
from s2pecnet.systems.registry import find_model
from tests.helpers import ROOT
from tests.helpers.audio_zoo import encoded, written
from tests.helpers.made_corpora import (
    clips,
    make_2021,
    make_asvspoof5,
    make_csv,
    make_folders,
    make_in_the_wild,
    make_parquet,
)
from tests.helpers.run_samples import make_run, write_scores

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Trials of a class in each split of the corpus.
OF_A_CLASS = {"train": 12, "dev": 5, "eval": 5}
# What docs/predict.md calls its clips.
CLIPS = ("LA_D_1012573", "LA_D_1016324", "LA_D_1343868", "LA_D_1373411")
ASV = "ASVspoof2019.LA.asv.{}.gi.trl.scores.txt"

_PROGRAM = re.compile(
    r"(?:\$ )?((?:[A-Z0-9_]+=\S+ )*(?:\.venv/bin/)?"
    r"(?:python3?|pip|make|s2pecnet|git|ls|head|find|cat|speech-spoof-bench)(?: .*)?)"
)


class DocCommand(NamedTuple):
    """A command as a page shows it, on one line.

    Attributes:
        place: "docs/predict.md:12".
    """

    place: str
    text: str


def commands_of(page: Path) -> Iterator[DocCommand]:
    """The commands of a page, in its order."""
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    fence: str | None = None
    for number, line in lines:
        if line.strip().startswith("```"):
            fence = line.strip()[3:] if fence is None else None
            continue
        in_block = fence in ("", "bash", "console") if fence is not None else line.startswith("    ")
        found = _PROGRAM.fullmatch(line.strip()) if in_block else None
        if found:
            text = found[1]
            while text.endswith("\\") or text.count('"') % 2:
                following = next(lines)[1].strip()
                text = text[:-1] + following if text.endswith("\\") else f"{text}\n{following}"
            yield DocCommand(f"{page.relative_to(ROOT)}:{number}", text)


def python_blocks(page: Path) -> list[tuple[int, str]]:
    """The Python that a page shows, as (line, text): its fenced blocks, but for those that are files."""
    text = page.read_text()
    found = re.finditer(r"(?<!-->\n)^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, block.start()) + 1, block[1]) for block in found]


def make_workspace(folder: Path, shared: Path | None) -> Path:
    """A folder with everything that the documentation's commands name."""
    corpus = folder / "LA"
    _make_corpus(corpus, shared, folder)
    _make_other_corpora(folder, corpus)
    shutil.copytree(ROOT / "config", folder / "config")
    _make_weights(folder, shared)
    _make_clips(folder, corpus)
    _make_inbox(folder, corpus)
    _make_scores(folder, corpus, shared)
    for number, name in enumerate(("RUN_A", "RUN_B", "LA_AASIST_ep100_bs24", "LA_S2pecNet_ep100_bs48_seed1")):
        make_run(folder / "exp_result" / name, corpus, seed=10 * number)
    (folder / "aasist.bib").write_text("@inproceedings{jung2022aasist, title={AASIST}, year={2022}}\n")
    _write_example_of_the_readme(folder)
    return folder


def copy_workspace(source: Path, target: Path) -> Path:
    """Another such folder; files are shared until one of the two writes anew."""
    return Path(shutil.copytree(source, target, symlinks=True, copy_function=os.link))


def _make_corpus(corpus: Path, shared: Path | None, scratch: Path) -> None:
    """A corpus in the ASVspoof2019 layout: the first trials of each class of a larger one."""
    sizes = {split: 3 * size for split, size in OF_A_CLASS.items()}
    source = shared / "minila" / "LA" if shared else make_demo_corpus(scratch / "demo" / "LA", 7, clips_per_split=sizes)
    for split in SPLITS:
        found = find_split(source, "LA", split)
        lines = found.protocol.read_text().splitlines(keepends=True)
        kept = [line for key in ("bonafide", "spoof") for line in _spread(lines, key, OF_A_CLASS[split])]
        protocol = corpus / found.protocol.relative_to(source)
        protocol.parent.mkdir(parents=True, exist_ok=True)
        protocol.write_text("".join(sorted(kept)))
        for line in kept:
            name = Path(found.audio.relative_to(source)) / "flac" / f"{line.split()[1]}.flac"
            (corpus / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, corpus / name)
    shutil.copytree(source / "ASVspoof2019_LA_asv_scores", corpus / "ASVspoof2019_LA_asv_scores")


def _spread(lines: list[str], key: str, number: int) -> list[str]:
    """So many lines of a class from all over the protocol: of several speakers and attacks."""
    those = [line for line in lines if line.split()[-1] == key]
    return those[:: max(1, len(those) // number)][:number]


def _make_other_corpora(folder: Path, corpus: Path) -> None:
    for name, make in (
        ("mine", make_csv),
        ("ASVspoof2021", make_2021),
        ("ASVspoof5", make_asvspoof5),
        ("wild", make_in_the_wild),
        ("shards", make_parquet),
    ):
        (folder / name).mkdir()
        make(corpus, folder / name)
    make_folders(corpus, folder / "folders", by_split=False)


def _make_weights(folder: Path, shared: Path | None) -> None:
    weights = folder / "AASIST.pth"
    if shared:
        shutil.copy(shared / "reference" / "weights" / "AASIST.pth", weights)
    else:
        torch.manual_seed(1)
        model_config = load_config(ROOT / "config" / "AASIST.conf").model_config
        torch.save(find_model("AASIST")(model_config).state_dict(), weights)
    (folder / "models" / "weights").mkdir(parents=True)
    shutil.copy(weights, folder / "models" / "weights" / "AASIST.pth")


def _make_clips(folder: Path, corpus: Path) -> None:
    """clips/ with four clips of dev and a file that is none, talk.mp3."""
    (folder / "clips").mkdir()
    for clip, name in zip(clips(corpus, "dev"), CLIPS, strict=False):
        shutil.copy(clip.file, folder / "clips" / f"{name}.flac")
    (folder / "clips" / "broken.wav").write_text("this is no audio\n")
    rate = 44100
    time = np.arange(5 * rate) / rate
    voice = 0.3 * np.sin(2 * np.pi * 140 * time) * (1 + np.sin(2 * np.pi * 3 * time))
    soundfile.write(folder / "talk.mp3", np.stack([voice, 0.5 * voice], axis=1), rate)


def _make_inbox(folder: Path, corpus: Path) -> None:
    """inbox/ with what arrives: a voice memo, a joined MP3, FLAC with a tag behind it, a text, a link to a folder."""
    (folder / "inbox").mkdir()
    samples, rate = soundfile.read(next(clips(corpus, "dev")).file)
    mp3 = written(samples, rate, format="MP3")
    for name, content in (
        ("memo.m4a", encoded("ipod", "aac", samples, rate)),
        ("joined.mp3", mp3 + mp3),
        ("with_tail.flac", written(samples, rate, format="FLAC") + b"TAG" + bytes(125)),
        ("SW02001", written(samples, rate, format="WAV")),
        ("readme.txt", b"Recorded on Monday.\n"),
    ):
        (folder / "inbox" / name).write_bytes(content)
    (folder / "inbox" / "more").symlink_to(folder / "clips")


def _make_scores(folder: Path, corpus: Path, shared: Path | None) -> None:
    dev, evaluated = find_split(corpus, "LA", "dev"), find_split(corpus, "LA", "eval")
    for seed, name in enumerate(("softmax", "amsoftmax", "S2pecNet"), 1):
        write_scores(folder / f"dev_{name}.txt", dev.protocol, seed)
        write_scores(folder / f"eval_{name}.txt", evaluated.protocol, seed + 10)
    for seed, name in enumerate(("eval_scores", "scores", "our_scores", "A", "B"), 20):
        write_scores(folder / f"{name}.txt", evaluated.protocol, seed)
    write_json(folder / "calibration.json", fit(write_scores(folder / "dev_scores.txt", dev.protocol, 30)).as_dict())
    shutil.copy(corpus / "ASVspoof2019_LA_asv_scores" / ASV.format("eval"), folder)
    names = folder / "PROVENANCE.tsv"
    if shared:
        shutil.copy(shared / "reference" / "minila_AASIST_scores.txt", folder)
        shutil.copy(shared / "minila" / "PROVENANCE.tsv", names)
        shutil.copy(find_split(shared / "minila" / "LA", "LA", "eval").protocol, folder)
    else:
        write_scores(folder / "minila_AASIST_scores.txt", evaluated.protocol, 40)
        shutil.copy(evaluated.protocol, folder)
        rows = [line.split() for line in evaluated.protocol.read_text().splitlines()]
        table = "".join(f"{utterance}\t{speaker}\t{attack}\n" for speaker, utterance, _, attack, _ in rows)
        names.write_text("id\tspeaker\tvoice_or_recordings\n" + table)
    rows = [line.split() for line in (folder / "minila_AASIST_scores.txt").read_text().splitlines()]
    (folder / "plain_scores.txt").write_text("".join(f"{row[0]} {row[3]}\n" for row in rows))
    (folder / "spoofs.txt").write_text("".join(f"{' '.join(row)}\n" for row in rows if row[2] == "spoof"))
    _write_track2(folder / "track2.tsv")


def _write_track2(path: Path) -> None:
    """Scores of ASVspoof 5 track 2, drawn."""
    generator = np.random.default_rng(1)
    lines = ["spk filename cm-score asv-score sasv-score key"]
    for number in range(90):
        key = ("target", "nontarget", "spoof")[number % 3]
        cm, asv = generator.normal(key != "spoof"), generator.normal(key != "nontarget")
        lines.append(f"E_{number % 4} E_{number:06d} {cm:.4f} {asv:.4f} {cm + asv:.4f} {key}")
    path.write_text("\n".join(lines).replace(" ", "\t") + "\n")


def _write_example_of_the_readme(folder: Path) -> None:
    """The system and the config that a page shows as files."""
    for page in PAGES:
        for name, text in re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", page.read_text(), re.DOTALL):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
