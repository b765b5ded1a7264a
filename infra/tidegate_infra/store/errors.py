"""What a statement can end with, in ClickHouse's own words, codes and HTTP statuses."""

import re
from enum import IntEnum
from typing import Self


class Code(IntEnum):
    """ClickHouse's error codes that the store itself answers with."""

    NOT_IMPLEMENTED = 48
    SYNTAX_ERROR = 62
    CANNOT_WRITE_TO_FILE_DESCRIPTOR = 75
    READONLY = 164
    REQUIRED_PASSWORD = 194
    TOO_MANY_SIMULTANEOUS_QUERIES = 202
    QUERY_IS_TOO_LARGE = 229
    ABORTED = 236
    ZLIB_INFLATE_FAILED = 354
    INTO_OUTFILE_NOT_ALLOWED = 358
    ACCESS_DENIED = 497
    AUTHENTICATION_FAILED = 516
    ZSTD_DECODER_FAILED = 561
    LZ4_DECODER_FAILED = 618
    UNKNOWN_EXCEPTION = 1002


# As a ClickHouse server answers (its exceptionCodeToHTTPStatus); all others are 500.
_STATUS: dict[int, int] = {
    **dict.fromkeys((6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123), 400),
    **dict.fromkeys((167, 168, 223, 321, 376, 427, 441, 675, 676), 400),
    **dict.fromkeys((192, 193, 497, 512, 516), 403),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511), 404),
    **dict.fromkeys((76, 209, 439), 503),
    Code.REQUIRED_PASSWORD: 401,
    159: 408,
    Code.QUERY_IS_TOO_LARGE: 413,
    Code.NOT_IMPLEMENTED: 501,
    # Unlike a server, which says 500: clients take 503 for what it is and come again.
    Code.TOO_MANY_SIMULTANEOUS_QUERIES: 503,
}

_CODE = re.compile(r"Code: (\d+)\. DB::\w*Exception: ")


class StatementError(Exception):
    """A statement was refused, or failed.

    Parameters
    ----------
    code
        ClickHouse's error code.
    message
        What happened, without the code.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def from_engine(cls, text: str) -> Self:
        """Read the engine's own wording."""
        found = _CODE.search(text)
        if found is None:
            return cls(Code.UNKNOWN_EXCEPTION, text.strip())
        # After "At:" a function written in Python says where it stands in our code: nobody's business.
        return cls(int(found[1]), text[found.end() :].partition("\n\nAt:\n")[0].strip())

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return _STATUS.get(self.code, 500)

    def text(self, version: str) -> str:
        """Body of the answer, worded as a server of this version words it."""
        message = f"{self.message} ({self.code.name})" if isinstance(self.code, Code) else self.message
        stamp = "" if "(version " in message else f" (version {version})"
        return f"Code: {int(self.code)}. DB::Exception: {message}{stamp}\n"
