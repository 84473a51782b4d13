/* SPDX-License-Identifier: Apache-2.0
 * A team of threads; see team.h. */
#include "ssm/team.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* Looks before a worker sleeps, some 20 us: one piece of work follows another sooner than a sleeper is woken. */
#define LOOKS 1000

struct ssm_team {
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    ssm_team_fn *fn;
    void *context;
    bool open;         /* whoever comes now may still join */
    uint32_t joined;   /* workers within fn */
    atomic_uint round; /* changes with every piece of work, and at the end */
    atomic_bool stop;
    uint32_t members, started, looks;
    pthread_t *thread; /* (members - 1) */
};

/* Returns with the lock held when there is a new round. */
static void round_wait(struct ssm_team *team, unsigned seen)
{
    for (uint32_t i = 0; i < team->looks && atomic_load(&team->round) == seen; i++)
        ssm_team_pause();
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->round) == seen)
        pthread_cond_wait(&team->begin, &team->lock);
}

static void *worker_run(void *argument)
{
    struct ssm_team *team = argument;
    unsigned seen = 0;
    uint32_t member;

    pthread_mutex_lock(&team->lock);
    member = ++team->started;
    pthread_mutex_unlock(&team->lock);
    for (;;) {
        round_wait(team, seen);
        seen = atomic_load(&team->round);
        if (atomic_load(&team->stop))
            break;
        if (team->open) {
            team->joined++;
            pthread_mutex_unlock(&team->lock);
            team->fn(team->context, member);
            pthread_mutex_lock(&team->lock);
            if (--team->joined == 0)
                pthread_cond_signal(&team->end);
        }
        pthread_mutex_unlock(&team->lock);
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
    team->looks = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? LOOKS : 0;
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

/* Under the lock: work, or the end, is there. */
static void round_begin(struct ssm_team *team)
{
    atomic_fetch_add(&team->round, 1);
    pthread_cond_broadcast(&team->begin);
}

void ssm_team_free(struct ssm_team *team)
{
    if (!team)
        return;
    pthread_mutex_lock(&team->lock);
    atomic_store(&team->stop, true);
    round_begin(team);
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
    if (team->members == 1) {
        fn(context, 0);
        return;
    }
    pthread_mutex_lock(&team->lock);
    team->fn = fn;
    team->context = context;
    team->open = true;
    round_begin(team);
    pthread_mutex_unlock(&team->lock);
    fn(context, 0);
    pthread_mutex_lock(&team->lock);
    team->open = false;
    while (team->joined > 0)
        pthread_cond_wait(&team->end, &team->lock);
    pthread_mutex_unlock(&team->lock);
}
