/* SPDX-License-Identifier: Apache-2.0
 *
 * Material for the tests of rates and versions: a directory of models that change while a daemon has them, and what the
 * library makes of each.
 */
#ifndef TESTS_SYS_VERSIONS_H
#define TESTS_SYS_VERSIONS_H

#include "tests/ssm/model_dir.h"
#include "tests/sys/daemon.h"
#include "tests/sys/wire.h"

#define VERSIONS_RATE 100.0 /* of every model here */

struct versions_site {
    struct model_dir dir;
    struct sys_daemon *daemon;
    struct wire *wire; /* of writer "one", with the features rates, versions and images */
};

/* A daemon that offers the model `wave`, with a gain of 1, and these lines of configuration. */
void versions_open(struct versions_site *site, const char *lines);
void versions_close(struct versions_site *site);
/* One more connection of that kind. */
struct wire *versions_wire(const struct versions_site *site, const char *writer);

/* Writes a directory: s4d of a slow and a fast mode (above half of half the rate), times `gain`, into `channels` equal
 * outputs; `heavy`: the same through a matrix of 512 KiB; `fixed`: through a conv1d. */
void versions_write_wave(const struct versions_site *site, const char *name, double gain, unsigned channels);
void versions_write_heavy(const struct versions_site *site, const char *name, double gain);
void versions_write_fixed(const struct versions_site *site, const char *name);
/* One that does not load. */
void versions_write_broken(const struct versions_site *site, const char *name);

/* Pushes `frames` frames of the signal that everybody here sends, from the stream's next on. */
void versions_push(struct wire *w, struct wire_stream *s, uint32_t frames);
/* Frames of `s`, from the `from`th that arrived, are the library's bits of a `wave` with the gain at the rate, from its
 * frame `first` on. */
void versions_check(const struct wire_stream *s, uint64_t from, uint64_t first, uint32_t frames, double gain,
                    double rate);

#endif
