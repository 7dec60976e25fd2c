"""Wheels and zips whose bytes depend on nothing but what is put into them."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib import metadata

import labdiff
from labdiff.errors import ReleaseError

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the date of every file


def version_of(lab: str, files: dict[str, bytes]) -> str:
    """The version of a lab's package, such as 0.2.0+lab1.forward.1a2b3c4d. files: place -> content.

    One of its own for each lab, and for each content: pip and the notebook's first cell replace one by another.
    """
    content = "".join(f"{name} {_digest(data)}\n" for name, data in sorted(files.items()))
    short = hashlib.sha256(content.encode()).hexdigest()[:8]
    return f"{labdiff.__version__}+{lab.replace('_', '.')}.{short}"


def wheel(version: str, files: dict[str, bytes]) -> tuple[str, bytes]:
    """The name and the bytes of a wheel of labdiff. Raises ReleaseError where labdiff is not installed here."""
    about = _installed()
    info = f"labdiff-{version}.dist-info"
    members: dict[str, str | bytes] = {**files}
    members[f"{info}/METADATA"] = _metadata(about, version)
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: labdiff\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members[f"{info}/licenses/LICENSE"] = about.read_text("licenses/LICENSE") or ""
    record = "".join(f"{name},sha256={_digest(data)},{len(_bytes(data))}\n" for name, data in sorted(members.items()))
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    return f"labdiff-{version}-py3-none-any.whl", archive(members)


def _installed() -> metadata.Distribution:
    try:
        return metadata.distribution("labdiff")
    except metadata.PackageNotFoundError as error:
        raise ReleaseError("labdiff is not installed here, so what it requires is not known: install it.") from error


def _metadata(about: metadata.Distribution, version: str) -> str:
    """What pip reads: who this is, and what a student needs, which is what no extra asks for."""
    lines = ["Metadata-Version: 2.1", "Name: labdiff", f"Version: {version}"]
    lines += [f"Summary: {about.metadata['Summary']}", "License: MIT"]
    lines += [f"Requires-Python: {about.metadata['Requires-Python']}"]
    lines += [f"Requires-Dist: {wanted}" for wanted in about.requires or () if "extra ==" not in wanted]
    return "\n".join([*lines, ""])


def archive(members: dict[str, str | bytes]) -> bytes:
    """Files as a zip. members: place -> content."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in sorted(members.items()):
            about = zipfile.ZipInfo(name, LONG_AGO)
            about.compress_type, about.external_attr, about.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            zipped.writestr(about, _bytes(data))
    return made.getvalue()


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _digest(data: str | bytes) -> str:
    """A hash as a wheel's RECORD spells it."""
    return base64.urlsafe_b64encode(hashlib.sha256(_bytes(data)).digest()).rstrip(b"=").decode()
