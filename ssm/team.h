/* SPDX-License-Identifier: Apache-2.0
 *
 * A team of threads that share one piece of work: the caller and its workers, each told its number.
 *
 * Threads: ssm_team_run belongs to one thread at a time. Workers sleep on a condition between runs and take no signals.
 */
#ifndef SSM_TEAM_H
#define SSM_TEAM_H

#include "ssm/ssm.h"

struct ssm_team;
typedef void ssm_team_fn(void *context, uint32_t member, uint32_t members);

/* A team of `members` (the caller is member 0; 1 has no threads). */
SSM_MUST_CHECK int ssm_team_new(struct ssm_team **out, uint32_t members);
void ssm_team_free(struct ssm_team *team);
/* Runs fn once for each member and returns when all have. */
void ssm_team_run(struct ssm_team *team, ssm_team_fn *fn, void *context);

#endif
