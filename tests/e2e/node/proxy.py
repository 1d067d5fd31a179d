"""Pass connections from a socket that was opened outside the network namespace to the API server inside.

Started inside the namespaces with the listening socket as an inherited descriptor; a socket belongs to the namespace
that it was made in, so this is a way in, and none out.
"""

import asyncio
import contextlib
import socket
import sys


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()


async def main() -> None:
    """Serve until killed."""
    descriptor, host, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()

    listening = socket.socket(fileno=descriptor)
    server = await asyncio.start_server(serve, sock=listening)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
