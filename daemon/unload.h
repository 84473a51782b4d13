/* SPDX-License-Identifier: Apache-2.0
 *
 * Room for models: which one goes when there are too many (MODELS_MAX), too many rates of one (model_rates) or too many
 * bytes of weights (model_memory). Always one without streams, the one unused longest; when there is none the newcomer
 * is refused.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_UNLOAD_H
#define DAEMON_UNLOAD_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct model;

/* Whether it is loaded and nobody has or wants it. */
bool model_is_idle(const struct model *model);
/* It leaves the list when the engine has dropped its program. False when it must stay. */
bool model_unload(struct loop *loop, struct model *model);

/* Room for one model more. */
bool unload_for_one(struct loop *loop);
/* Room for one more rate of `own`, a directory at its own rate. */
bool unload_for_rate(struct loop *loop, const struct model *own);
/* Room for the weights of a model that was read. */
bool unload_for_bytes(struct loop *loop, const struct model *model);
/* Bytes of weights in memory, but those of `except` (or NULL). */
uint64_t models_weight_bytes(const struct loop *loop, const struct model *except);

#endif
