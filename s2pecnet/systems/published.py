"""Weights that the authors of the systems published: found by name, fetched once, checked, and kept.

    find_weights    the file that a command line, a config or a name stands for; a published one is fetched
    fetch_weights   a published file, from where its authors keep it or from a mirror

Files are kept in models/weights/ of a checkout, else in the user's cache folder. S2PEC_OFFLINE=1 never touches the
network; S2PEC_WEIGHTS_MIRROR=URL takes URL/AASIST.pth and so on from another server, with the same check.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from s2pecnet.config.experiment import Config
from s2pecnet.download import download
from s2pecnet.errors import InputError
from s2pecnet.files import sha256_of
from s2pecnet.locks import waiting_lock
from s2pecnet.shipped import MODELS_FOLDER
from s2pecnet.text import clipped, nearest, printable

log = logging.getLogger(__name__)

OFFLINE, MIRROR = "S2PEC_OFFLINE", "S2PEC_WEIGHTS_MIRROR"
# No published file of these systems has a tenth of it; a server's endless answer must not fill the disk.
LARGEST = 256 << 20


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that somebody published.

    Attributes:
        url: the file's address; of a `page`, the name of the file alone.
        size: bytes; None: not known here.
        digest: "sha256:..." of the content, or "git:..." as git names it (SHA-1 over "blob <length>\\0" and content).
        remark: what users should know of it.
        page: where a person finds the file, of one without an address that a program can fetch.
    """

    name: str
    url: str
    size: int | None
    digest: str
    licence: str
    remark: str = ""
    page: str = ""

    @property
    def file(self) -> str:
        """Its name on the disk and at a mirror."""
        return self.url.rpartition("/")[2]

    def is_intact(self, path: Path) -> bool:
        """Whether a file has the published content."""
        kind, _, digest = self.digest.partition(":")
        if self.size is not None and path.stat().st_size != self.size:
            return False
        return digest == (sha256_of(path) if kind == "sha256" else git_digest_of(path))


_AASIST = "https://raw.githubusercontent.com/clovaai/aasist/a04c9863f63d44471dde8a6abcb3b082b07cd1d1/models/weights/"
_S2PECNET = (
    "https://raw.githubusercontent.com/ph-w2000/S2pecNet/6d7022c7a9f69dbedc88b87ba545d7ed1fc82211/models/weights/"
)
_XLSR_PAGE = "https://github.com/TakHemlata/SSL_Anti-spoofing"
_XLSR_REMARK = (
    "XLS-R 300M and AASIST, for config/XLSR_AASIST.conf; size and SHA-256 as third parties state them: the file was "
    "never opened by the authors of this framework"
)
PUBLISHED = {
    one.name: one
    for one in (
        PublishedWeights(
            "AASIST",
            f"{_AASIST}AASIST.pth",
            1_281_532,
            "sha256:51d2d9cf0738172f61e2a384ec50a54a55363240f67c971ed55a92435bc1a1c0",
            "MIT, NAVER Corp.",
        ),
        PublishedWeights(
            "AASIST-L",
            f"{_AASIST}AASIST-L.pth",
            426_428,
            "sha256:814331d088032bb4c3fa61cc014789eadeed464209dd094ab3a2dd6ffbdce27a",
            "MIT, NAVER Corp.",
        ),
        PublishedWeights(
            "S2pecNet",
            f"{_S2PECNET}S2pecNet.pth",
            None,
            "git:e188589454d035c05f58e01c00e7247656bf020d",
            "MIT",
            "never opened by the authors of this framework: if its keys do not fit config/S2pecNet.conf, it was "
            "trained with other code than was released, and none of its scores can be had here",
        ),
        PublishedWeights(
            "LA_model",
            "LA_model.pth",
            1_271_633_441,
            "sha256:bd6f36097259fe54e7004eb983651e5304d807be81156dbd04faccb70d91e10c",
            "MIT",
            _XLSR_REMARK,
            _XLSR_PAGE,
        ),
        PublishedWeights(
            "Best_LA_model_for_DF",
            "Best_LA_model_for_DF.pth",
            1_271_642_081,
            "sha256:1cf904f1d84c867c278cd42161df5367939d61cc28bfefd239bc995af59c2804",
            "MIT",
            _XLSR_REMARK,
            _XLSR_PAGE,
        ),
    )
}


def find_weights(given: str | os.PathLike[str] | None, config: Config) -> Path:
    """The file of weights to score with; published ones are fetched where they are not here yet.

    Args:
        given: a file, or the name of published weights; None: the config's `model_path`.

    Raises:
        InputError: there are none, or they could not be fetched; the line says what to do.
    """
    asked = given or config.model_path
    if not asked:
        raise InputError(f"{config.source}: no weights; give --weights (--eval_model_weights) or the key model_path")
    path = Path(asked)
    if os.path.isfile(path):
        return path
    name = path.stem if path.parent in (Path("models/weights"), Path()) and path.suffix in ("", ".pth") else ""
    if name in PUBLISHED and not os.path.lexists(path):
        return fetch_weights(name)
    if given is None or path.parent == Path("models/weights"):
        raise InputError(
            f"{path}: no such checkpoint, and nobody has published weights of {name or path.name} (published: "
            f"{', '.join(PUBLISHED)}); train it, python main.py --config {config.source}, or give a checkpoint"
        )
    guess = nearest(path.stem, PUBLISHED)
    hint = f"; published weights are called by name alone: {guess}" if guess else ""
    raise InputError(f"{clipped(str(asked))}: no such checkpoint{hint}")


def weights_folder() -> Path:
    """Where published weights are kept: models/weights/ of a checkout, else the user's cache folder."""
    in_checkout = (MODELS_FOLDER.parent / "main.py").is_file() and os.access(MODELS_FOLDER, os.W_OK)
    return MODELS_FOLDER / "weights" if in_checkout else Path(platformdirs.user_cache_dir("s2pecnet")) / "weights"


def kept_at(name: str) -> Path:
    """Where the published weights of a name are kept, or would be."""
    return weights_folder() / PUBLISHED[name].file


def fetch_weights(name: str) -> Path:
    """The published weights of a name, fetched if they are not here yet.

    Raises:
        InputError: there are none of that name; they cannot be fetched; or the file is not the published one, and
            then nothing of what was fetched stays.
    """
    if name not in PUBLISHED:
        guess = nearest(name, PUBLISHED, cutoff=0.6)
        hint = f"; did you mean {guess}?" if guess else ""
        raise InputError(f"no published weights are called {clipped(repr(name))}{hint} (have: {', '.join(PUBLISHED)})")
    published, path = PUBLISHED[name], kept_at(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that want the same file: the second waits, and finds it.
    with waiting_lock(path.with_name(f".{path.name}.lock"), f"fetches {path.name}"):
        if not path.is_file():
            _fetch(published, path)
        elif not published.is_intact(path):
            raise InputError(
                f"{path}: not the published {path.name} (its {_kind(published)} differs); delete it and run again, or "
                "move it elsewhere and give its path if it is yours"
            )
    return path


def remark_of(path: Path) -> str:
    """What a message about published weights should add; nothing for other files."""
    known = (one.remark for name, one in PUBLISHED.items() if one.remark and path.resolve() == kept_at(name).resolve())
    return next((f" ({remark})" for remark in known), "")


def _fetch(published: PublishedWeights, path: Path) -> None:
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    if published.page and not mirror:
        raise InputError(
            f"{path}: not here, and it has no address that a program can fetch: get {published.file} "
            f"({published.size or 0:,} bytes) by the links of {published.page}, and put it there"
        )
    url = f"{mirror}/{published.file}" if mirror else published.url
    if os.environ.get(OFFLINE, "") not in ("", "0"):
        raise InputError(
            f"{path}: not here, and {OFFLINE} is set; where there is a network run `s2pecnet weights "
            f"{published.name}`, or put the file of {url} there"
        )
    size = f"{published.size / 1e6:.1f} MB" if published.size else "size not known"
    log.info("%s: fetching %s (%s, licence: %s)", path, url, size, published.licence)
    if published.remark:
        log.info("%s: %s", published.name, published.remark)
    arriving = path.with_name(f".{path.name}.download")
    try:
        download(url, arriving, largest=published.size or LARGEST)
    except InputError as error:
        raise InputError(f"{error}; or put the file at {path}, or set {MIRROR}") from None
    if not published.is_intact(arriving):
        found = arriving.stat().st_size
        arriving.unlink()
        raise InputError(
            f"{printable(url)}: sent {found:,} bytes that are not the published {published.file} (its "
            f"{_kind(published)} differs); nothing of them was kept"
        )
    os.replace(arriving, path)


def _kind(published: PublishedWeights) -> str:
    return "SHA-256" if published.digest.startswith("sha256:") else "git object hash"


def git_digest_of(path: Path) -> str:
    """The name that git gives a file's content, 40 hexadecimal digits."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
