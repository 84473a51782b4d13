/* SPDX-License-Identifier: Apache-2.0
 *
 * A model of the daemon's streams: what must be known of each id, which answer each request must get, and which refusals
 * each chunk. It is written from proto/PROTOCOL.md, not from the daemon.
 *
 * A round sends a few operations for every id, without waiting: those of one id through one connection, since there is no
 * order between connections. What their order leaves open (a chunk behind a reset may meet it before or after its turn)
 * is expected as a set of codes. Then machine_settle takes every answer, waits until input is applied and results are
 * here, and holds everything against the model; there the next round begins.
 *
 * The model of the streams sums its input, and a sample is a function of id and index: a frame that was applied twice,
 * lost, or taken from a refused chunk shows in every result from there on.
 */
#ifndef TESTS_SYS_MACHINE_H
#define TESTS_SYS_MACHINE_H

#include "tests/sys/wire.h"

enum { MACHINE_IDS = 40, MACHINE_CONNS = 6, MACHINE_WRITERS = 3, MACHINE_CHUNK = 32, MACHINE_PENDING = 512 };

/* What comes of one handle. */
struct machine_view {
    struct wire_stream *s; /* NULL: none */
    uint64_t checked;      /* of s->out */
    uint64_t index;        /* of the next one there */
};

/* What the daemon has for an id. */
struct machine_entry {
    uint32_t number;
    bool exists, is_closed, wants_results, is_granted; /* credit for everything, all the time */
    bool is_exact;                                     /* `received` is what the daemon says, and not less */
    uint32_t maybe;   /* frames of one more chunk that may have arrived before its connection broke */
    int writer, conn; /* conn -1: nobody there has it */
    uint64_t epoch, next, received;
    uint32_t refused;                        /* bits of the codes that were answered since a chunk was accepted */
    struct machine_view view, past;          /* of the handle; of the one before, until the round is over */
    struct wire_stream *dead[MACHINE_CONNS]; /* a handle that died there */
    bool is_unknown[MACHINE_CONNS];          /* ... and that the daemon has forgotten, since its stream is gone */
    bool must_hear[MACHINE_CONNS];           /* ... and of which TAKEN_OVER tells */
};

struct machine_answer {
    struct machine_entry *entry;
    uint32_t codes; /* bits of those that it may have */
    int kind;       /* request_case */
    bool created, same_epoch, is_closed, is_attached, wants_results, is_granted, is_done;
    int writer;
    uint64_t epoch, next; /* when it was asked */
};

struct machine_refusal {
    uint32_t handle, codes;
    uint64_t expected;            /* UINT64_MAX: depends on when */
    struct machine_entry *racing; /* whose request decides which of the codes it is; or NULL */
};

struct machine_conn {
    struct wire *w;
    int number, writer;
    uint64_t base; /* the first request of the round */
    struct machine_answer answers[MACHINE_PENDING];
    size_t answers_n, answered;
    struct machine_refusal refusals[MACHINE_PENDING];
    size_t refusals_n;
};

struct machine_counts {
    uint64_t opened, resumed, taken_over, reset, duplicate, gap, trimmed, bad_sample;
};

struct machine {
    const char *endpoint;
    uint32_t seed;
    uint64_t operations, epochs; /* the highest epoch of the rounds before */
    struct machine_counts counts;
    struct machine_entry entries[MACHINE_IDS];
    struct machine_conn conns[MACHINE_CONNS];
};

void machine_init(struct machine *m, const char *endpoint, uint32_t seed);
/* Operations for every id, or for some. */
void machine_round(struct machine *m);
void machine_settle(struct machine *m);
/* Between rounds: a connection ends, with or without a word, and another one of its writer comes. */
void machine_break(struct machine *m, bool says_bye);
/* Takes over every stream, gets every result that is left, and closes it; compares the daemon's counters. */
void machine_fini(struct machine *m);

#endif
