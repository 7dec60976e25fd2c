"""A Jupyter server of its own, for tests, and what a person does in it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import PATIENCE

with contextlib.suppress(ImportError):
    from playwright.sync_api import Locator, Page, expect
    from playwright.sync_api import TimeoutError as TooLate

SETTINGS = {
    # JupyterLab draws only the cells in sight, unless told; the tests look at all of them.
    "@jupyterlab/notebook-extension/tracker": '{"windowingMode": "none"}',
    "@jupyterlab/apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    # What is typed must arrive as it is typed.
    "@jupyterlab/codemirror-extension/plugin": '{"defaultConfig": {"autoClosingBrackets": false}}',
}


TRIES = 3  # to run a cell


@contextlib.contextmanager
def serving(place: Path, front: str = "jupyterlab") -> Iterator[str]:
    """The address of a server of the folder place/root. front: "jupyterlab" or "notebook"."""
    for name, text in SETTINGS.items():
        file = place / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    port, log = free_port(), place / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            command(place / "root", port, front),
            env=environment(place),
            cwd=place / "root",
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its kernels can be ended with it
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, process, log)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def command(root: Path, port: int, front: str) -> list[str]:
    asked = [
        *(sys.executable, "-m", front, "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *("--IdentityProvider.token=", f"--ServerApp.root_dir={root}"),
    ]
    if front == "jupyterlab":
        asked += ["--LabApp.extension_manager=readonly"]
        asked += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    return asked


def environment(place: Path) -> dict[str, str]:
    """The environment of the server: nothing of the user's own Jupyter is read or written."""
    own = {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    folders = {name: str(place / folder) for name, folder in own.items()}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return os.environ | folders | {"PATH": path, "LABDIFF_DATA": "offline", "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address: str, process: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    """Wait until the server answers; fails with its log where it does not."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/api/status", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"The server did not start:\n{log.read_text()[-3000:]}")


def code_cell(page: Page, text: str) -> Locator:
    """The one code cell whose source holds this text."""
    source = page.locator(".jp-InputArea-editor", has_text=text)
    return page.locator(".jp-CodeCell").filter(has=source)


def run_cell(page: Page, cell: Locator) -> None:
    """Select a cell, run it, and wait until it has run.

    On a busy machine JupyterLab may lose a key while it moves the focus, or ask something meanwhile; then the key is
    pressed again and the question answered as it proposes, as a person would.
    """
    prompt = cell.locator(".jp-InputArea-prompt")
    before, dialogs = prompt.inner_text(), []
    for _ in range(TRIES):
        for dialog in page.locator(".jp-Dialog").all():
            dialogs.append(dialog.inner_text())
            dialog.locator("button.jp-mod-accept").click()
        with contextlib.suppress(AssertionError, TooLate):
            prompt.click(timeout=PATIENCE / TRIES)  # a dialog may be in the way
            page.keyboard.press("Control+Enter")
            expect(prompt).not_to_have_text(before, timeout=PATIENCE / TRIES)
            break
    else:
        dialogs += page.locator(".jp-Dialog").all_inner_texts()
        pytest.fail(f"The cell does not run; its prompt remains {before!r}. Dialogs: {dialogs}")
    expect(prompt).to_have_text(re.compile(r"\[\d+\]:"))
