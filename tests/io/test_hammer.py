"""Everything at once, from many threads: see support/hammer.py.

IPV4BATCH_HAMMER_SECONDS says for how long: some seconds in every run of the suite, a minute on a
free-threaded Python and under ThreadSanitizer (make freethreaded, make tsan).
"""

import os

import pytest
from support.hammer import Hammer

from ipv4batch import capabilities

THREADS = 8
SECONDS = float(os.environ.get("IPV4BATCH_HAMMER_SECONDS", "3"))


@pytest.mark.timeout(SECONDS + 120)
def test_everything_at_once() -> None:
    hammer = Hammer(THREADS, raw=capabilities()["raw_sockets"])
    hammer.run(SECONDS)
    print(f"rounds: {dict(hammer.done)}; datagrams read: {len(hammer.arrived)}")
    assert set(hammer.done) == {str(index) for index in range(THREADS)}
    assert hammer.arrived
    assert hammer.endpoints.made > 1
    assert hammer.filter.blocked == 0
