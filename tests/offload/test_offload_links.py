"""Offload between two network namespaces: devices differ in what they can do, results do not."""

import errno
import itertools
import shutil
from collections.abc import Callable

import pytest
from support.links import open_ends, open_link, send_and_compare


@pytest.fixture
def needs_ethtool(needs_netns: None, require: Callable[[str], None]) -> None:
    if shutil.which("ethtool") is None:
        require("ethtool is not installed")


FEATURES = {
    "all": "tx on tso on gso on gro on tx-udp-segmentation on",
    "no-gro": "tx on tso on gso on gro off tx-udp-segmentation on",
    "no-checksums": "tx off rx off gro off",
    "no-checksums-gro": "tx off rx off gro on",
    "no-gso": "tx on tso off gso off gro on tx-udp-segmentation off",
    "nothing": "tx off rx off sg off tso off gso off gro off tx-udp-segmentation off",
}


@pytest.mark.usefixtures("needs_ethtool")
@pytest.mark.parametrize(("here", "there"), [(1500, 1500), (9000, 9000), (1500, 9000)])
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_devices_make_no_difference(here: int, there: int, features: str) -> None:
    fits = here - 28
    sizes = [*[9] * 70, 4, 0, *[1200] * 60, *[fits] * 30, fits - 1]
    with open_link(here, there) as link:
        for end in link:
            end.switch(features)
        for gso, gro in itertools.product([False, True], repeat=2):
            with open_ends(link, gso, gro) as (reader, writer):
                send_and_compare(link, writer, reader, sizes, ttl=7, tos=184)
                # Old kernels refuse with EIO where the device computes no checksums.
                assert writer.gso_error is None or writer.gso_error.errno == errno.EIO
                assert writer.gso is (gso and writer.gso_error is None)


@pytest.mark.parametrize("run", [1, 2, 63, 64, 65, 128, 1000, 5000])
def test_runs_of_any_length_over_a_link(needs_netns: None, run: int) -> None:
    """Up to what fits the link, in one piece each."""
    with open_link(1500, 1500) as link:
        for gso, gro in itertools.product([False, True], repeat=2):
            with open_ends(link, gso, gro) as (reader, writer):
                for size in (1200, 1472):
                    send_and_compare(link, writer, reader, [size] * run)
                assert (writer.gso, writer.gso_error) == (gso, None)
