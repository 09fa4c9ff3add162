"""What every test shares: a hypothesis profile, ``tests/support`` to import, a compile cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a run of the tests can be told."""
    parser.addoption(
        "--update-snapshots",
        action="store_true",
        help="write what is printed now into the expected texts of tests/errors",
    )


settings.register_profile(
    "nnc",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nnc")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep compiled code apart from the user's; processes that tests start find it too."""
    os.environ["NNC_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
