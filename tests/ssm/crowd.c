/* SPDX-License-Identifier: Apache-2.0
 * Streams in shared batches; see crowd.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/ssm/crowd.h"
#include "tests/ssm/making.h"

/* Where a stream is. */
struct place {
    const struct crowd_stream *stream;
    struct ssm_slot slot;
    uint32_t number, at;
    uint64_t made;
    float *out;
};

static const void *input_at(const struct running *r, const struct crowd_stream *s, uint32_t at)
{
    return (const char *)s->in + (size_t)at * ssm_model_info(r->model)->in_channels * 4; /* tokens and floats */
}

void crowd_alone(struct running *r, struct crowd_stream *s)
{
    uint64_t most = ssm_out_frames_max(r->model, s->frames);
    struct ssm_row row = {.slot = running_acquire(r), .view = s->view, .frames = s->frames, .in = s->in};

    row.out = s->out = calloc(most * ssm_model_info(r->model)->out_channels + 1, sizeof(*s->out));
    assert_non_null(s->out);
    assert_int_equal(ssm_advance(r->program, &row, 1), SSM_OK);
    s->made = row.out_frames;
    ssm_slot_release(r->program, row.slot);
}

void crowd_free(struct crowd_stream *streams, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        free(streams[i].out);
        streams[i].out = NULL;
    }
}

/* The next frames of a stream that has some left. */
static struct ssm_row row_make(const struct running *r, const struct place *p, uint32_t most, uint32_t *seed)
{
    const struct crowd_stream *s = p->stream;
    uint32_t pace = p->number % 3 == 0 ? 1 : p->number % 3 == 1 ? 9 : most, grid = ssm_program_grid(r->program);
    uint32_t frames = 1 + making_number(seed, pace < most ? pace : most), left = s->frames - p->at;

    if (s->view != SSM_STEP)
        frames = (frames + grid - 1) / grid * grid;
    return (struct ssm_row){.slot = p->slot,
                            .view = s->view,
                            .frames = frames < left ? frames : left,
                            .in = input_at(r, s, p->at),
                            .out = p->out + p->made * ssm_model_info(r->model)->out_channels};
}

/* One batch of some of the streams, in random order. Returns how many of them are at their end. */
static uint32_t batch_run(struct running *r, struct place *places, uint32_t n, uint32_t most, uint32_t *seed,
                          struct ssm_row *rows)
{
    uint32_t count = 0, ended = 0;

    for (uint32_t i = 0; i < n; i++) { /* shuffled anew; rows follow places */
        uint32_t with = i + making_number(seed, n - i);
        struct place p = places[i];

        places[i] = places[with];
        places[with] = p;
        p = places[i];
        if (p.at == p.stream->frames || making_number(seed, 4) == 0)
            rows[count] = (struct ssm_row){.slot = {.index = -1}, .frames = making_number(seed, 2)};
        else
            rows[count] = row_make(r, &p, most, seed);
        count++;
    }
    assert_int_equal(ssm_advance(r->program, rows, count), SSM_OK);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(rows[i].status, SSM_OK);
        if (rows[i].slot.index >= 0) {
            places[i].at += rows[i].frames;
            places[i].made += rows[i].out_frames;
        }
        ended += places[i].at == places[i].stream->frames;
    }
    return ended;
}

void crowd_check(struct running *r, const struct crowd_stream *streams, uint32_t n, uint32_t most, uint32_t *seed,
                 const char *what)
{
    size_t channels = ssm_model_info(r->model)->out_channels;
    struct place *places = calloc(n, sizeof(*places));
    struct ssm_row *rows = calloc(n, sizeof(*rows));

    assert_true(places && rows);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t room = ssm_out_frames_max(r->model, streams[i].frames);

        places[i] = (struct place){.stream = &streams[i], .number = i, .slot = running_acquire(r)};
        places[i].out = calloc(room * channels + 1, sizeof(*places[i].out));
        assert_non_null(places[i].out);
    }
    while (batch_run(r, places, n, most, seed, rows) < n)
        ;
    for (uint32_t i = 0; i < n; i++) {
        const struct crowd_stream *s = places[i].stream;

        if (places[i].made != s->made || memcmp(places[i].out, s->out, s->made * channels * sizeof(*s->out)) != 0)
            fail_msg("%s: stream %u of %u, %u frames in view %d, rows of up to %u: other bits than alone", what,
                     places[i].number, n, s->frames, (int)s->view, most);
        ssm_slot_release(r->program, places[i].slot);
        free(places[i].out);
    }
    free(rows);
    free(places);
}
