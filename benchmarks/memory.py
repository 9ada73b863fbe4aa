"""Bytes that a Message takes beside its buffers."""

import gc
import tracemalloc

from ipv4batch import ControlFlags, new_messages

COUNT, SIZE = 1000, 2048


def of_a_message(control: ControlFlags) -> float:
    """What Python's allocators hold for each of many messages, without the slab of their bytes."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    messages = new_messages(COUNT, SIZE, control)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    room = 0 if messages[0].oob is None else len(messages[0].oob)
    return (after - before) / COUNT - SIZE - room


def measure() -> dict[str, float]:
    """By what the messages are for."""
    everything = ControlFlags(127)
    return {
        "Message": of_a_message(ControlFlags(0)),
        "Message with oob": of_a_message(everything),
    }
