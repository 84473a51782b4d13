/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop of the engine thread: pop a job, do it, push it back; sleep on the eventfd when there is none.
 */
#include "daemon/engine.h"
#include "daemon/clock.h"
#include "ssm/sample.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define ENGINE_NICE  19
#define PROBE_FRAMES 1024
#define PROBE_FLOATS (1u << 20)
#define PROBE_NS     200000
#define PROBE_ROWS   64         /* on a device, side by side */
#define PROBE_WIDE   (8u << 20) /* floats of their output */

/* Of names that the loop holds: only a device can have no memory for one, or fail. */
static void states_copy(struct job *job)
{
    for (uint32_t i = 0; i < job->copies_n && job->status != SSM_DEVICE; i++) {
        int status = ssm_slot_copy(job->program, job->copies[i].from, job->copies[i].to);

        job->copies_failed |= status != SSM_OK;
        if (status == SSM_DEVICE)
            job->status = status;
    }
}

/* What follows an advance; scratch as in struct job. */
static void advance_end(struct job *job, float *scratch)
{
    if (job->after && job->status != SSM_DEVICE)
        job->after(job, scratch);
    states_copy(job);
}

void engine_run_beside(struct job *job)
{
    job->began_ns = clock_now_ns();
    job->status = ssm_advance_beside(job->program, job->rows, job->n);
    advance_end(job, NULL);
    job->busy_ns = clock_now_ns() - job->began_ns;
}

/* Now, so that drawing a token allocates nothing. */
static int scratch_grow(struct engine *engine, uint32_t vocab)
{
    size_t need = ssm_sample_floats(vocab);
    float *larger;

    if (need <= engine->scratch_floats)
        return SSM_OK;
    larger = realloc(engine->scratch, need * sizeof(*larger));
    if (!larger)
        return SSM_NOMEM;
    engine->scratch = larger;
    engine->scratch_floats = need;
    return SSM_OK;
}

/* The second of two runs, the first of which warms caches, unless that was long already: ns, or 0 when it fails. */
static double rows_measure(struct ssm_program *program, struct ssm_row *rows, uint32_t n)
{
    double ns = 0;

    for (int i = 0; i < 2 && ns < 5 * PROBE_NS; i++) {
        uint64_t began = clock_now_ns();

        if (ssm_advance(program, rows, n) != SSM_OK)
            return 0;
        ns = (double)(clock_now_ns() - began);
    }
    return ns;
}

/* What a frame costs, of zeros, in the shortest run that takes long enough to be measured. */
static double cost_measure(struct ssm_program *program)
{
    const struct ssm_model *model = ssm_program_model(program);
    const struct ssm_model_info *info = ssm_model_info(model);
    uint32_t most = PROBE_FLOATS / info->out_channels < PROBE_FRAMES ? PROBE_FLOATS / info->out_channels : PROBE_FRAMES;
    struct ssm_row row = {.slot = {.index = -1}, .view = SSM_STEP, .frames = info->hop};
    double ns = 0;
    float *in, *out;

    if (most < info->hop)
        most = info->hop;
    in = calloc((size_t)most * info->in_channels, sizeof(*in));
    out = malloc(ssm_out_frames_max(model, most) * info->out_channels * sizeof(*out));
    row.in = in;
    row.out = out;
    if (in && out && ssm_slot_acquire(program, &row.slot) == SSM_OK) {
        ns = rows_measure(program, &row, 1);
        while (ns > 0 && ns < PROBE_NS && row.frames <= most / 4) {
            row.frames *= 4;
            ns = rows_measure(program, &row, 1);
        }
    }
    ssm_slot_release(program, row.slot);
    free(in);
    free(out);
    return ns / row.frames;
}

/* One batch of one hop, and one of several side by side, of zeros. */
static void device_measure(struct job *job)
{
    const struct ssm_model_info *info = ssm_model_info(job->model);
    size_t out = ssm_out_frames_max(job->model, info->hop) * info->out_channels;
    uint32_t most = out * PROBE_ROWS > PROBE_WIDE ? (uint32_t)(PROBE_WIDE / out) + 1 : PROBE_ROWS, n = 0;
    struct ssm_row rows[PROBE_ROWS];
    float *zeros = calloc((size_t)info->hop * info->in_channels, sizeof(*zeros));
    float *outs = malloc(most * out * sizeof(*outs));

    for (; zeros && outs && n < most; n++) {
        rows[n] = (struct ssm_row){.view = SSM_STEP, .frames = info->hop, .in = zeros, .out = outs + n * out};
        if (ssm_slot_acquire(job->program, &rows[n].slot) != SSM_OK)
            break;
    }
    for (uint32_t i = 0; i < 2 && n > 0; i++) {
        uint32_t wide = i == 0 ? 1 : n;

        job->tried[i].frames = wide * info->hop;
        job->tried[i].ns = rows_measure(job->program, rows, wide);
    }
    for (uint32_t i = 0; i < n; i++)
        ssm_slot_release(job->program, rows[i].slot);
    free(zeros);
    free(outs);
}

static void program_compile(struct engine *engine, struct job *job)
{
    job->status = scratch_grow(engine, ssm_model_info(job->model)->vocab);
    if (job->status != SSM_OK) {
        snprintf(job->error.text, sizeof(job->error.text), "no memory to sample from the model's vocabulary");
        return;
    }
    job->status = ssm_program_new(&job->program, engine->engine, job->model, job->max_slots, &job->error);
    if (job->status == SSM_OK && engine->is_device)
        device_measure(job);
    else if (job->status == SSM_OK)
        job->frame_ns = cost_measure(job->program);
}

static void job_run(struct engine *engine, struct job *job)
{
    job->began_ns = clock_now_ns();
    switch (job->kind) {
    case JOB_ADVANCE:
        job->status = ssm_advance(job->program, job->rows, job->n);
        advance_end(job, engine->scratch);
        break;
    case JOB_COMPILE:
        program_compile(engine, job);
        break;
    case JOB_DROP:
        ssm_program_free(job->program);
        job->program = NULL;
        break;
    case JOB_STOP:
        break;
    }
    job->busy_ns = clock_now_ns() - job->began_ns;
}

static struct job *job_wait(struct engine *engine)
{
    struct job *job;

    while ((job = spsc_pop(&engine->todo)) == NULL) {
        struct pollfd wait = {.fd = engine->todo.fd, .events = POLLIN, .revents = 0};

        if (spsc_sleep(&engine->todo))
            (void)!poll(&wait, 1, -1);
        spsc_awake(&engine->todo, wait.revents != 0);
    }
    return job;
}

static void *engine_run(void *context)
{
    struct engine *engine = context;

    if (!engine->is_device)
        (void)!setpriority(PRIO_PROCESS, (id_t)gettid(), ENGINE_NICE); /* on Linux: this thread, and what it starts */
    engine->status = ssm_engine_new(&engine->engine, &engine->options, &engine->error);
    sem_post(&engine->started);
    while (engine->status == SSM_OK) {
        struct job *job = job_wait(engine);

        if (job->kind == JOB_STOP)
            break;
        job_run(engine, job);
        (void)spsc_push(&engine->done, job); /* never full: as many slots as todo has, and whoever submits takes */
    }
    ssm_engine_free(engine->engine);
    free(engine->scratch);
    return NULL;
}

static void engine_fini(struct engine *engine)
{
    spsc_fini(&engine->todo);
    spsc_fini(&engine->done);
    sem_destroy(&engine->started);
}

int engine_start(struct engine *engine, const struct ssm_engine_options *options)
{
    memset(engine, 0, sizeof(*engine));
    engine->options = *options;
    engine->is_device = options->backend && strcmp(options->backend, "cpu") != 0;
    engine->done.fd = -1;
    if (spsc_init(&engine->todo) != 0 || spsc_init(&engine->done) != 0 || sem_init(&engine->started, 0, 0) != 0 ||
        pthread_create(&engine->thread, NULL, engine_run, engine) != 0) {
        engine_fini(engine);
        return SSM_NOMEM;
    }
    while (sem_wait(&engine->started) != 0)
        continue;
    if (engine->status != SSM_OK) {
        pthread_join(engine->thread, NULL);
        engine_fini(engine);
    }
    return engine->status;
}

void engine_stop(struct engine *engine)
{
    struct job stop = {.kind = JOB_STOP};

    while (!spsc_push(&engine->todo, &stop))
        (void)engine_take(engine);
    pthread_join(engine->thread, NULL);
    engine_fini(engine);
}

bool engine_submit(struct engine *engine, struct job *job)
{
    return spsc_push(&engine->todo, job);
}

struct job *engine_take(struct engine *engine)
{
    return spsc_pop(&engine->done);
}
