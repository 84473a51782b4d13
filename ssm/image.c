/* SPDX-License-Identifier: Apache-2.0
 *
 * States to images and back; see image.h. One walk over the graph's parts serves size, export, check and import.
 *
 * An image comes from anywhere. It is judged whole before any state moves: its numbers must be finite, and counters no
 * larger than their part allows, since kernels trust their state. A checksum keeps accidents out, not forgers.
 *
 * The padding that a slot has and an image has not is zero in every state (ssm/layer.h), so an import clears the slot
 * first. */
#include "ssm/image.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "ssm/build.h"
#include "ssm/engine.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie in memory");

#define PANEL      16u
#define FRAMES_MAX ((uint64_t)INT64_MAX)

static const char MAGIC[8] = "ssmstate";

struct head {
    char magic[8];
    uint32_t version;
    uint32_t zero;
    uint64_t bytes;
    unsigned char fingerprint[SSM_FINGERPRINT_BYTES];
    uint64_t frames;
};
_Static_assert(sizeof(struct head) == 48, "the head is the same bytes everywhere");

#define TAIL_BYTES sizeof(uint64_t) /* the checksum */

/* ---- parts ------------------------------------------------------------------------------------------------------- */

static size_t element_bytes(const struct ssm_part *part)
{
    return part->element == SSM_ELEMENT_F32 || part->element == SSM_ELEMENT_U32 ? 4 : 8;
}

static size_t part_count(const struct ssm_part *part)
{
    return (size_t)part->blocks * part->rows * part->columns;
}

/* Bytes from the part's offset to behind its last element. */
static uint64_t part_reach(const struct ssm_part *part)
{
    uint64_t last = (uint64_t)(part->blocks - 1) * part->block_stride + (uint64_t)(part->rows - 1) * part->row_stride +
                    (uint64_t)((part->columns - 1) / PANEL) * part->panel_stride + (part->columns - 1) % PANEL;

    return (last + 1) * element_bytes(part);
}

int ssm_part_add(struct ssm_build *b, struct ssm_layer *l, const struct ssm_part *part)
{
    struct ssm_part *parts, *p;

    if (part->rows == 0 || part->columns == 0)
        return SSM_OK;
    parts = realloc(l->part, (l->parts + 1) * sizeof(*parts));
    if (!parts)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    l->part = parts;
    p = &parts[l->parts++];
    *p = *part;
    p->blocks = p->blocks ? p->blocks : 1;
    p->panel_stride = p->panel_stride ? p->panel_stride : PANEL;
    p->row_stride = p->row_stride ? p->row_stride : p->columns;
    p->block_stride = p->block_stride ? p->block_stride : p->rows * p->row_stride;
    if (p->offset + part_reach(p) > l->state_bytes)
        return ssm_fail(b, l, SSM_INVAL, "part %u of its state lies outside of it", l->parts - 1);
    return SSM_OK;
}

/* One row between slot and image; `packed` is whole, the slot's lies in panels. */
static inline void row_copy(const struct ssm_part *part, unsigned char *slot, unsigned char *packed, bool out)
{
    size_t size = element_bytes(part), stride = part->panel_stride * size;
    size_t run = part->panel_stride == PANEL ? part->columns : PANEL; /* elements that lie together */

    for (size_t c = 0; c < part->columns; c += run, slot += stride, packed += run * size) {
        size_t n = (part->columns - c < run ? part->columns - c : run) * size;

        if (out)
            memcpy(packed, slot, n);
        else
            memcpy(slot, packed, n);
    }
}

static void part_copy(const struct ssm_part *part, unsigned char *state, unsigned char *packed, bool out)
{
    size_t size = element_bytes(part);

    for (size_t b = 0; b < part->blocks; b++)
        for (size_t r = 0; r < part->rows; r++, packed += part->columns * size)
            row_copy(part, state + part->offset + (b * part->block_stride + r * part->row_stride) * size, packed, out);
}

/* Whether no float among n packed ones is NaN or infinite. */
static bool floats_finite(const unsigned char *packed, size_t n)
{
    uint32_t bad = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, packed + i * sizeof(bits), sizeof(bits));
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

static bool doubles_finite(const unsigned char *packed, size_t n)
{
    uint64_t bad = 0, exponent = 0x7ff0000000000000u;

    for (size_t i = 0; i < n; i++) {
        uint64_t bits;

        memcpy(&bits, packed + i * sizeof(bits), sizeof(bits));
        bad |= (bits & exponent) == exponent;
    }
    return !bad;
}

static bool counters_bounded(const struct ssm_part *part, const unsigned char *packed)
{
    size_t size = element_bytes(part), n = part_count(part);

    for (size_t i = 0; i < n; i++) {
        uint64_t value = 0;

        memcpy(&value, packed + i * size, size);
        if (value > part->most)
            return false;
    }
    return true;
}

static int part_check(const struct ssm_part *part, const unsigned char *packed)
{
    switch (part->element) {
    case SSM_ELEMENT_F32:
        return floats_finite(packed, part_count(part)) ? SSM_OK : SSM_NONFINITE;
    case SSM_ELEMENT_F64:
        return doubles_finite(packed, part_count(part)) ? SSM_OK : SSM_NONFINITE;
    default:
        return counters_bounded(part, packed) ? SSM_OK : SSM_FORMAT;
    }
}

/* ---- the walk ---------------------------------------------------------------------------------------------------- */

/* What is done with each part, and where the walk is. */
struct walk {
    unsigned char *states;      /* of the slot; NULL where there is none */
    unsigned char *packed;      /* the next part's place in the image */
    size_t bytes;               /* of the parts so far */
    bool copy, out, check;      /* copy: to the image (out) or from it; check: what the image then has */
    const struct ssm_layer *at; /* where a check failed */
};

static int part_visit(struct walk *w, const struct ssm_layer *layer, const struct ssm_part *part)
{
    size_t bytes = part_count(part) * element_bytes(part);
    int status = SSM_OK;

    if (w->copy)
        part_copy(part, w->states + layer->state_offset, w->packed + w->bytes, w->out);
    if (w->check && (status = part_check(part, w->packed + w->bytes)))
        w->at = layer;
    w->bytes += bytes;
    return status;
}

static int graph_walk(struct walk *w, const struct ssm_sequence *graph)
{
    int status = SSM_OK;

    for (uint32_t i = 0; status == SSM_OK && i < graph->count; i++) {
        const struct ssm_layer *layer = &graph->layers[i];

        for (uint32_t k = 0; status == SSM_OK && k < layer->branches; k++)
            status = graph_walk(w, &layer->branch[k]);
        for (uint32_t k = 0; status == SSM_OK && k < layer->parts; k++)
            status = part_visit(w, layer, &layer->part[k]);
    }
    return status;
}

size_t ssm_image_size(const struct ssm_sequence *graph)
{
    struct walk w = {0};

    (void)graph_walk(&w, graph);
    return sizeof(struct head) + w.bytes + TAIL_BYTES;
}

/* ---- the interface ----------------------------------------------------------------------------------------------- */

size_t ssm_image_bytes(const struct ssm_model *model)
{
    return model->image_bytes;
}

/* The states of a slot in this process's memory: the slot's own, or a copy of what lies on a device. NULL: no memory. */
static unsigned char *states_reach(const struct ssm_program *program, struct ssm_slot_head *head)
{
    return program->device ? calloc(1, program->model->info.state_bytes + 1) : ssm_slot_states(head);
}

static void states_leave(const struct ssm_program *program, unsigned char *states)
{
    if (program->device)
        free(states);
}

int ssm_slot_export(const struct ssm_program *program, struct ssm_slot slot, void *image)
{
    const struct ssm_model *model = program->model;
    struct ssm_slot_head *state = ssm_pool_find(&program->pool, slot);
    struct walk w = {.packed = (unsigned char *)image + sizeof(struct head), .copy = true, .out = true, .check = true};
    struct head head = {.version = SSM_IMAGE_VERSION, .bytes = model->image_bytes};
    uint64_t checksum;
    int status = SSM_OK;

    if (!state)
        return SSM_STALE;
    memcpy(head.magic, MAGIC, sizeof(head.magic));
    memcpy(head.fingerprint, model->info.fingerprint, sizeof(head.fingerprint));
    head.frames = state->frames;
    memcpy(image, &head, sizeof(head));
    w.states = states_reach(program, state);
    if (!w.states)
        return SSM_NOMEM;
    if (program->device && state->frames > 0) /* a fresh one is zero */
        status = program->engine->backend->store(program->device, slot.index, w.states);
    if (status == SSM_OK)
        status = graph_walk(&w, &model->graph);
    states_leave(program, w.states);
    if (status)
        return status;
    checksum = XXH3_64bits(image, model->image_bytes - TAIL_BYTES);
    memcpy((unsigned char *)image + model->image_bytes - TAIL_BYTES, &checksum, sizeof(checksum));
    return SSM_OK;
}

static const char *fingerprint_text(const unsigned char *fingerprint, char text[2 * SSM_FINGERPRINT_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < SSM_FINGERPRINT_BYTES; i++) {
        text[2 * i] = digits[fingerprint[i] >> 4];
        text[2 * i + 1] = digits[fingerprint[i] & 15];
    }
    text[2 * SSM_FINGERPRINT_BYTES] = '\0';
    return text;
}

/* Who made it and for what, before any of its contents. */
static int head_check(const struct ssm_model *model, const struct head *head, size_t size, struct ssm_error *err)
{
    char theirs[2 * SSM_FINGERPRINT_BYTES + 1], ours[2 * SSM_FINGERPRINT_BYTES + 1];

    if (head->version > SSM_IMAGE_VERSION)
        return ssm_error_set(err, SSM_UNSUPPORTED, "the image has version %u; this version reads %u", head->version,
                             SSM_IMAGE_VERSION);
    if (head->version != SSM_IMAGE_VERSION || head->zero != 0)
        return ssm_error_set(err, SSM_FORMAT, "the image has version %u, which there never was: it is damaged",
                             head->version);
    if (memcmp(head->fingerprint, model->info.fingerprint, sizeof(head->fingerprint)) != 0)
        return ssm_error_set(err, SSM_FOREIGN,
                             "the image is of another model: its fingerprint is %s, that of '%s' is %s (configuration, "
                             "rate and weights must be the same)",
                             fingerprint_text(head->fingerprint, theirs), model->info.name,
                             fingerprint_text(model->info.fingerprint, ours));
    if (size != head->bytes || size != model->image_bytes)
        return ssm_error_set(err, SSM_FORMAT, "the image has %zu bytes, and %zu are one of '%s': it is cut or damaged",
                             size, model->image_bytes, model->info.name);
    if (head->frames > FRAMES_MAX)
        return ssm_error_set(err, SSM_FORMAT, "the image has seen %llu frames: it is damaged",
                             (unsigned long long)head->frames);
    return SSM_OK;
}

/* Fills *head. */
static int image_check(const struct ssm_model *model, const void *image, size_t size, struct head *head,
                       struct ssm_error *err)
{
    struct walk w = {.packed = (unsigned char *)image + sizeof(*head), .check = true};
    uint64_t checksum;
    int status;

    if (size < sizeof(*head) || memcmp(image, MAGIC, sizeof(MAGIC)) != 0)
        return ssm_error_set(err, SSM_FORMAT, "not an image of a state: it does not begin as one");
    memcpy(head, image, sizeof(*head));
    if ((status = head_check(model, head, size, err)))
        return status;
    memcpy(&checksum, (const unsigned char *)image + size - TAIL_BYTES, sizeof(checksum));
    if (checksum != XXH3_64bits(image, size - TAIL_BYTES))
        return ssm_error_set(err, SSM_FORMAT, "the image is damaged: its checksum is another");
    if ((status = graph_walk(&w, &model->graph)))
        return ssm_error_set(err, status, "%s: the image has %s", w.at->where,
                             status == SSM_NONFINITE ? "a number that is not finite" : "a counter out of its range");
    return SSM_OK;
}

int ssm_image_check(const struct ssm_model *model, const void *image, size_t size, struct ssm_error *err)
{
    struct head head;

    return image_check(model, image, size, &head, err);
}

int ssm_slot_import(struct ssm_program *program, struct ssm_slot slot, const void *image, size_t size,
                    struct ssm_error *err)
{
    struct ssm_slot_head *state = ssm_pool_find(&program->pool, slot);
    struct walk w = {.packed = (unsigned char *)image + sizeof(struct head), .copy = true};
    struct head head;
    int status;

    if (!state)
        return ssm_error_set(err, SSM_STALE, "%s", ssm_status_text(SSM_STALE));
    if ((status = image_check(program->model, image, size, &head, err)))
        return status;
    w.states = states_reach(program, state);
    if (!w.states)
        return ssm_error_set(err, SSM_NOMEM, "%s", ssm_status_text(SSM_NOMEM));
    if (!program->device)
        ssm_pool_clear(&program->pool, state);
    status = graph_walk(&w, &program->model->graph);
    if (program->device && head.frames > 0)
        status = program->engine->backend->load(program->device, slot.index, w.states);
    states_leave(program, w.states);
    if (status)
        return ssm_error_set(err, status, "%s", ssm_status_text(status));
    state->frames = head.frames;
    return SSM_OK;
}

int ssm_slot_copy(struct ssm_program *program, struct ssm_slot from, struct ssm_slot to)
{
    struct ssm_slot_head *source = ssm_pool_find(&program->pool, from), *target = ssm_pool_find(&program->pool, to);

    if (!source || !target)
        return SSM_STALE;
    if (source == target)
        return SSM_OK;
    if (program->device && source->frames > 0) {
        int status = program->engine->backend->copy(program->device, from.index, to.index);

        if (status)
            return status;
    }
    target->frames = source->frames;
    memcpy(ssm_slot_states(target), ssm_slot_states(source), program->pool.slot_bytes - 64);
    return SSM_OK;
}

int ssm_image_is_of(const struct ssm_model *model, const void *image, size_t size)
{
    struct head head;

    if (size < sizeof(head))
        return 0;
    memcpy(&head, image, sizeof(head));
    return memcmp(head.magic, MAGIC, sizeof(MAGIC)) == 0 &&
           memcmp(head.fingerprint, model->info.fingerprint, sizeof(head.fingerprint)) == 0;
}
