"""Datagrams in batches for programs of asyncio, and AsyncPacketConn for asyncio and trio."""

from .conn import AsyncPacketConn

__all__ = ["AsyncPacketConn"]
