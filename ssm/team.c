/* SPDX-License-Identifier: Apache-2.0
 * A team of threads; see team.h. */
#include "ssm/team.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct ssm_team {
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    ssm_team_fn *fn;
    void *context;
    uint64_t round; /* of work; workers wait for it to change */
    uint32_t members, started, busy;
    bool stop;
    pthread_t *thread; /* (members - 1) */
};

static void *worker_run(void *argument)
{
    struct ssm_team *team = argument;
    uint64_t seen = 0;
    uint32_t member;

    pthread_mutex_lock(&team->lock);
    member = ++team->started;
    for (;;) {
        while (team->round == seen && !team->stop)
            pthread_cond_wait(&team->begin, &team->lock);
        if (team->stop)
            break;
        seen = team->round;
        pthread_mutex_unlock(&team->lock);
        team->fn(team->context, member, team->members);
        pthread_mutex_lock(&team->lock);
        if (--team->busy == 0)
            pthread_cond_signal(&team->end);
    }
    pthread_mutex_unlock(&team->lock);
    return NULL;
}

/* Workers take no signals: those belong to the program. */
static int workers_start(struct ssm_team *team, uint32_t members)
{
    sigset_t all, before;
    int failed = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (team->members = 1; team->members < members && !failed; team->members += !failed)
        failed = pthread_create(&team->thread[team->members - 1], NULL, worker_run, team);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? SSM_NOMEM : SSM_OK;
}

int ssm_team_new(struct ssm_team **out, uint32_t members)
{
    struct ssm_team *team = calloc(1, sizeof(*team));
    int status;

    *out = NULL;
    if (!team)
        return SSM_NOMEM;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->begin, NULL);
    pthread_cond_init(&team->end, NULL);
    team->thread = calloc(members, sizeof(*team->thread));
    status = team->thread ? workers_start(team, members) : SSM_NOMEM;
    if (status) {
        ssm_team_free(team);
        return status;
    }
    *out = team;
    return SSM_OK;
}

void ssm_team_free(struct ssm_team *team)
{
    if (!team)
        return;
    pthread_mutex_lock(&team->lock);
    team->stop = true;
    pthread_cond_broadcast(&team->begin);
    pthread_mutex_unlock(&team->lock);
    for (uint32_t i = 0; team->thread && i + 1 < team->members; i++)
        pthread_join(team->thread[i], NULL);
    pthread_cond_destroy(&team->end);
    pthread_cond_destroy(&team->begin);
    pthread_mutex_destroy(&team->lock);
    free(team->thread);
    free(team);
}

void ssm_team_run(struct ssm_team *team, ssm_team_fn *fn, void *context)
{
    if (team->members > 1) {
        pthread_mutex_lock(&team->lock);
        team->fn = fn;
        team->context = context;
        team->busy = team->members - 1;
        team->round++;
        pthread_cond_broadcast(&team->begin);
        pthread_mutex_unlock(&team->lock);
    }
    fn(context, 0, team->members);
    if (team->members > 1) {
        pthread_mutex_lock(&team->lock);
        while (team->busy > 0)
            pthread_cond_wait(&team->end, &team->lock);
        pthread_mutex_unlock(&team->lock);
    }
}
