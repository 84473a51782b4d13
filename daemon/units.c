/* SPDX-License-Identifier: Apache-2.0
 * Which engines there are, and their batches; see units.h. */
#include "daemon/units.h"

#include "daemon/log.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t units_threads(const struct conf *conf)
{
    cpu_set_t cpus;

    if (conf->threads > 0)
        return conf->threads;
    return sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (uint32_t)CPU_COUNT(&cpus) : 1;
}

/* ---- which devices ----------------------------------------------------------------------------------------------- */

/* The devices that the configuration wants, of those that are here. 0, or an exit code after saying why not. */
static int devices_find(const struct conf *conf, uint32_t number[CONF_LIST_MAX], uint32_t *n)
{
    const char *library = conf->cuda_library[0] ? conf->cuda_library : NULL;
    struct ssm_error error = {""};
    uint32_t here = 0;
    int status;

    *n = 0;
    if (strcmp(conf->backend, "cpu") == 0)
        return EX_OK;
    status = ssm_engine_devices("cuda", library, &here, &error);
    if (status == SSM_OK && here == 0)
        snprintf(error.text, sizeof(error.text), "no device is here");
    if (here == 0 && strcmp(conf->backend, "auto") == 0) {
        log_event(LOG_INFO, "backend_cpu", "reason=%s", error.text[0] ? error.text : ssm_status_text(status));
        return EX_OK;
    }
    if (here == 0) {
        log_event(LOG_ERR, "engine_failed", "backend=cuda error=%s",
                  error.text[0] ? error.text : ssm_status_text(status));
        return EX_CONFIG;
    }
    if (strcmp(conf->device.item[0], "all") == 0) {
        for (; *n < here && *n < CONF_LIST_MAX; ++*n)
            number[*n] = *n;
        if (here > *n)
            log_event(LOG_WARNING, "devices_many", "here=%u used=%u", here, *n);
        return EX_OK;
    }
    for (uint32_t i = 0; i < conf->device.n; i++) {
        number[*n] = (uint32_t)strtoul(conf->device.item[i], NULL, 10);
        if (number[(*n)++] < here)
            continue;
        snprintf(error.text, sizeof(error.text), "device = %s: this machine has devices 0 to %u", conf->device.item[i],
                 here - 1);
        log_event(LOG_ERR, "engine_failed", "backend=cuda error=%s", error.text);
        return EX_CONFIG;
    }
    return EX_OK;
}

/* ---- start and stop ---------------------------------------------------------------------------------------------- */

/* One more unit, with its batches. 0, or a negative status with the reason in the engine's error. */
static int unit_start(struct units *units, const struct conf *conf, const struct ssm_engine_options *options,
                      const char *name)
{
    struct unit *unit = &units->of[units->n];
    bool is_device = strcmp(options->backend, "cpu") != 0;
    uint32_t frames = is_device ? conf->device_batch_frames : conf->batch_frames;
    int status = engine_start(&unit->engine, options);

    if (status != SSM_OK)
        return status;
    units->n++;
    unit->is_device = is_device;
    snprintf(unit->name, sizeof(unit->name), "%s", name);
    snprintf(unit->text, sizeof(unit->text), "%s", ssm_engine_describe(unit->engine.engine));
    if (batcher_init(&unit->batcher, conf->max_row_frames, frames, is_device ? 0 : options->threads) != 0) {
        snprintf(unit->engine.error.text, sizeof(unit->engine.error.text), "no memory for batches");
        return SSM_NOMEM;
    }
    return SSM_OK;
}

static const char *reason_of(const struct unit *unit, int status)
{
    return unit->engine.error.text[0] ? unit->engine.error.text : ssm_status_text(status);
}

/* The device, or, where it may be missing, a line in the log. */
static int device_start(struct units *units, const struct conf *conf, uint32_t number)
{
    struct ssm_engine_options options = {.backend = "cuda",
                                         .library = conf->cuda_library[0] ? conf->cuda_library : NULL,
                                         .device = number,
                                         .resident = conf->device_streams};
    bool is_needed = strcmp(conf->backend, "cuda") == 0;
    struct unit *unit = &units->of[units->n];
    char name[UNIT_NAME_SIZE];
    int status;

    snprintf(name, sizeof(name), "cuda%u", number);
    status = unit_start(units, conf, &options, name);
    if (status == SSM_OK) {
        log_event(LOG_INFO, "engine_ready", "backend=cuda device=%u is=%s", number, unit->text);
        return EX_OK;
    }
    log_event(is_needed ? LOG_ERR : LOG_WARNING, "engine_failed", "backend=cuda device=%u error=%s", number,
              reason_of(unit, status));
    return is_needed || unit->engine.engine ? EX_CONFIG : EX_OK;
}

static int cpu_start(struct units *units, const struct conf *conf)
{
    struct ssm_engine_options options = {
        .backend = "cpu", .isa = strcmp(conf->isa, "auto") == 0 ? NULL : conf->isa, .threads = units_threads(conf)};
    struct unit *unit = &units->of[units->n];
    bool is_spare = units->n > 0;
    int status = unit_start(units, conf, &options, "cpu");

    if (status != SSM_OK) {
        log_event(LOG_ERR, "engine_failed", "backend=cpu error=%s", reason_of(unit, status));
        return status == SSM_NOMEM ? EX_OSERR : EX_CONFIG;
    }
    unit->is_spare = is_spare;
    log_event(LOG_INFO, "engine_ready", "backend=cpu isa=%s threads=%u spare=%s", unit->text, options.threads,
              is_spare ? "yes" : "no");
    return EX_OK;
}

int units_start(struct units *units, const struct conf *conf)
{
    uint32_t number[CONF_LIST_MAX], n;
    int status = devices_find(conf, number, &n);

    for (uint32_t i = 0; status == EX_OK && i < n; i++)
        status = device_start(units, conf, number[i]);
    if (status == EX_OK && strcmp(conf->backend, "cuda") != 0)
        status = cpu_start(units, conf);
    if (status != EX_OK)
        units_stop(units);
    return status;
}

void units_stop(struct units *units)
{
    for (uint32_t i = 0; i < units->n; i++)
        engine_stop(&units->of[i].engine);
}

void units_fini(struct units *units, struct input *input)
{
    for (uint32_t i = 0; i < units->n; i++)
        batcher_fini(&units->of[i].batcher, input);
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

struct unit *units_cpu(struct units *units)
{
    struct unit *last = units->n > 0 ? &units->of[units->n - 1] : NULL;

    return last && !last->is_device ? last : NULL;
}

bool units_are_busy(const struct units *units)
{
    for (uint32_t i = 0; i < units->n; i++)
        if (units->of[i].batcher.in_flight > 0)
            return true;
    return false;
}

bool units_are_idle(const struct units *units)
{
    for (uint32_t i = 0; i < units->n; i++)
        if (!TAILQ_EMPTY(&units->of[i].batcher.lanes.live) || !TAILQ_EMPTY(&units->of[i].batcher.lanes.backfill))
            return false;
    return !units_are_busy(units);
}

void units_items(const struct units *units, zmq_pollitem_t *items)
{
    for (uint32_t i = 0; i < units->n; i++)
        items[i] = (zmq_pollitem_t){NULL, units->of[i].engine.done.fd, ZMQ_POLLIN, 0};
}

bool units_sleep(struct units *units)
{
    bool asleep = true;

    for (uint32_t i = 0; i < units->n; i++)
        asleep = spsc_sleep(&units->of[i].engine.done) && asleep;
    return asleep;
}

void units_awake(struct units *units, const zmq_pollitem_t *items)
{
    for (uint32_t i = 0; i < units->n; i++)
        spsc_awake(&units->of[i].engine.done, items[i].revents != 0);
}
