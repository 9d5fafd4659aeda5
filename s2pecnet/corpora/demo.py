"""A small synthetic corpus in the ASVspoof2019 LA layout, made on the spot from a seed.

THE CORPUS IS SYNTHETIC AND PROVES NOTHING ABOUT SPEECH. It exists so that every command of the
framework can be run end to end in minutes, without the 7 GB download; an EER measured on it says
that the machinery works, and nothing about how a system would do on real recordings.

What a clip sounds like is the matter of demo_voices.py. Here, in reading order:

    make_demo_corpus    the one entry: make the corpus beside the target and rename it over when
                        complete, or reuse the one that is there with the same options
    marker              demo_corpus.json, the options that a corpus was made from
    plan                which speaker, attack and file name each line of a protocol gets
    clips and scores    the FLACs, and ASV scores drawn from Gaussian distributions

Conventions: every random draw comes from a generator that is seeded by (seed, split, purpose[, clip]),
so that the same seed gives the same bytes whatever the order or the number of threads.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.corpora.demo_voices import ATTACKS, Rng, Speaker, draw_speaker, finish, synthesise_voice
from s2pecnet.errors import InputError
from s2pecnet.files import write_json

VERSION = 2  # raise it whenever the bytes of the corpus change, so that an older corpus is not reused
DEFAULT_SEED = 2019
DEFAULT_CLIPS = {"train": 480, "dev": 120, "eval": 180}
SPEAKERS = {"train": 8, "dev": 4, "eval": 6}
MARKER = "demo_corpus.json"
NOTICE = """This corpus is SYNTHETIC. It was made by corpus_demo.py from a seed (see demo_corpus.json).

There is no speech in it: "bona fide" clips are the output of a source-filter synthesiser with
irregularities like those of a voice, "spoof" clips are such output passed through simple vocoders,
and the ASV scores are drawn from Gaussian distributions. It has the layout of ASVspoof2019 LA so
that the framework can be tried end to end. Figures measured on it prove nothing about speech,
about ASVspoof2019, or about any system; do not report them.
"""


@dataclass(frozen=True)
class Options:
    """What the corpus is made from; written to the marker file, and compared before a reuse."""

    version: int
    seed: int
    shuffle_labels: bool
    clips_per_split: dict[str, int]


class Clip(NamedTuple):
    """One line of a protocol, and the attack that the audio really has (unlike the label, never shuffled)."""

    speaker: Speaker
    utterance: str
    attack: str
    made_by: str
    seed: tuple[int, ...]


def make_demo_corpus(
    root: str | os.PathLike[str],
    seed: int = DEFAULT_SEED,
    shuffle_labels: bool = False,
    clips_per_split: Mapping[str, int] | None = None,
) -> Path:
    """Make the demo corpus at `root`, or reuse the one that is there with the same options.

    Args:
        root: the folder that will hold ASVspoof2019_LA_train and its siblings.
        seed: the same seed gives the same bytes.
        shuffle_labels: permute the labels within each split, so that nothing can be learnt and
            an honest system must land near 50 % EER.
        clips_per_split: number of clips of train, dev and eval; a third of them is bona fide.

    Returns:
        The absolute path of the corpus; it appears when it is complete.

    Raises:
        InputError: `root` is a file or holds anything but this very corpus; or an option is out of range.
    """
    target = Path(root).resolve()
    if seed < 0:
        raise InputError(f"demo corpus: the seed is {seed}, wanted 0 or more")
    counts = dict(DEFAULT_CLIPS if clips_per_split is None else clips_per_split)
    if set(counts) != set(DEFAULT_CLIPS) or min(counts.values()) < 3:
        raise InputError(f"demo corpus: clips_per_split is {counts}, wanted 3 or more in train, dev, eval")
    options = Options(VERSION, seed, shuffle_labels, {split: counts[split] for split in DEFAULT_CLIPS})
    if _already_there(target, options):
        print(f"{target}: the demo corpus with these options is there already, reusing it")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".making"))
    try:
        for split in DEFAULT_CLIPS:
            _write_split(workshop, split, options)
        (workshop / "README.txt").write_text(NOTICE, encoding="utf-8")
        write_json(workshop / MARKER, asdict(options))
        workshop.chmod(0o755)  # mkdtemp makes private folders
        os.replace(workshop, target)
    except BaseException:
        shutil.rmtree(workshop, ignore_errors=True)
        raise
    print(f"{target}: made the SYNTHETIC demo corpus, {sum(counts.values())} clips, seed {seed}")
    return target


def _already_there(target: Path, options: Options) -> bool:
    """Whether `target` is this very corpus; refuses anything else that is not an empty folder."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    try:
        found = json.loads((target / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{target}: it exists and is not a demo corpus; name a folder that is new or empty") from None
    if found != asdict(options):
        raise InputError(
            f"{target}: holds a demo corpus made with other options ({json.dumps(found)}); "
            "delete it or name another folder"
        )
    for split, count in options.clips_per_split.items():
        if len(list((target / f"ASVspoof2019_LA_{split}" / "flac").glob("*.flac"))) != count:
            raise InputError(f"{target}: holds a demo corpus that lost some clips; delete it and run again")
    return True


def _write_split(root: Path, split: str, options: Options) -> None:
    clips = _plan_split(split, options)
    audio = root / f"ASVspoof2019_LA_{split}" / "flac"
    audio.mkdir(parents=True)

    def write(clip: Clip) -> None:
        rng = np.random.default_rng(clip.seed)
        voice = synthesise_voice(clip.speaker, rng.uniform(1.0, 2.0), rng)
        sound = voice.samples if clip.made_by == "-" else ATTACKS[split][clip.made_by](voice, rng)
        soundfile.write(audio / f"{clip.utterance}.flac", finish(sound, rng), SAMPLE_RATE, subtype="PCM_16")

    with ThreadPoolExecutor() as pool:  # numpy's transforms release the interpreter lock
        list(pool.map(write, clips))
    keys = ["bonafide" if clip.attack == "-" else "spoof" for clip in clips]
    lines = [f"{c.speaker.name} {c.utterance} - {c.attack} {key}" for c, key in zip(clips, keys, strict=True)]
    protocol = f"ASVspoof2019.LA.cm.{split}.{'trn' if split == 'train' else 'trl'}.txt"
    _write_lines(root / "ASVspoof2019_LA_cm_protocols" / protocol, lines)
    if split != "train":
        scores = _draw_asv_scores(clips, np.random.default_rng([options.seed, _split_number(split), 1]))
        score_file = f"ASVspoof2019.LA.asv.{split}.gi.trl.scores.txt"
        _write_lines(root / "ASVspoof2019_LA_asv_scores" / score_file, scores)


def _plan_split(split: str, options: Options) -> list[Clip]:
    rng = np.random.default_rng([options.seed, _split_number(split), 0])
    first = sum(list(SPEAKERS.values())[: _split_number(split)]) + 1
    speakers = [draw_speaker(f"LA_{first + k:04d}", rng) for k in range(SPEAKERS[split])]
    total = options.clips_per_split[split]
    bona_fide = total // 3
    attacks = list(ATTACKS[split])
    made_by = ["-"] * bona_fide + [attacks[k % len(attacks)] for k in range(total - bona_fide)]
    # The order of the lines and the names of the files are drawn, so that neither gives the class away.
    numbers = rng.choice(np.arange(1_000_000, 10_000_000), size=total, replace=False)
    made_by = [made_by[k] for k in rng.permutation(total)]
    # A generator of its own, so that shuffling the labels changes nothing else.
    order = np.random.default_rng([options.seed, _split_number(split), 3]).permutation(total)
    labels = [made_by[k] for k in order] if options.shuffle_labels else made_by
    return [
        Clip(
            speaker=speakers[rng.integers(len(speakers))],
            utterance=f"LA_{split[0].upper()}_{numbers[k]}",
            attack=labels[k],
            made_by=made_by[k],
            seed=(options.seed, _split_number(split), 2, k),
        )
        for k in range(total)
    ]


def _draw_asv_scores(clips: list[Clip], rng: Rng) -> list[str]:
    """Lines of an ASV score file: a good ASV, which some attacks deceive more than others."""
    spoofs = [clip.attack for clip in clips if clip.attack != "-"]
    centre = {attack: rng.uniform(0.5, 4.5) for attack in sorted(set(spoofs))}
    lines = [f"- target {rng.normal(5, 1.2):.6f}" for _ in range(len(clips))]
    lines += [f"- nontarget {rng.normal(0, 1.2):.6f}" for _ in range(2 * len(clips))]
    lines += [f"{attack} spoof {rng.normal(centre[attack], 1.2):.6f}" for attack in spoofs]
    return [lines[k] for k in rng.permutation(len(lines))]


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _split_number(split: str) -> int:
    return list(DEFAULT_CLIPS).index(split)
