"""Get ASVspoof2019 LA, check a corpus, or make the small synthetic one of the demo.

    python download_dataset.py
    python download_dataset.py --check ./LA
    python download_dataset.py --demo

The command line is `s2pecnet/cli/download.py`, the work `s2pecnet/corpora/`.
"""

from s2pecnet.cli import run

if __name__ == "__main__":
    run("download", "python download_dataset.py")

from s2pecnet.corpora.archive import unpack, verify_checksum
from s2pecnet.corpora.download import download, fetch

__all__ = ["download", "fetch", "unpack", "verify_checksum"]
