# SPDX-License-Identifier: Apache-2.0
"""The protocol without sockets, threads, clocks or waiting; ssmd and ssmd.aio are shells around it.

    link      the connection: hello, liveness, coming back, requests, what goes out and what comes in
    writer    a stream that is written here        reader   streams that others write
    kept      frames that are not durable yet      inbox    results that were not taken yet
    generation  a prompt out, drawn tokens in
    samples   from what the caller has to bytes    query    questions with one answer
    signal    how an operation says what it waits for

What a caller wants is an **operation**: a generator that yields the `Signal` it waits for and returns what was asked
for. A shell drives it: it runs it on after the signal fired, in a thread or in an event loop. So nothing that the
protocol needs is written twice. `ssmd_pb2` is written by protoc while the package is built.

Messages come in through `Core.receive` and leave through `Core.next_message`; time comes in as an argument, in
seconds of one monotonic clock. Nothing here is called by two threads at once: a shell sees to it.
"""
