"""`python -m ipv4batch perf`: what batches gain over a loop around one socket call.

A sender moves datagrams to a receiver in another process, or on another machine, in each of several
ways (`ways`), and both sides time what they do. The modules, from the inside out:

- `datagrams` writes and checks what is in a datagram;
- `ways` are the loops that are compared;
- `channel` carries the two sides' talk about the run, over TCP or a socket pair;
- `receiver` and `sender` are the two sides, `loopback` runs both on this machine;
- `report` turns the measurements into a table or JSON, `progress` shows how far a run is.

docs/perf.rst says what the numbers mean. Nothing here is part of the package's public API.
"""
