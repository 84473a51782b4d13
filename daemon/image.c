/* SPDX-License-Identifier: Apache-2.0
 * The bytes of an image; see image.h. */
#include "daemon/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <stdio.h>
#include <xxhash.h>

#include "daemon/history.h"
#include "daemon/models.h"
#include "daemon/policy.h"
#include "daemon/publish.h"

static const char MAGIC[8] = "ssmdimag";

struct head {
    char magic[8];
    uint32_t version;
    uint32_t description;
    uint64_t bytes;
};
_Static_assert(sizeof(struct head) == 24, "the head is the same bytes everywhere");

#define TAIL_BYTES sizeof(uint64_t)
#define PIECES_MAX (RING_MARKS_MAX + 2u)

static int refuse(struct ssm_error *err, int status, const char *text)
{
    snprintf(err->text, sizeof(err->text), "%s", text);
    return status;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

struct columns {
    uint32_t frames[PIECES_MAX], flags[PIECES_MAX];
    int64_t time[PIECES_MAX];
    size_t n;
};

/* The results from `keep` on, as stretches of one time. */
static void columns_take(const struct ring *ring, uint64_t keep, struct columns *c)
{
    for (uint64_t at = keep; at < ring->hi && c->n < PIECES_MAX;) {
        struct ring_piece piece;
        uint32_t flags;

        ring_peek(ring, at, UINT32_MAX, &piece);
        flags = piece.has_time ? PROTO_RESULT_TIME : 0;
        at += piece.frames;
        if (c->n > 0 && c->flags[c->n - 1] == flags && c->time[c->n - 1] == piece.time) {
            c->frames[c->n - 1] += piece.frames; /* the ring's end lay between them */
            continue;
        }
        c->frames[c->n] = piece.frames;
        c->flags[c->n] = flags;
        c->time[c->n++] = piece.time;
    }
}

/* Who publishes it, and where that run stands at `applied`. */
static void publisher_describe(const struct stream *stream, Ssmd__StreamImage *image)
{
    const struct publication *p = stream->publication;

    if (!p || !p->source.is_known)
        return;
    image->has_source = image->has_source_next = true;
    image->source = (ProtobufCBinaryData){PROTO_SOURCE_BYTES, (uint8_t *)p->source.run};
    image->source_next = p->source.next - (stream->next - stream->applied);
    image->n_last = p->channels;
    image->last = (float *)p->last;
}

bool image_describe(const struct stream *stream, uint64_t keep, unsigned char **bytes, struct image_sections *sections)
{
    const struct model *model = stream->model;
    Ssmd__StreamImage image = SSMD__STREAM_IMAGE__INIT;
    Ssmd__History history = SSMD__HISTORY__INIT;
    struct columns *columns = calloc(1, sizeof(*columns));
    struct head head = {.version = IMAGE_VERSION};
    uint64_t results = (stream->ring.hi - keep) * stream->ring.channels * sizeof(float);

    *bytes = NULL;
    if (!columns)
        return false;
    columns_take(&stream->ring, keep, columns);
    image.id = (ProtobufCBinaryData){stream->id_size, (uint8_t *)stream->id};
    image.writer = (ProtobufCBinaryData){PROTO_WRITER_BYTES, (uint8_t *)stream->writer};
    image.model = (char *)model->name;
    image.rate = model->info.in_rate;
    image.channels = model->info.in_channels;
    image.out_channels = stream->ring.channels;
    image.has_top_k = stream->top_k > 0;
    image.top_k = stream->top_k;
    image.has_generates = image.generates = stream->generates;
    image.class_ = stream->class ? (char *)stream->class->name : NULL;
    image.epoch = stream->epoch;
    image.next = stream->applied;
    image.result_first = keep;
    image.result_next = stream->ring.hi;
    image.wants_results = stream->wants_results;
    image.closed = stream->is_closed;
    image.n_frames = image.n_flags = image.n_time = columns->n;
    image.frames = columns->frames;
    image.flags = columns->flags;
    image.time = columns->time;
    if (stream->history) {
        history_fill(stream->history, &history);
        history.has_bytes = history.has_oldest = false;
        image.history = &history;
    }
    publisher_describe(stream, &image);
    head.description = (uint32_t)proto_size(&image.base);
    memcpy(head.magic, MAGIC, sizeof(head.magic));
    sections->results_at = sizeof(head) + head.description;
    sections->state_at = sections->results_at + results;
    sections->size = sections->state_at + ssm_image_bytes(model->model) + TAIL_BYTES;
    head.bytes = sections->size;
    if (sections->size <= IMAGE_BYTES_MAX)
        *bytes = malloc(sections->size);
    if (*bytes) {
        memcpy(*bytes, &head, sizeof(head));
        proto_encode(&image.base, *bytes + sizeof(head));
    }
    free(columns);
    return *bytes != NULL;
}

int image_fill(unsigned char *bytes, const struct image_sections *sections, const struct ring *ring, uint64_t keep,
               const struct ssm_program *program, struct ssm_slot slot)
{
    unsigned char *to = bytes + sections->results_at;
    uint64_t checksum;
    int status;

    for (uint64_t at = keep; at < ring->hi;) {
        struct ring_piece piece;
        size_t n;

        ring_peek(ring, at, UINT32_MAX, &piece);
        n = (size_t)piece.frames * ring->channels * sizeof(float);
        memcpy(to, piece.samples, n);
        to += n;
        at += piece.frames;
    }
    if ((status = ssm_slot_export(program, slot, bytes + sections->state_at)))
        return status;
    checksum = XXH3_64bits(bytes, sections->size - TAIL_BYTES);
    memcpy(bytes + sections->size - TAIL_BYTES, &checksum, sizeof(checksum));
    return SSM_OK;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* What the description says about itself. */
static bool description_is_sound(const Ssmd__StreamImage *i)
{
    uint64_t frames = 0;

    for (size_t k = 0; k < i->n_last; k++)
        if (!isfinite(i->last[k]))
            return false;
    if (i->has_source && (i->source.len != PROTO_SOURCE_BYTES || i->source_next > INT64_MAX))
        return false;
    for (size_t k = 0; k < i->n_frames; k++) {
        if (i->frames[k] == 0 || (i->flags[k] & ~PROTO_RESULT_TIME))
            return false;
        frames += i->frames[k];
    }
    return stream_id_is_valid(i->id.data, i->id.len) && i->writer.len == PROTO_WRITER_BYTES &&
           strlen(i->model) < CONF_TEXT_SIZE && isfinite(i->rate) && i->rate >= 0 && i->channels > 0 &&
           i->out_channels > 0 && i->epoch < UINT64_MAX / 2 && i->next <= INT64_MAX && i->result_next <= INT64_MAX &&
           i->result_first <= i->result_next && frames == i->result_next - i->result_first && frames <= UINT32_MAX / 4;
}

int image_open(const unsigned char *bytes, size_t size, struct proto_arena *arena, Ssmd__StreamImage **out,
               struct image_sections *sections, struct ssm_error *err)
{
    struct head head;
    uint64_t results;

    *out = NULL;
    if (size < sizeof(head) + TAIL_BYTES || memcmp(bytes, MAGIC, sizeof(MAGIC)) != 0)
        return refuse(err, SSM_FORMAT, "not the image of a stream: it does not begin as one");
    memcpy(&head, bytes, sizeof(head));
    if (head.version > IMAGE_VERSION)
        return refuse(err, SSM_UNSUPPORTED, "the image is of a later version than this daemon reads");
    if (head.version != IMAGE_VERSION || head.bytes != size || head.description > size - sizeof(head) - TAIL_BYTES)
        return refuse(err, SSM_FORMAT, "the image is cut or damaged: it has not the length that it says");
    if (proto_stream_image_decode(arena, bytes + sizeof(head), head.description, out) != PROTO_OK ||
        !description_is_sound(*out))
        return refuse(err, SSM_FORMAT, "the image is damaged: its description is not one");
    sections->size = size;
    sections->results_at = sizeof(head) + head.description;
    if (__builtin_mul_overflow(((*out)->result_next - (*out)->result_first) * sizeof(float),
                               (uint64_t)(*out)->out_channels, &results) ||
        results > size - TAIL_BYTES - sections->results_at)
        return refuse(err, SSM_FORMAT, "the image is damaged: its results do not fit in it");
    sections->state_at = sections->results_at + results;
    return SSM_OK;
}

int image_check(const unsigned char *bytes, size_t size, struct ssm_error *err)
{
    uint64_t checksum;

    memcpy(&checksum, bytes + size - TAIL_BYTES, sizeof(checksum));
    if (checksum != XXH3_64bits(bytes, size - TAIL_BYTES))
        return refuse(err, SSM_FORMAT, "the image is damaged: its checksum is another");
    return SSM_OK;
}

int image_take_results(const unsigned char *bytes, const struct image_sections *sections,
                       const Ssmd__StreamImage *image, struct ring *ring, struct ring_budget *budget)
{
    uint64_t frames = image->result_next - image->result_first;
    size_t n = 0;
    float *samples;
    uint32_t most = 1;

    ring_init(ring, image->out_channels);
    ring->lo = ring->hi = image->result_first;
    if (frames == 0)
        return SSM_OK;
    while (most < frames)
        most *= 2;
    samples = malloc((size_t)frames * image->out_channels * sizeof(float)); /* aligned, which the image is not */
    if (!samples || ring_reserve(ring, budget, image->result_first, (uint32_t)frames, most, most) != 0) {
        free(samples);
        return SSM_NOMEM;
    }
    memcpy(samples, bytes + sections->results_at, (size_t)frames * image->out_channels * sizeof(float));
    for (size_t i = 0; i < image->n_frames; i++) {
        ring_append(ring, samples + n, image->frames[i], (image->flags[i] & PROTO_RESULT_TIME) != 0, image->time[i]);
        n += (size_t)image->frames[i] * image->out_channels;
    }
    free(samples);
    return SSM_OK;
}
