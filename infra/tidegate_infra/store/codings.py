"""Content codings of requests and answers, as streams: a body is never held whole to be unpacked."""

import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped]

from tidegate_infra.store.errors import Code, StatementError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# A chunk of a hostile body may unpack to a thousand times its size: it is unpacked in pieces of at most this.
_PIECE_BYTES = 1 << 20

_FAILED = {
    "lz4": Code.LZ4_DECODER_FAILED,
    "zstd": Code.ZSTD_DECODER_FAILED,
    "gzip": Code.ZLIB_INFLATE_FAILED,
    "deflate": Code.ZLIB_INFLATE_FAILED,
}
OFFERED = tuple(_FAILED)


class Packer(Protocol):
    """Packs an answer piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """Take a piece; what is ready comes back."""

    def flush(self) -> bytes:
        """Return the rest."""


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /, max_length: int) -> bytes: ...


class _Inflate:
    """Zlib with the interface of the other decompressors."""

    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


class _Lz4Packer:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._head: bytes = self._frame.begin()

    def compress(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        packed: bytes = self._frame.compress(data)
        return head + packed

    def flush(self) -> bytes:
        head, self._head = self._head, b""
        rest: bytes = self._frame.flush()
        return head + rest


def unpack(chunks: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """Undo the content coding of a request.

    Parameters
    ----------
    chunks
        The body as it arrives.
    coding
        Value of ``Content-Encoding``; empty or ``identity`` for none.

    Raises
    ------
    StatementError
        The coding is unknown, or the body is not in it, or ends too early.
    """
    if coding in {"", "identity"}:
        yield from chunks
        return
    unpacker = _unpacker(coding)
    begun = False
    for chunk in chunks:
        rest = chunk
        while rest or not unpacker.eof:
            if unpacker.eof:
                # Frames may follow each other.
                unpacker, begun = _unpacker(coding), False
            begun = begun or bool(rest)
            try:
                piece = unpacker.decompress(rest, max_length=_PIECE_BYTES)
            except (RuntimeError, EOFError, zstd.ZstdError, zlib.error) as error:
                raise StatementError(_FAILED[coding], f"the body is not {coding}: {error}") from None
            rest = unpacker.unused_data if unpacker.eof else b""
            if piece:
                yield piece
            elif not unpacker.eof:
                break
    if begun and not unpacker.eof:
        raise StatementError(_FAILED[coding], f"the {coding} body ends in the middle")


def packer(coding: str) -> Packer:
    """Return what packs an answer in one of the codings `OFFERED`."""
    match coding:
        case "lz4":
            return _Lz4Packer()
        case "zstd":
            return zstd.ZstdCompressor(level=1)
        case "gzip":
            return zlib.compressobj(level=1, wbits=31)
        case _:
            return zlib.compressobj(level=1)


def accepted(header: str) -> str:
    """Choose a coding from an ``Accept-Encoding``; empty for none that is offered."""
    wanted = {part.partition(";")[0].strip().lower() for part in header.split(",") if not _is_refused(part)}
    return next((coding for coding in OFFERED if coding in wanted), "")


def _is_refused(part: str) -> bool:
    return part.replace(" ", "").lower().endswith((";q=0", ";q=0.0"))


def _unpacker(coding: str) -> _Unpacker:
    match coding:
        case "lz4":
            unpacker: _Unpacker = lz4.frame.LZ4FrameDecompressor()
            return unpacker
        case "zstd":
            return zstd.ZstdDecompressor()
        case "gzip":
            return _Inflate(31)
        case "deflate":
            return _Inflate(15)
        case _:
            raise StatementError(
                Code.NOT_IMPLEMENTED,
                f"Content-Encoding {coding!r} is unknown: there are {', '.join(OFFERED)}",
            )
