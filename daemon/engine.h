/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread that owns an ssm_engine and everything of it. Work comes and goes as jobs through two bounded rings;
 * whoever submits a job keeps off it until it comes back.
 *
 * The thread of the processor's engine, and the workers that it starts, run at nice 19: a core that computes must not
 * keep the I/O threads waiting. That of a device copies and waits, and the device with it, so it runs as the others do.
 *
 * A device that fails says so in the status of a job, SSM_DEVICE, whatever else the job would have done.
 *
 * Threads: start, submit, take and stop from the loop thread.
 */
#ifndef DAEMON_ENGINE_H
#define DAEMON_ENGINE_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/spsc.h"
#include "ssm/ssm.h"

enum job_kind { JOB_ADVANCE, JOB_COMPILE, JOB_DROP, JOB_STOP };

/* A state that is to be kept as it is after an advance. */
struct job_copy {
    struct ssm_slot from, to;
};

struct job {
    enum job_kind kind;
    struct ssm_program *program; /* ADVANCE and DROP take it, COMPILE makes it */
    struct ssm_row *rows;        /* ADVANCE */
    uint32_t n;
    /* ADVANCE: what follows on the same thread, or NULL. scratch is the engine's, for sampling from the vocabularies of
     * its programs; NULL on another thread. */
    void (*after)(struct job *job, float *scratch);
    const struct job_copy *copies; /* ADVANCE: made after it */
    uint32_t copies_n;
    struct ssm_model *model; /* COMPILE */
    uint32_t max_slots;
    /* of COMPILE: what a frame costs, tried out; 0 when that failed. Of a device two batches instead, which took so long */
    double frame_ns;
    struct {
        uint32_t frames;
        double ns;
    } tried[2];
    bool copies_failed; /* of ADVANCE: not all copies were made */
    int status;         /* of COMPILE; SSM_DEVICE of any; rows have their own */
    uint64_t began_ns, busy_ns;
    void *owner; /* of who submitted it */
    struct ssm_error error;
};

struct engine {
    pthread_t thread;
    struct spsc todo, done;
    struct ssm_engine *engine;
    float *scratch; /* of its thread */
    size_t scratch_floats;
    struct ssm_engine_options options;
    bool is_device;
    struct ssm_error error;
    int status;
    sem_t started;
};

/* Returns when the engine is there: 0, or a negative status and engine->error. What options point to stays. */
int engine_start(struct engine *engine, const struct ssm_engine_options *options);
/* Waits for the jobs that are in it. */
void engine_stop(struct engine *engine);
/* False when there are SPSC_SLOTS jobs in it. */
bool engine_submit(struct engine *engine, struct job *job);
/* Does an ADVANCE at once, on the caller's thread, beside what the engine has: of other slots. */
void engine_run_beside(struct job *job);
/* The next job that is done, or NULL. engine->done.fd becomes readable after spsc_sleep(&engine->done). */
struct job *engine_take(struct engine *engine);

#endif
