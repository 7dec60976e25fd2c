"""CSV files as platforms write and read them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from labdiff import files
from labdiff.errors import ExportError

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what makes a spreadsheet calculate a cell


class Table:
    """A CSV file as a platform wrote it; what is not changed stays as it was, separator and byte order mark too."""

    def __init__(self, file: Path):
        try:
            data = Path(file).read_bytes()
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise ExportError(f"{file} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise ExportError(f"{file} is not in UTF-8: give it as it was downloaded.") from error
        self.mark = "\ufeff" if data.startswith(b"\xef\xbb\xbf") else ""
        first = text.partition("\n")[0]
        self.separator = max(",;\t", key=first.count)
        self.end = "\r\n" if first.endswith("\r") else "\n"
        csv.field_size_limit(10 << 20)
        try:
            self.rows = [
                row for row in csv.reader(io.StringIO(text, newline=""), delimiter=self.separator, strict=True) if row
            ]
        except csv.Error as error:
            raise ExportError(f"{file} is no CSV file: {error}.") from error
        if not self.rows or any(len(row) != len(self.rows[0]) for row in self.rows):
            raise ExportError(f"{file} is no table: its rows differ in length. Give it as it was downloaded.")

    def write(self, to: Path) -> None:
        dialect = type("_Same", (csv.excel,), {"delimiter": self.separator, "lineterminator": self.end})
        write_rows(to, self.rows, dialect, self.mark)


def write_rows(to: Path, rows: list[list[str]], dialect: Any, mark: str = "") -> None:
    """Write rows as CSV; mark: a byte order mark, or ""."""
    text = io.StringIO(newline="")
    csv.writer(text, dialect).writerows(rows)
    files.write(to, mark + text.getvalue())


def as_cell(text: str) -> str:
    """A text for a cell, that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def as_number(value: float) -> str:
    """A number with at most five digits behind the point, as many as Moodle keeps."""
    return f"{value:.5f}".rstrip("0").rstrip(".")


def parsed_number(text: str) -> float | None:
    """A number as a platform writes it, with a point or a comma; None of anything else."""
    if not re.fullmatch(r"\s*\d[\d.,\s]*", text):
        return None
    *whole, last = re.split(r"[.,]", re.sub(r"\s", "", text))
    return float(f"{''.join(whole)}.{last}") if whole else float(last)
