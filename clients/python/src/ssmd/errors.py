# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, as exceptions. Every one is an `Error`; `code` is the daemon's, where it said one."""

from enum import IntEnum


class Code(IntEnum):
    """Why the daemon refused (proto/PROTOCOL.md, Errors)."""

    OK = 0
    MALFORMED = 1
    VERSION = 2
    FEATURE = 3
    NO_HELLO = 4
    NO_MODEL = 5
    RATE = 6
    NO_STREAM = 7
    EXISTS = 8
    OWNED = 9
    BAD_ID = 10
    BAD_HANDLE = 11
    STALE_EPOCH = 12
    GAP = 13
    OVERFLOW = 14
    BAD_SAMPLE = 15
    BAD_FORMAT = 16
    TOO_LARGE = 17
    LIMIT = 18
    TOO_OLD = 19
    TOO_NEW = 20
    DRAINING = 21
    CLOSED = 22
    BUSY = 23
    INTERNAL = 24
    BAD_IMAGE = 40
    NO_IMAGE = 41
    BAD_OPTION = 60


class Error(Exception):
    """Base of all; `str()` is a sentence, the daemon's own where it refused."""

    def __init__(self, text: str, code: Code | None = None) -> None:
        super().__init__(text)
        self.code = code


class Refused(Error):
    """The daemon refused a request or a stream's samples; `code` says why."""

    code: Code


class Unreachable(Error, ConnectionError):
    """No daemon answers at the endpoint."""


class Timeout(Error, TimeoutError):
    """It takes longer than it was given. Nothing is undone: the same call may go on waiting."""


class ProtocolError(Error):
    """The daemon said something that this client does not understand."""


class Lost(Error):
    """The daemon no longer has the stream's state, as after a crash, or a stop without a state directory.

    `index` is the frame to send again from: open the stream anew and push from there.
    """

    def __init__(self, text: str, index: int, code: Code | None = None) -> None:
        super().__init__(text, code)
        self.index = index


class TakenOver(Error):
    """Another writer has the stream now."""


class ResultsWaiting(Error):
    """The stream goes no further before its results are taken, and only the caller could take them.

    Iterate the stream, in another thread or task, or use `pipe`. What was pushed so far is `stream.next`.
    """


class Closed(Error):
    """The stream, the reader or the client was closed here."""
