/* SPDX-License-Identifier: Apache-2.0
 *
 * A team of threads that share one piece of work: whoever has time takes the next part of it.
 *
 * The caller works too and does not wait for a worker that has not come by the time that nothing is left: on a busy
 * machine, where a worker of low priority may be late by milliseconds, the team is then no slower than the caller
 * alone.
 *
 * Threads: ssm_team_run belongs to one thread at a time. Between runs workers look out for the next one for some 20 us,
 * then sleep; they take no signals.
 */
#ifndef SSM_TEAM_H
#define SSM_TEAM_H

#include "ssm/ssm.h"

struct ssm_team;
/* Takes parts of the work until none is left; how they are claimed is the work's own affair. */
typedef void ssm_team_fn(void *context, uint32_t member);

/* Between two looks of one who waits without sleeping. */
static inline void ssm_team_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* A team of `members` (the caller is member 0; 1 has no threads). */
SSM_MUST_CHECK int ssm_team_new(struct ssm_team **out, uint32_t members);
void ssm_team_free(struct ssm_team *team);
/* Runs fn as member 0, and as others when they come in time; returns when all that came are done. */
void ssm_team_run(struct ssm_team *team, ssm_team_fn *fn, void *context);

#endif
