"""Where labdiff's own files lie, and writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from labdiff.errors import FileError

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # of a copy of the repository; in an installed package nothing of ours lies there
# these lie at the top of the repository, where people look for them, and in the package, where pip puts them
CHECKPOINTS, NOTEBOOKS, EXAMPLES = (
    PACKAGE / installed if (PACKAGE / installed).is_dir() else ROOT / name
    for installed, name in (("shipped", "checkpoints"), ("notebooks", "notebooks"), ("examples", "tests/class"))
)


@contextlib.contextmanager
def writing(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes `file` when the block ends; what fails in it leaves `file` as it was.

    Not even a power cut leaves half a file. Raises FileError where the file cannot be written.
    """
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".partial", dir=file.parent)
        temporary = Path(name)
        os.close(descriptor)
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, file.stat().st_mode & 0o777 if file.exists() else 0o666 & ~_umask())
        os.replace(temporary, file)
    except OSError as error:
        raise FileError(f"{file} cannot be written: {error.strerror or error}.") from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def write(file: Path, content: str | bytes) -> None:
    """Write a text, in UTF-8 and as it is, or bytes; whole or not at all. Raises FileError."""
    with writing(file) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
