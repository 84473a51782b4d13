/* SPDX-License-Identifier: Apache-2.0
 * Pop, run, push back; sleep on the eventfd when there is nothing. */
#include "daemon/worker.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define WORKER_NICE 19

static void *worker_run(void *context)
{
    struct worker *worker = context;

    (void)!setpriority(PRIO_PROCESS, (id_t)gettid(), WORKER_NICE);
    for (;;) {
        struct pollfd wait = {.fd = worker->todo.fd, .events = POLLIN, .revents = 0};
        struct work *work = spsc_pop(&worker->todo);

        if (!work) {
            if (spsc_sleep(&worker->todo))
                (void)!poll(&wait, 1, -1);
            spsc_awake(&worker->todo, wait.revents != 0);
            continue;
        }
        if (!work->run)
            break;
        work->run(work);
        (void)spsc_push(&worker->done, work); /* never full: as many slots as todo has, and whoever submits takes */
    }
    return NULL;
}

int worker_start(struct worker *worker)
{
    memset(worker, 0, sizeof(*worker));
    worker->done.fd = -1;
    if (spsc_init(&worker->todo) != 0 || spsc_init(&worker->done) != 0)
        return -1;
    errno = pthread_create(&worker->thread, NULL, worker_run, worker);
    return errno ? -1 : 0;
}

void worker_stop(struct worker *worker)
{
    static struct work end;

    while (!spsc_push(&worker->todo, &end))
        usleep(100);
    pthread_join(worker->thread, NULL);
}

void worker_fini(struct worker *worker)
{
    spsc_fini(&worker->todo);
    spsc_fini(&worker->done);
}

bool worker_submit(struct worker *worker, struct work *work)
{
    return spsc_push(&worker->todo, work);
}

struct work *worker_take(struct worker *worker)
{
    return spsc_pop(&worker->done);
}
