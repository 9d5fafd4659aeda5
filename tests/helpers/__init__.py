"""What tests share: samples, small corpora, run folders, a browser."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
