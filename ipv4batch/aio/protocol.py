"""BatchProtocol: a datagram protocol that gets whole batches."""

from __future__ import annotations

import asyncio

from .. import Message, TxTimestamp


class BatchProtocol(asyncio.BaseProtocol):
    """A base for protocols that get what arrived as a list of messages.

    A protocol that has messages_received gets that call in place of datagram_received, whether it
    derives from this class or not. Its transport has send_messages beside sendto.
    """

    def messages_received(self, msgs: list[Message]) -> None:
        """Called with what one wake-up of the event loop brought, in order.

        The messages have addr, flags and, as far as control asked for it, control data. They and
        their memory are used again when the call returns: copy (Message.data) what is kept.
        """

    def tx_timestamps_received(self, stamps: list[TxTimestamp]) -> None:
        """Called with the times at which messages have left, if tx_timestamps asked for them."""

    def error_received(self, exc: OSError) -> None:
        """Called when a datagram could not be sent, or when the network reports an error."""
