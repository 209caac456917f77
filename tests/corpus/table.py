"""The table of docs/hostile.md."""

from collections import Counter
from collections.abc import Iterable

from tests import ROOT
from tests.corpus.verdicts import Verdict

DOCUMENT = ROOT / "docs" / "hostile.md"
_BEGIN, _END = "<!-- python -m tests.corpus writes this -->\n", "<!-- up to here -->\n"


def rows(verdicts: Iterable[tuple[str, Verdict]]) -> str:
    """A Markdown table of (category, verdict) pairs: a row a category, and their sum."""
    counts = Counter()
    for category, verdict in verdicts:
        counts.update([(category, verdict), ("all", verdict)])
    categories = dict.fromkeys([*(category for category, _ in counts if category != "all"), "all"])
    lines = ["| inputs | number | " + " | ".join(Verdict) + " |", "| --- |" + " ---: |" * (len(Verdict) + 1)]
    for category in categories:
        each = [counts[category, verdict] for verdict in Verdict]
        lines.append(f"| {category} | {sum(each)} | " + " | ".join(map(str, each)) + " |")
    return "\n".join(lines) + "\n"


def in_document() -> str:
    return DOCUMENT.read_text("utf-8").partition(_BEGIN)[2].partition(_END)[0]


def write_document(table: str) -> None:
    before, _, rest = DOCUMENT.read_text("utf-8").partition(_BEGIN)
    DOCUMENT.write_text(f"{before}{_BEGIN}{table}{_END}{rest.partition(_END)[2]}", "utf-8")
