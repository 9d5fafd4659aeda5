"""The corpus on disk: ASVspoof2019 LA downloaded, verified and unpacked.

    fetch     LA.zip (s2pecnet/download.py), its SHA-256 as given or as recorded at the first download, and the
              folder, which takes its name only when it is complete (archive.py)

Beside it: check.py compares a folder with its protocols, demo.py makes a small synthetic corpus in the same layout.
Bad input, a refusing server and a full disk each end in one line and exit status 2.
"""

import os
import re
import urllib.parse
from pathlib import Path

from s2pecnet.corpora.archive import check_sha256, unpack, verify_checksum
from s2pecnet.corpora.check import check_tree
from s2pecnet.download import download
from s2pecnet.errors import InputError
from s2pecnet.locks import waiting_lock

LA_URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/3336/LA.zip"


def fetch(url: str, out: Path, sha256: str | None = None, keep_archive: bool = False) -> None:
    """Download, verify and unpack the corpus at `url` (.../<name>.zip) to `out`/<name>.

    Nothing is done where that folder exists and is complete.

    Raises:
        InputError: as `download`, `verify_checksum` and `unpack`; or the folder exists and is incomplete.
    """
    if sha256 is not None:
        check_sha256("--sha256", sha256)  # now, and not after a download of hours
    try:
        address = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise InputError(f"--url {url!r}: not an address ({error})") from None
    name = urllib.parse.unquote(address.path).rsplit("/", 1)[-1]
    if address.scheme not in ("http", "https") or not re.fullmatch(r"\w[\w.-]*\.zip", name):
        raise InputError(f"--url {url!r}: expected http(s)://.../<name>.zip")
    archive, target = out / name, out / Path(name).stem
    out.mkdir(parents=True, exist_ok=True)
    # A second download into the folder waits, and then finds what the first has fetched.
    with waiting_lock(out / f".{name}.lock", f"fetches {name}"):
        _fetch(url, archive, target, sha256, keep_archive)


def _fetch(url: str, archive: Path, target: Path, sha256: str | None, keep_archive: bool) -> None:
    if os.path.lexists(target):
        report = check_tree(target)
        if not report.complete:
            what = f"it exists and is incomplete ({report.problems[0]})"
            raise InputError(f"{target}: {what}; move it away or delete it, then run again")
        print(f"{target}: already there and complete, nothing to do")
        return
    if not archive.exists():
        download(url, archive)
    print(f"{archive}: SHA-256 {verify_checksum(archive, sha256)}")
    unpack(archive, target)
    if not keep_archive:
        archive.unlink()
    print(f"{target}: unpacked and complete")
