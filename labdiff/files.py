"""Where labdiff's own files lie, and writing a file whole or not at all."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # of a copy of the repository; in an installed package nothing of ours lies there
