# SPDX-License-Identifier: Apache-2.0
"""States as values: snapshot, restore, fork.

An image travels in pieces, each asked for or sent when the one before is there. It belongs to the link, so when that
breaks in the middle the daemon no longer has it (NO_IMAGE), and all begins again: a snapshot is then of a later index,
which is as good.
"""

from __future__ import annotations

from ..errors import Code, ProtocolError, Refused
from ..values import Image, StreamInfo, stream_info
from . import ssmd_pb2 as pb
from .link import HEADER_BYTES, Core
from .signal import Operation

PIECE_BYTES = 256 << 10


def snapshot(core: Core, id: bytes) -> Operation[Image]:
    """The image of any stream, in its turn."""
    core.check_images()
    while True:
        try:
            return (yield from _fetch(core, id))
        except Refused as refused:
            if refused.code != Code.NO_IMAGE:
                raise


def _fetch(core: Core, id: bytes) -> Operation[Image]:
    made = yield from core.ask(pb.FromClient(snapshot=pb.Snapshot(id=id)), "image", lambda reply: reply.image)
    data = bytearray()
    while len(data) < made.bytes:
        fetch = pb.Fetch(image=made.image, offset=len(data), bytes=PIECE_BYTES)
        piece = yield from core.ask(pb.FromClient(fetch=fetch), "piece", lambda reply: reply.piece)
        if piece.offset != len(data) or not 0 < len(piece.data) <= made.bytes - len(data):
            raise ProtocolError("the daemon sent another piece of an image than was asked for")
        data += piece.data
    return Image(bytes(data), made.epoch, made.index)


def restore(core: Core, data: bytes, id: bytes | None) -> Operation[StreamInfo]:
    """A new stream of an image."""
    core.check_images()
    if not data:
        raise ValueError("an image has at least one byte")
    while True:
        try:
            image = yield from _put(core, data)
            message = pb.Restore(image=image)
            if id is not None:
                message.id = id
            return (yield from core.ask(pb.FromClient(restore=message), "stream", lambda r: stream_info(r.stream)))
        except Refused as refused:
            if refused.code != Code.NO_IMAGE:
                raise


def _put(core: Core, data: bytes) -> Operation[int]:
    at, image = 0, None
    while at < len(data):
        size = min(PIECE_BYTES, core.daemon.message_bytes - HEADER_BYTES)
        put = pb.Put(bytes=len(data), offset=at, data=data[at : at + size])
        if image is not None:
            put.image = image
        taken = yield from core.ask(pb.FromClient(put=put), "image", lambda reply: reply.image)
        if not at < taken.offset <= len(data):
            raise ProtocolError("the daemon took another piece of an image than was sent")
        at, image = taken.offset, taken.image
    assert image is not None
    return image


def fork(core: Core, id: bytes, new_id: bytes) -> Operation[StreamInfo]:
    """A new stream of the state of another."""
    core.check_images()
    message = pb.FromClient(fork=pb.Fork(id=id, new_id=new_id))
    return (yield from core.ask(message, "stream", lambda reply: stream_info(reply.stream)))
