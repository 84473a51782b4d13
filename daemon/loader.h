/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread that loads models (reading files, discretising) and looks through the model directory, so that the loop
 * never waits for a disk. Threads: submit and take from the loop thread.
 */
#ifndef DAEMON_LOADER_H
#define DAEMON_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/conf.h"
#include "daemon/worker.h"
#include "ssm/ssm.h"

#define LOADER_NAME_MAX 128  /* of a model directory, its NUL included */
#define LOADER_NAMES    1024 /* of the model directory that are listed */

enum load_kind { LOAD_MODEL, LOAD_NAMES };

struct load {
    struct work work;
    enum load_kind kind;
    char spec[2 * CONF_TEXT_SIZE]; /* MODEL: a template spec or a path; NAMES: the directory */
    struct ssm_model_hint hint;    /* MODEL: of a template */
    bool has_hint;
    bool hint_contradicts; /* set: it would load without the hint */
    int status;
    struct ssm_error error;
    struct ssm_model *model;        /* set, the submitter's */
    char (*names)[LOADER_NAME_MAX]; /* NAMES: LOADER_NAMES of them, sorted */
    uint32_t n;
    void *owner;
};

bool loader_submit(struct worker *loader, struct load *load);
struct load *loader_take(struct worker *loader);

/* A name of a model directory: no '/', no leading '.', printable, not too long; so it never leaves the directory. */
bool loader_name_is_valid(const char *name);

#endif
