/* SPDX-License-Identifier: Apache-2.0
 *
 * The state directory: images of the open streams from one daemon process to the next. At SIGTERM, when everything
 * accepted was applied (or drain_ms have passed), every stream is written; the next start takes them up before it
 * answers anybody, in the same epoch, with the same writer and the results that were not received. A file is removed as
 * soon as its stream is there, since from then on it would be old.
 *
 * A file is an image (daemon/image.h), named by its stream's id in hexadecimal and `.ssmd`. All are written under other
 * names, then flushed to the disk together, then renamed: there is a whole file or none. What cannot be taken up (it is
 * damaged, its model is another one or gone, half written) is set aside as FILE.refused, with the reason in the log, and
 * stops nobody.
 *
 * Threads: the loop thread, before it serves and after.
 */
#ifndef DAEMON_STORE_H
#define DAEMON_STORE_H

#include "daemon/loop.h"

#define STORE_SUFFIX     ".ssmd"
#define STORE_HALF       ".half"    /* being written */
#define STORE_REFUSED    ".refused" /* set aside */
#define STORE_NAME_BYTES (2 * PROTO_ID_MAX + 16)

/* Sees that the directory is there, and ours alone. 0, or an exit code after saying why not. */
int store_open(struct loop *loop);
/* Takes up what is there; returns when every stream is there or was refused. */
void store_load(struct loop *loop);
/* Writes every stream that is not failed. No thread touches a state any more. */
void store_save(struct loop *loop);

/* ---- files of images (also for daemon/evict.c) ------------------------------------------------------------------- */

bool store_has_suffix(const char *name, const char *suffix);
void store_name(const uint8_t *id, size_t id_size, const char *suffix, char name[STORE_NAME_BYTES]);
/* A file, and room for its bytes, to be read with store_image_read; NULL and *reason when that cannot be. */
struct image *store_image_open(struct loop *loop, int directory, const char *file, int *fd, const char **reason);
/* The whole of it, on any thread; closes fd. NULL, or why not. */
const char *store_image_read(struct image *image, int fd);
/* A new file, on the disk when `flushes`, on any thread. NULL, or why not; then there is none. */
const char *store_file_write(int directory, const char *name, const unsigned char *bytes, size_t size, bool flushes);

#endif
