"""The Speech Anti-Spoofing Arena: our systems in its harness, and submissions to it."""

from s2pecnet.arena.adapter import Adapter

__all__ = ["Adapter"]
