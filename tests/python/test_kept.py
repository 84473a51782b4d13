# SPDX-License-Identifier: Apache-2.0
"""The frames kept, against a model that is one list."""

import random

from ssmd._core.kept import Chunk, Kept


def _chunk(first: int, frames: int) -> Chunk:
    data = b"".join(i.to_bytes(4, "little") for i in range(first, first + frames))
    return Chunk(first, frames, 1, first % 2 == 0, first, data)


def kept__pushed_sent_released_rewound_at_random__sends_every_frame_from_where_it_stands() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        kept = Kept()
        kept.restart(rng.choice([0, 1000]))
        sent = released = kept.next
        for _ in range(300):
            action = rng.randrange(4)
            if action == 0:
                kept.push(_chunk(kept.next, rng.randrange(1, 9)))
            elif action == 1 and (chunk := kept.unsent):
                assert chunk.first == sent
                assert chunk.data == _chunk(chunk.first, chunk.frames).data
                kept.mark_sent()
                sent = chunk.end
            elif action == 2:
                released = rng.randint(released, sent)
                kept.release(released)
                assert kept.first <= released or kept.first == kept.next
            elif action == 3:
                index = rng.randint(kept.first - 2, kept.next + 2)
                is_kept = kept.first <= index <= kept.next
                assert kept.rewind(index) == is_kept
                sent = index if is_kept else sent
                released = min(released, sent)


def kept__rewound_into_a_chunk__cuts_it_and_keeps_its_marks() -> None:
    kept = Kept()
    kept.push(_chunk(0, 8))
    kept.mark_sent()
    assert kept.rewind(3)
    assert kept.unsent
    assert (kept.unsent.first, kept.unsent.frames, kept.unsent.time, kept.unsent.backfill) == (3, 5, 0, True)
    assert kept.first == 0


def kept__marked_as_backfill__is_what_was_not_sent() -> None:
    kept = Kept()
    for _ in range(3):
        kept.push(Chunk(kept.next, 4, 1, False, None, bytes(16)))
    kept.mark_sent()
    kept.mark_sent()
    assert kept.rewind(4)
    kept.mark_backfill()
    kept.push(Chunk(kept.next, 4, 1, False, None, bytes(16)))
    marks = []
    while chunk := kept.unsent:
        marks.append(chunk.backfill)
        kept.mark_sent()
    assert marks == [True, True, False]
