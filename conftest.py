"""What the tests of both packages share, tests/ and toyworld/tests/."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import ROOT

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Whoever runs the suite sees what everybody sees: the same examples each time. `make fuzz` draws new ones, and many.
ANYWHERE = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **ANYWHERE)
settings.register_profile("new", max_examples=2000, **ANYWHERE)
settings.load_profile(os.environ.get("EXAMPLES", "same"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """The tiny model, built once: transformer/, vae/, text_encoder/, tokenizer/, vlm/."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    subprocess.run([sys.executable, ROOT / "toyworld" / "scripts" / "build_tiny.py", folder], check=True, cwd=ROOT)
    return folder


# A file's tests run in one process (--dist loadfile), so that its fixtures are built once. The dearest files go first,
# or one process would run them at the end while the others wait.
DEAREST = (
    "workflow/test_workflow.py",
    "prompts/test_qwen.py",
    "methods/test_train.py",
    "weights/test_weights.py",
    "toyworld/tests/test_transformer.py",
    "toyworld/tests/test_scene_and_oracle.py",
    "toyworld/tests/test_vlm.py",
    "corpus/test_corpus.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(DEAREST)}
    items.sort(
        key=lambda item: min((p for name, p in places.items() if str(item.path).endswith(name)), default=len(places))
    )
