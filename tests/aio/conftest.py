"""What the tests of ipv4batch.aio share."""

import socket
from collections.abc import Iterator

import pytest
from support.net import udp_socket
from support.transport import PAUSES, WAYS, Way


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    """Asyncio's own transport, and each way to ours."""
    if not request.param.ours and not PAUSES:
        pytest.skip("asyncio's own transport cannot pause here")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=WAYS[1:], ids=lambda way: way.name)
def our_way(request: pytest.FixtureRequest) -> Way:
    """Each way to our transport."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with udp_socket() as sock:
        yield sock
