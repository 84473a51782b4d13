/* SPDX-License-Identifier: Apache-2.0
 *
 * What the operator says of single models and of classes of streams, in two kinds of rules:
 *
 *     class = alarms deadline=20
 *     serve = denoise priority=30 queue=64M class=alarms
 *
 * A class says when results of live chunks are due, so many milliseconds after the chunk came; without one they are due
 * one chunk's duration after it (stream_due). A stream is of the class that its open names, or of its model's. Classes
 * stay what they are while the daemon runs, so that streams and models point at theirs.
 *
 * Threads: reentrant; a conf is read.
 */
#ifndef DAEMON_POLICY_H
#define DAEMON_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/conf.h"

#define POLICY_NAME_MAX     32 /* of a class, its NUL included */
#define POLICY_PRIORITY_MAX 1000

struct policy_class {
    char name[POLICY_NAME_MAX];
    uint64_t deadline_ns;
};

struct policy_serve {
    char model[CONF_TEXT_SIZE]; /* of a directory, or of a template without its parameters */
    uint32_t priority;
    uint64_t queue_bytes; /* UINT64_MAX: no limit but the others */
    char class[POLICY_NAME_MAX];
};

/* One rule: 0, or -1 and what is wrong with it. */
int policy_class_read(const char *rule, struct policy_class *out, char *why, size_t why_size);
int policy_serve_read(const char *rule, struct policy_serve *out, char *why, size_t why_size);
/* All rules of a configuration, those of `serve` against its classes: the same. */
int policy_check(const struct conf *conf, char *why, size_t why_size);

/* The classes of a checked configuration. */
struct policy_classes {
    uint32_t n;
    struct policy_class class[CONF_RULES_MAX];
};
void policy_classes_init(struct policy_classes *classes, const struct conf *conf);
/* The class of that name, or NULL. */
const struct policy_class *policy_class_find(const struct policy_classes *classes, const char *name);
/* What is said of the model, or what counts when nothing is. */
void policy_serve_get(const struct conf *conf, const char *model, struct policy_serve *out);

#endif
