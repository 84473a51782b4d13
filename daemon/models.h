/* SPDX-License-Identifier: Apache-2.0
 *
 * The models in memory. A model is named by a template spec or by a directory below the configuration's `models`, and
 * shared by every stream that names it. Spellings of one template are one model: it is known by the name that libssm
 * fills in.
 *
 * A model goes LOADING (loader thread), COMPILING (engine threads; daemon/site.h says which), LOADED; opens that name it meanwhile wait in order.
 * A model without streams stays, until there is no room for another that is wanted (daemon/unload.h). A directory that
 * could not be loaded stays as FAILED, to say why in hello, until it is asked for again.
 *
 * A directory has versions (daemon/versions.h), and each may be here at several rates. An open at a rate of its own waits
 * for the model at the configuration's rate first, which knows whether it can be discretised for another.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_MODELS_H
#define DAEMON_MODELS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/conf.h"
#include "daemon/counters.h"
#include "daemon/evict.h"
#include "daemon/loader.h"
#include "daemon/site.h"
#include "daemon/stream.h"
#include "daemon/versions.h"

#define MODELS_MAX          64   /* loaded: each rate and version, spellings of templates counted too */
#define MODELS_DROPPING_MAX 8    /* ... and so many more that the engine is about to drop */
#define MODELS_WAITS_MAX    4096 /* opens that wait for one model */

struct loop;

/* What may have to wait for its model: an `open`, decoded, or a restore. */
struct open_request {
    TAILQ_ENTRY(open_request) link;
    struct conn *conn;
    uint64_t request_id;
    /* When its model is there, or NULL and why not. Does not free the request. */
    void (*finish)(struct loop *loop, struct open_request *request, struct model *model, Ssmd__Code code,
                   const char *text);
    struct task *task;                        /* of a restore, which needs a model as well */
    uint32_t history_interval, history_depth; /* 0: none */
    uint8_t id[PROTO_ID_MAX];
    uint8_t id_size;
    bool take_over, wants_results, has_results_from;
    Ssmd__OpenMode mode;
    double rate;       /* 0: the model's */
    bool native_rate;  /* a directory may be discretised anew for it */
    uint32_t channels; /* 0: the model's */
    uint64_t results_from;
    bool generates;
    uint32_t top_k;
    const struct policy_class *class; /* NULL: none was named */
    /* of an open that waits for an evicted stream, or for room */
    struct evict_wait wait;
    TAILQ_ENTRY(open_request) of_waiting;
    bool has_waited; /* for room: not twice */
    char spec[CONF_TEXT_SIZE];
};

enum model_state { MODEL_LOADING, MODEL_COMPILING, MODEL_LOADED, MODEL_ALIAS, MODEL_FAILED, MODEL_DROPPING };

struct model {
    enum model_state state;
    bool is_template;
    uint32_t grid;                 /* input frames on whose multiples scan rows are cut (daemon/batch.h) */
    bool is_one_to_one;            /* each input frame completes the output frame of its index */
    char name[CONF_TEXT_SIZE];     /* of the directory, or the template's as filled in */
    char key[CONF_TEXT_SIZE + 64]; /* what was asked for */
    struct model *same;            /* ALIAS: of this one */
    struct lineage *lineage;       /* of a directory; NULL: a template */
    uint32_t version;              /* of a directory, when it is loaded; else 0 */
    double rate;                   /* that it was discretised anew for; 0: the configuration's own */
    struct reload *reload;         /* that reads it again: no open waits for it; or NULL */
    struct ssm_model *model;
    struct site site[SITES_MAX]; /* by unit: where it is compiled */
    uint32_t jobs;               /* that units have not answered */
    struct ssm_model_info info;
    uint32_t streams;
    struct model_counters counters;
    uint64_t used_ns;
    TAILQ_HEAD(, open_request) waits;
    uint32_t waits_n;
    uint32_t priority;                /* of an engine's time when there is not enough: relative to others */
    const struct policy_class *class; /* of its streams that name none (daemon/policy.h); NULL: none */
    uint64_t queue_limit;             /* bytes of input of all its streams */
    uint64_t queued_bytes;
    uint32_t evicted; /* streams that left memory: their version stays for them while there is room for it */
    char failure[CONF_TEXT_SIZE]; /* FAILED: "failed: ..." */
    TAILQ_ENTRY(model) of_all;
    struct load load;
};

/* What models counted that were unloaded, by name: counters never fall. */
struct models_past {
    char name[CONF_TEXT_SIZE];
    struct model_counters counters;
};

struct models {
    struct models_past past[MODELS_MAX];
    uint32_t past_n; /* ever taken: the oldest name goes */
    TAILQ_HEAD(, model) all;
    uint32_t n;
    struct load listing; /* of the model directory */
    bool is_listing;
    uint64_t listed_ns; /* when it was submitted last */
    char (*names)[LOADER_NAME_MAX];
    uint32_t names_n;
    struct versions versions;
    char sentence[CONF_TEXT_SIZE]; /* of the last refusal that names something */
    Ssmd__Code move_code;          /* why the last stream that wanted a newer version cannot have it */
    char move_sentence[CONF_TEXT_SIZE];
};

int models_init(struct models *models);
void models_fini(struct models *models); /* after the engine and the loader stopped: frees what is left */

enum models_answer { MODELS_READY, MODELS_WAITS, MODELS_REFUSED };

/* The model for `spec`: READY gives *out; WAITS took over `request`, which control_open_finish gets later; REFUSED
 * gives
 * *code and *text (static). */
enum models_answer models_find(struct loop *loop, const char *spec, struct open_request *request, struct model **out,
                               Ssmd__Code *code, const char **text);
/* What the configuration says of models now: after a reload. */
void models_configure(struct loop *loop);
/* What the loader and the engine have done since. */
void models_loaded(struct loop *loop, struct load *load);
void models_compiled(struct loop *loop, struct job *job);
/* Read the model directory again, unless that was done a moment ago. */
void models_list(struct loop *loop);
/* Read the directory of that name for a reload; false when there is no room. */
bool models_read_again(struct loop *loop, const char *name, struct reload *reload);
/* Takes it from the list and frees it; it has no program. */
void models_free(struct models *models, struct model *model);
/* Forgets other spellings of the template. */
void models_aliases_drop(struct models *models, const struct model *of);
/* Whether two rates are one to a stream. */
bool models_rates_match(double a, double b);
/* Opens of a connection that goes away are forgotten. */
void models_conn_drop(struct models *models, const struct conn *conn);

#endif
