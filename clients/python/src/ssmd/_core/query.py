# SPDX-License-Identifier: Apache-2.0
"""Questions with one answer; `list` asks once for each thousand streams."""

from ..errors import ProtocolError
from ..values import Counter, DaemonInfo, Reload, StreamInfo, daemon_info, id_bytes, stream_info
from . import ssmd_pb2 as pb
from .link import Core
from .signal import Operation


def info(core: Core, id: bytes) -> Operation[StreamInfo]:
    """One stream."""
    return core.ask(pb.FromClient(info=pb.Info(id=id)), "stream", lambda reply: stream_info(reply.stream))


def list_streams(core: Core, prefix: bytes) -> Operation[list[StreamInfo]]:
    """All whose ids begin so, in byte order."""
    streams: list[StreamInfo] = []
    while True:
        ask = pb.List(prefix=prefix) if prefix else pb.List()
        if streams:
            ask.after = id_bytes(streams[-1].id)
        answer = yield from core.ask(pb.FromClient(list=ask), "list", lambda reply: reply.list)
        page = [stream_info(m) for m in answer.streams]
        if page and streams and id_bytes(page[-1].id) <= id_bytes(streams[-1].id):
            raise ProtocolError("the daemon's list does not come to an end")
        streams += page
        if not answer.more or not page:
            return streams


def daemon(core: Core) -> Operation[DaemonInfo]:
    """The daemon and its models, which it tells in hello; saying that again changes nothing."""
    return core.ask(pb.FromClient(hello=core.hello()), "hello", lambda reply: daemon_info(reply.hello))


def stats(core: Core) -> Operation[list[Counter]]:
    """The daemon's counters."""
    return core.ask(
        pb.FromClient(stats=pb.Stats()),
        "stats",
        lambda reply: [Counter(c.name, c.value, c.help) for c in reply.stats.counters],
    )


def reload(core: Core, model: str | None) -> Operation[Reload]:
    """Directories of models, read again."""
    core.check_versions()
    message = pb.Reload() if model is None else pb.Reload(model=model)
    return core.ask(
        pb.FromClient(reload=message),
        "reload",
        lambda reply: Reload(reply.reload.unchanged, reply.reload.added, reply.reload.failed, reply.reload.failure),
    )


def ping(core: Core) -> Operation[None]:
    """There and back."""
    return core.ask(pb.FromClient(ping=pb.Ping()), "pong", lambda reply: None)
