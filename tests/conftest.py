import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).parent.parent
RELEASED = Path(__file__).parent / "data" / "released"


@pytest.fixture(scope="session")
def embedded(tmp_path_factory) -> Path:
    """The embedded model, built once: transformer/, vae/, text_encoder/, tokenizer/, vlm/."""
    folder = tmp_path_factory.mktemp("weights") / "embedded"
    subprocess.run([sys.executable, ROOT / "scripts" / "build_embedded.py", folder], check=True, cwd=ROOT)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, or one worker would run them at the end while the others wait."""
    items.sort(key=lambda item: "xdist_group" not in item.keywords)
