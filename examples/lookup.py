"""A name server, in small, on asyncio: the server is an ordinary datagram protocol.

Takes no privileges. `aio.run` in place of `asyncio.run` is all that makes its endpoint take and
send datagrams in batches. The client asks with an AsyncPacketConn: a hundred questions a call, and
takes the answers as they come, in batches. Some of the names are unknown to the server.
"""

import asyncio
import socket

from ipv4batch import Message, aio

QUESTIONS = 1000
NAMES = {b"host%d.example" % number: b"192.0.2.%d" % number for number in range(250)}


class Lookup(asyncio.DatagramProtocol):
    """Answers a question (two bytes of a number, and a name) with the number and an address."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data[:2] + NAMES.get(data[2:], b""), addr)


async def ask(server: tuple[str, int]) -> dict[int, bytes]:
    """The answer to each question."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind(("127.0.0.1", 0))
    answers: dict[int, bytes] = {}
    async with aio.AsyncPacketConn(sock) as conn, asyncio.timeout(10):
        while missing := [number for number in range(QUESTIONS) if number not in answers]:
            # A hundred at a time: more might not find room at the server.
            questions = [
                Message(number.to_bytes(2) + b"host%d.example" % (number % 255), addr=server)
                for number in missing[:100]
            ]
            await conn.write_all(questions)
            expected = len(answers) + len(questions)
            async for msgs in conn.batches(64):
                answers |= {int.from_bytes(m.data[:2]): m.data[2:] for m in msgs}
                if len(answers) >= expected:
                    break
    return answers


async def main() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Lookup, local_addr=("127.0.0.1", 0))
    answers = await ask(transport.get_extra_info("sockname"))
    transport.close()
    known = sum(1 for answer in answers.values() if answer)
    print(f"{QUESTIONS} questions, {len(answers)} answers, {known} of them known")
    print(f"host7.example is {answers[7].decode()}")


if __name__ == "__main__":
    aio.run(main())
