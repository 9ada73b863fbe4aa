"""The public names of ipv4batch.aio."""

import re
from pathlib import Path

from ipv4batch import aio

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_has_every_public_name() -> None:
    text = (DOCS / "asyncio.rst").read_text()
    found = re.findall(r"(?m)^\.\. auto\w+:: (\w+)$", text)
    assert sorted(found) == sorted(aio.__all__)


def test_every_public_name_is_there_and_documented() -> None:
    for name in aio.__all__:
        assert getattr(aio, name).__doc__
