/* SPDX-License-Identifier: Apache-2.0
 *
 * Versions of models. A directory's name stands for a line of immutable versions: what was read from it, told apart by
 * fingerprint and counted from 1. Whatever is read and differs from the newest is the next version; only a reload reads
 * what is in memory again. New streams get the newest; those that are there keep theirs until they are closed, reset or
 * moved, and a version without streams is unloaded.
 *
 * A version may be in memory at several rates: at the one of its configuration, and discretised anew for streams of
 * others (libssm decides whether it can be). Each is a struct model, shared by all streams of that rate.
 *
 * Bounds: model_versions of one name in memory, LINEAGES_MAX names remembered (the one longest without a model is
 * forgotten, and would be counted from 1 again).
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_VERSIONS_H
#define DAEMON_VERSIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/loader.h"
#include "proto/codec.h"
#include "ssm/ssm.h"

#define LINEAGES_MAX 256

struct conn;
struct loop;
struct model;
struct stream;

/* What is known of a name. */
struct lineage {
    TAILQ_ENTRY(lineage) link;
    char name[LOADER_NAME_MAX];
    uint32_t newest;                             /* its number; 0 before the first was loaded */
    unsigned char source[SSM_FINGERPRINT_BYTES]; /* of the newest */
    uint32_t models;                             /* of this name in the list of models */
};

/* A reload under way. */
struct reload {
    TAILQ_ENTRY(reload) link;
    struct conn *conn; /* that asked; NULL: SIGHUP, or it went away */
    uint64_t request_id;
    uint32_t left; /* directories that are being read */
    uint32_t unchanged, added, failed;
    char failure[sizeof(((struct ssm_error *)0)->text)]; /* of the last one */
};

struct versions {
    TAILQ_HEAD(lineages, lineage) lineages; /* in the order of their last first model */
    uint32_t n;
    TAILQ_HEAD(, reload) reloads;
};

void versions_init(struct versions *versions);
void versions_fini(struct versions *versions);

/* The line of that name, with one more model; NULL without memory. */
struct lineage *lineage_acquire(struct versions *versions, const char *name);

/* Whether what was read is the newest version there is. */
bool version_is_known(const struct model *model);
/* Whether new streams would get this version; templates have one only. */
bool version_is_newest(const struct model *model);
/* A directory was read: false, and why in *err, when it would be one version too many. */
bool version_has_room(struct loop *loop, struct model *model, struct ssm_error *err);
/* It is compiled: it gets its number, and may be the newest from here on. */
void version_admit(struct loop *loop, struct model *model);
/* Superseded versions without streams go. */
void versions_sweep(struct loop *loop);

/* The model that the stream gets when it begins again: the newest version at its rate. NULL: that is being loaded, and
 * the stream is settled again when it is there. The stream's own, and why in *text (static, or good until the next call),
 * when it has the newest (OK) or cannot have it. */
struct model *versions_target(struct loop *loop, struct stream *stream, Ssmd__Code *code, const char **text);

/* The request `reload`, of one name or of all (NULL); conn NULL: nobody waits for an answer. */
void versions_reload(struct loop *loop, struct conn *conn, uint64_t request_id, const char *name);
/* What became of one directory: exactly once for each. */
enum reload_outcome { RELOAD_UNCHANGED, RELOAD_ADDED, RELOAD_FAILED };
void versions_reloaded(struct loop *loop, struct model *model, enum reload_outcome outcome, const char *failure);
/* Nobody waits for the answers of a connection that goes away. */
void versions_conn_drop(struct versions *versions, const struct conn *conn);

#endif
