/* SPDX-License-Identifier: Apache-2.0
 *
 * The image of a stream as bytes: who it is, results that its writer has not received, and its state (libssm's image).
 * proto/PROTOCOL.md has the layout; it is what clients carry away and what lies in the state directory.
 *
 *      0  8  magic "ssmdimag"
 *      8  4  version, 1
 *     12  4  bytes of the description
 *     16  8  bytes of the whole image
 *     24     the description, a StreamImage; then the results, float32 (frames, out_channels); then the state
 *     -8  8  XXH3-64 of all before
 *
 * Images come from strangers: image_open judges the form before anything is used, image_check the rest.
 *
 * Threads: image_describe reads a stream, on the loop thread; what fills, checks and takes results works on memory that
 * nobody else touches, on any.
 */
#ifndef DAEMON_IMAGE_H
#define DAEMON_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/ring.h"
#include "daemon/stream.h"

#define IMAGE_VERSION   1u
#define IMAGE_BYTES_MAX ((uint64_t)1 << 31)

/* An image being made or read: where its sections lie. */
struct image_sections {
    size_t results_at, state_at, size;
};

/* Allocates the image of the stream as it is, with its head and description; *size is 0 when it would be too large.
 * False without memory. Results from `keep` on are in it. */
bool image_describe(const struct stream *stream, uint64_t keep, unsigned char **bytes, struct image_sections *sections);
/* Results from the ring and the state of the slot into it, and the checksum. A status of libssm. */
int image_fill(unsigned char *bytes, const struct image_sections *sections, const struct ring *ring, uint64_t keep,
               const struct ssm_program *program, struct ssm_slot slot);

/* The form of an image, and its description in the arena; the error's text says what is wrong with it. The results are
 * as long as the description says, and the state is not empty. */
int image_open(const unsigned char *bytes, size_t size, struct proto_arena *arena, Ssmd__StreamImage **out,
               struct image_sections *sections, struct ssm_error *err);
/* The checksum. */
int image_check(const unsigned char *bytes, size_t size, struct ssm_error *err);
/* The results of a good image into a ring that has none; SSM_NOMEM. */
int image_take_results(const unsigned char *bytes, const struct image_sections *sections,
                       const Ssmd__StreamImage *image, struct ring *ring, struct ring_budget *budget);

#endif
