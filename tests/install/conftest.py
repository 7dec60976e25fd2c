"""Environments that have all packages of this one but labdiff."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def new_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes an environment and returns its interpreter."""
    if os.name == "nt":
        pytest.skip("links to the packages of this environment need rights that Windows does not give")

    def make(links: bool = True) -> Path:
        """links: without, what pip knows of labdiff here is seen there too; with them, no sandbox sees the packages."""
        folder = tmp_path_factory.mktemp("fresh")
        sites = [Path(place) for place in sys.path if place.endswith("-packages")]
        if links:
            (folder / "shared").mkdir()
            for entry in (entry for site in sites for entry in site.iterdir()):
                link = folder / "shared" / entry.name
                if "labdiff" not in entry.name and not link.is_symlink():
                    link.symlink_to(entry)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        (folder / "venv" / "share").mkdir(exist_ok=True)
        (folder / "venv" / "share" / "jupyter").symlink_to(Path(sys.prefix) / "share" / "jupyter")
        python = folder / "venv" / "bin" / "python"
        ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        own = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
        # A .pth file appends to the path, so that what pip installs here is found first; others in there do nothing.
        places = [folder / "shared"] if links else sites
        (own / "shared.pth").write_text("".join(f"{place}\n" for place in places), encoding="utf-8")
        return python

    return make


@pytest.fixture(scope="session")
def fresh_python(new_python: Callable[..., Path]) -> Path:
    """The interpreter of one that several tests use."""
    return new_python()
