"""A results page and all that it shows, as one file to be sent."""

import os
import re
import zipfile
from html import unescape
from pathlib import Path
from urllib.parse import unquote

from bico import InputError
from bico.runtime.files import atomic

_LINK = re.compile(r'(?:src|href)="([^"#][^":]*)"')


def linked_files(page: str | Path) -> list[Path]:
    """The files that a page shows or links to, in the order in which it does. InputError names those that are not
    there."""
    page = Path(page)
    if not page.is_file():
        raise InputError(f"{page}: no such page; `snakemake` makes it")
    names = dict.fromkeys(unquote(unescape(name)) for name in _LINK.findall(page.read_text("utf-8")))
    files = [Path(os.path.normpath(page.parent / name)) for name in names]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(*(f"{file}: the page {page} shows it, and it is not there" for file in missing))
    return files


def zip_page(page: str | Path, output: str | Path) -> int:
    """Writes a zip file in which the page works as it does here; returns how many files are in it. Media is compressed
    already, so it is stored as it is."""
    files = [Path(os.path.normpath(page)), *linked_files(page)]
    root = Path(os.path.commonpath([file.absolute().parent for file in files]))
    with atomic(output) as part, zipfile.ZipFile(part, "w") as archive:
        for file in files:
            archive.write(file, file.absolute().relative_to(root))
    return len(files)
