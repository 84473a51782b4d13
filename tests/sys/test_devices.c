/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon on devices: streams are spread over them and computed there, to the bits that libssm gives on one; what
 * a device cannot take the processor does; states move between the two; and a device that fails takes the daemon
 * along without a wrong result.
 *
 * The device is the plugin of tests/cuda_host, or the one that $SSMD_CUDA_LIBRARY names. CUDA_HOST_* in a daemon's
 * environment make more devices of it, or let them fail.
 */
#include "tests/sys/serving.h"
#include "tests/sys/states.h"
#include "tests/ssm/making.h"

#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

enum { FRAMES = 300, WIDTH = 2, MODES = 2, BIG = 1500 }; /* an emulated device is slow */
#define SMALL_MEMORY "8000000"                           /* of a device that big does not fit */

static struct ssm_model *model; /* "modes", in the group's directory as well */
static float in[FRAMES], by_device[FRAMES], by_big[FRAMES];
static char library[PATH_MAX];

/* ---- the group --------------------------------------------------------------------------------------------------- */

static void modes_make(struct making *m)
{
    float *imag, *log_dt;

    making_init(m, 5);
    m->rate = 1000;
    making_layers(m, "{'type':'linear','name':'a','in':1,'out':%u,'bias':false}", WIDTH);
    making_layers(m, "{'type':'s4d','name':'s','channels':%u,'state':%u,'discretization':'zoh'}", WIDTH, 2 * MODES);
    making_layers(m, "{'type':'linear','name':'b','in':%u,'out':1,'bias':false}", WIDTH);
    making_tensor(m, 1, "a.weight", 2, WIDTH, 1u);
    making_tensor(m, 0.3f, "b.weight", 2, 1u, WIDTH);
    making_tensor(m, 1, "s.log_A_real", 2, WIDTH, MODES);
    imag = making_tensor(m, 1, "s.A_imag", 2, WIDTH, MODES);
    log_dt = making_tensor(m, 1, "s.log_dt", 1, WIDTH);
    making_tensor(m, 1, "s.C", 3, WIDTH, MODES, 2u);
    making_tensor(m, 1, "s.D", 1, WIDTH);
    for (uint32_t i = 0; i < WIDTH * MODES; i++)
        imag[i] = 3.0f * (float)(i % MODES);
    for (uint32_t i = 0; i < WIDTH; i++)
        log_dt[i] -= 5;
}

/* More weights than a small device has memory for. */
static void big_make(struct making *m)
{
    making_init(m, 6);
    m->rate = 1000;
    making_layers(m, "{'type':'linear','name':'a','in':1,'out':%u,'bias':false}", BIG);
    making_layers(m, "{'type':'linear','name':'b','in':%u,'out':%u,'bias':false}", BIG, BIG);
    making_layers(m, "{'type':'conv1d','name':'c','in':%u,'out':1,'kernel':3,'padding':'causal','bias':false}", BIG);
    making_tensor(m, 1, "a.weight", 2, BIG, 1u);
    making_tensor(m, 0.01f, "b.weight", 2, BIG, BIG);
    making_tensor(m, 0.1f, "c.weight", 3, 1u, BIG, 3u);
}

/* The whole signal through one stream in steps. */
static void signal_pass(struct ssm_model *through, const char *isa, float *out)
{
    struct running r;

    running_open(&r, through, isa, 1, 2);
    running_pass(&r, SSM_STEP, in, FRAMES, out, NULL, FRAMES, 1);
    running_close(&r);
}

static void library_find(void)
{
    const char *given = getenv("SSMD_CUDA_LIBRARY"), *build = getenv("BUILD");
    char path[600];

    snprintf(path, sizeof(path), "%s/cuda_host/libssm-cuda.so", build && *build ? build : "build");
    assert_non_null(realpath(given && *given ? given : path, library));
}

static struct ssm_model *model_add(const char *name, void (*make)(struct making *m))
{
    struct ssm_model *made = NULL;
    struct ssm_error err = {""};
    char path[128];
    struct making m;

    make(&m);
    snprintf(path, sizeof(path), "%s/%s", serving_models.path, name);
    assert_int_equal(mkdir(path, 0700), 0);
    making_write(&m, path, 1, 1);
    making_fini(&m);
    if (ssm_model_load(&made, path, NULL, &err) != SSM_OK)
        fail_msg("%s", err.text);
    return made;
}

static int devices_group_open(void **state)
{
    struct ssm_model *big;
    uint32_t seed = 3;

    serving_group_open(state);
    model = model_add("modes", modes_make);
    big = model_add("big", big_make);
    for (int i = 0; i < FRAMES; i++)
        in[i] = making_noise(&seed);
    if (!running_isa_here("cuda"))
        return 0;
    library_find();
    signal_pass(model, "cuda", by_device);
    signal_pass(big, NULL, by_big);
    ssm_model_free(big);
    return 0;
}

static int devices_group_close(void **state)
{
    ssm_model_free(model);
    return serving_group_close(state);
}

/* A daemon with so many devices, of which one fails at its n-th call (0: never). */
static struct sys_daemon *devices_start(const char *lines, const char *devices, const char *fail)
{
    struct sys_daemon *daemon;
    char all[PATH_MAX + 256];

    if (!running_isa_here("cuda"))
        skip();
    setenv("CUDA_HOST_DEVICES", devices, 1);
    if (fail)
        setenv("CUDA_HOST_FAIL", fail, 1);
    snprintf(all, sizeof(all), "models = %s\ncuda_library = %s\n%s", serving_models.path, library, lines);
    assert_int_equal(sys_daemon_start(&daemon, all), 0);
    unsetenv("CUDA_HOST_DEVICES");
    unsetenv("CUDA_HOST_FAIL");
    return daemon;
}

/* Results so far are those wanted, to the bit. */
static void results_check(const struct wire_stream *s, const float *wanted)
{
    for (uint64_t i = 0; i < s->results; i++)
        if (memcmp(&s->out[i], &wanted[s->begin + i], sizeof(float)) != 0)
            fail_msg("%s: result %llu is %.9g and not %.9g", s->id, (unsigned long long)(s->begin + i), s->out[i],
                     wanted[s->begin + i]);
}

/* ... within rounding, where the processor computed some, or a scan. */
static void results_check_nearly(const struct wire_stream *s, const float *wanted)
{
    double largest = 0, error = 0;

    for (uint64_t i = 0; i < FRAMES; i++)
        largest = fmax(largest, fabs(wanted[i]));
    for (uint64_t i = 0; i < s->results; i++)
        error = fmax(error, fabs(s->out[i] - wanted[s->begin + i]));
    assert_true(error <= 2e-5 * largest);
}

static void log_says(struct sys_daemon *d, const char *text)
{
    if (!strstr(sys_daemon_log(d), text))
        fail_msg("not in the log: %s\n%s", text, sys_daemon_log(d));
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

static void streams__on_two_devices__are_spread_and_computed_there(void **state)
{
    struct sys_daemon *d = devices_start("", "2", NULL);
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *s[6];

    (void)state;
    for (int i = 0; i < 6; i++) {
        char id[16];

        snprintf(id, sizeof(id), "s%d", i);
        s[i] = wire_open(w, id, "modes", WIRE_RESULTS);
    }
    assert_int_equal(wire_counter(w, "cuda0_states"), 3);
    assert_int_equal(wire_counter(w, "cuda1_states"), 3);
    assert_int_equal(wire_counter(w, "cpu_states"), 0);
    for (uint32_t at = 0; at < FRAMES; at += 50)
        for (int i = 0; i < 6; i++)
            wire_push(w, s[i], in + at, 50, 0);
    for (int i = 0; i < 6; i++) {
        WIRE_UNTIL(w, s[i]->results == FRAMES);
        results_check(s[i], by_device);
    }
    assert_true(wire_counter(w, "cuda0_batches") > 0);
    assert_true(wire_counter(w, "cuda1_batches") > 0);
    assert_int_equal(wire_counter(w, "cpu_batches"), 0);
    for (int i = 0; i < 6; i += 2)
        assert_int_equal(wire_close(w, s[i]), SSMD__CODE__OK);
    s[0] = wire_open(w, "next", "modes", WIRE_RESULTS);
    assert_in_range(wire_counter(w, "cuda0_states"), 1, 3);
    assert_int_equal(wire_counter(w, "cuda0_states") + wire_counter(w, "cuda1_states"), 4);
    log_says(d, "engine_ready backend=cuda device=1");
    wire_free(w);
    serving_stop(d);
}

/* Each has its state and its place, in batches that are many streams. */
static void streams__hundreds_at_once__share_batches_and_no_bit(void **state)
{
    enum { CROWD = 100, CHUNK = 10, CHUNKS = 3 };
    struct sys_daemon *d = devices_start("device = 0\n", "2", NULL);
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *s[CROWD];
    struct wire_chunk chunks[CROWD];

    (void)state;
    for (int i = 0; i < CROWD; i++) {
        char id[16];

        snprintf(id, sizeof(id), "s%d", i);
        s[i] = wire_open(w, id, "modes", WIRE_RESULTS);
    }
    for (uint32_t at = 0; at < CHUNK * CHUNKS; at += CHUNK) {
        for (int i = 0; i < CROWD; i++) {
            chunks[i] = (struct wire_chunk){
                .stream = s[i], .first = at, .frames = CHUNK, .format = SSMD__FORMAT__F32LE, .samples = in + at};
            s[i]->sent = at + CHUNK;
        }
        wire_send(w, chunks, CROWD);
    }
    for (int i = 0; i < CROWD; i++) {
        WIRE_UNTIL(w, s[i]->results == CHUNK * CHUNKS);
        results_check(s[i], by_device);
    }
    assert_in_range(wire_counter(w, "cuda0_batches"), 1, CROWD * CHUNKS / 3);
    wire_free(w);
    serving_stop(d);
}

/* A history's checkpoints are copies on the device; backfill is scanned there. */
static void streams__rollback_and_fork_and_backfill__work_on_a_device(void **state)
{
    struct sys_daemon *d = devices_start("", "1", NULL);
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *s = states_open_with_history(w, "s", "modes", 64, 128), *forked, *behind;

    (void)state;
    for (uint32_t at = 0; at < 150; at += 50)
        wire_push(w, s, in + at, 50, 0);
    WIRE_UNTIL(w, s->applied == 150 && s->results == 150);
    results_check(s, by_device);
    assert_int_equal(states_rollback(w, s, 80), SSMD__CODE__OK);
    for (uint32_t at = 80; at < 200; at += 40)
        wire_push(w, s, in + at, 40, 0);
    WIRE_UNTIL(w, s->applied == 200 && s->next == 200);
    assert_memory_equal(s->out + s->results - 120, by_device + 80, 120 * sizeof(float));
    assert_int_equal(states_fork(w, "s", "f"), SSMD__CODE__OK);
    forked = wire_open(w, "f", "modes", WIRE_RESULTS | WIRE_RESUME);
    for (uint32_t at = 200; at < FRAMES; at += 50)
        wire_push(w, forked, in + at, 50, 0);
    WIRE_UNTIL(w, forked->next == FRAMES);
    results_check(forked, by_device);
    behind = wire_open(w, "b", "modes", WIRE_RESULTS);
    wire_push(w, behind, in, FRAMES, PROTO_FLAG_BACKFILL);
    WIRE_UNTIL(w, behind->results == FRAMES);
    results_check_nearly(behind, by_device);
    wire_free(w);
    serving_stop(d);
}

/* ---- devices and the processor ----------------------------------------------------------------------------------- */

/* The same configuration file with another backend. */
static void backend_set(struct sys_daemon *d, const char *backend)
{
    FILE *file = fopen(sys_daemon_conf(d), "a");

    assert_non_null(file);
    fprintf(file, "backend = %s\n", backend);
    assert_int_equal(fclose(file), 0);
}

static void states__kept_by_a_device__go_on_on_the_processor(void **state)
{
    struct sys_daemon *d = devices_start("state_dir = @\n", "1", NULL);
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *s = wire_open(w, "s", "modes", WIRE_RESULTS);

    (void)state;
    for (uint32_t at = 0; at < FRAMES / 2; at += 50)
        wire_push(w, s, in + at, 50, 0);
    WIRE_UNTIL(w, s->results == FRAMES / 2);
    wire_credit(w, s, FRAMES / 2, s->limit);
    assert_int_equal(wire_ping(w), SSMD__CODE__OK);
    wire_free(w);
    assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
    backend_set(d, "cpu");
    assert_int_equal(sys_daemon_restart(d), 0);
    w = wire_new(sys_daemon_endpoint(d), "a");
    s = wire_open(w, "s", "modes", WIRE_RESULTS | WIRE_RESUME);
    assert_int_equal(s->sent, FRAMES / 2);
    assert_int_equal(wire_counter(w, "cpu_states"), 1);
    for (uint32_t at = FRAMES / 2; at < FRAMES; at += 50)
        wire_push(w, s, in + at, 50, 0);
    WIRE_UNTIL(w, s->next == FRAMES);
    results_check_nearly(s, by_device);
    wire_free(w);
    serving_stop(d);
}

static void auto__without_a_device__says_why_and_takes_the_processor(void **state)
{
    struct sys_daemon *d = serving_start("cuda_library = /nowhere/libssm-cuda.so\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS);

    (void)state;
    log_says(d, "backend_cpu reason=");
    log_says(d, "/nowhere/libssm-cuda.so");
    log_says(d, "engine_ready backend=cpu");
    wire_push(w, s, in, 50, 0);
    WIRE_UNTIL(w, s->results == 50);
    wire_free(w);
    serving_stop(d);
}

/* Written to a file of its own; the exit code of a daemon that is started with it. */
static int start_code(const char *lines)
{
    char path[] = "/tmp/ssmd-devices-XXXXXX", all[PATH_MAX + 256];
    const char *args[] = {"--config", path, NULL};
    int fd = mkstemp(path), code;

    assert_true(fd >= 0);
    snprintf(all, sizeof(all), "endpoint = ipc://%s.sock\ntap = off\n%s", path, lines);
    assert_int_equal(write(fd, all, strlen(all)), strlen(all));
    close(fd);
    code = sys_daemon_run(args);
    unlink(path);
    return code;
}

static void cuda__without_the_device__does_not_start(void **state)
{
    char lines[PATH_MAX + 100];

    (void)state;
    assert_int_equal(start_code("backend = cuda\ncuda_library = /nowhere/libssm-cuda.so\n"), EX_CONFIG);
    if (!running_isa_here("cuda"))
        skip();
    snprintf(lines, sizeof(lines), "cuda_library = %s\ndevice = 0 7\n", library);
    assert_int_equal(start_code(lines), EX_CONFIG); /* what is named must be there, whatever the backend */
}

/* ---- a device that fails ----------------------------------------------------------------------------------------- */

/* Streams one after another pass the signal through the device until the daemon ends: its exit code. Whatever a stream
 * gave was right. */
static int run_to_failure(struct sys_daemon *d, struct wire *w)
{
    int code = -1;

    for (int number = 0; number < 200 && code == -1; number++) {
        struct wire_stream *s = NULL;
        char id[16];

        snprintf(id, sizeof(id), "f%d", number);
        if (wire_try_open(w, &s, id, "modes", WIRE_RESULTS, 0) != SSMD__CODE__OK)
            return sys_daemon_wait(d, WIRE_MS);
        for (uint32_t at = 0; at < FRAMES && code == -1; at += 50) {
            long until = wire_now_ms() + WIRE_MS;

            wire_push(w, s, in + at, 50, 0);
            while (s->results < at + 50 && (code = sys_daemon_wait(d, 0)) == -1 && wire_now_ms() < until)
                wire_poll(w, 20);
        }
        while (code != -1 && wire_poll(w, 100))
            continue; /* what was on its way */
        results_check(s, by_device);
        assert_true(s->applied <= s->next); /* nothing is acknowledged whose results are not here */
    }
    return code;
}

static void device__that_fails__ends_the_daemon_with_its_code_and_no_wrong_result(void **state)
{
    static const char *const calls[] = {"900,sticky", "1234,sticky", "1500,sticky", "1801,sticky"};

    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        struct sys_daemon *d = devices_start("drain_ms = 2000\n", i % 2 ? "2" : "1", calls[i]);
        struct wire *w = wire_new(sys_daemon_endpoint(d), "a");

        assert_int_equal(run_to_failure(d, w), EX_TEMPFAIL);
        log_says(d, "device_failed engine=cuda");
        log_says(d, "draining reason=\"a device failed\"");
        wire_free(w);
        sys_daemon_free(d);
    }
}

/* The processor has a model that the device has no memory for: it stays whole, and is kept for the next daemon. */
static void device__that_fails__leaves_streams_of_the_processor_as_a_stop_does(void **state)
{
    struct sys_daemon *d;
    struct wire *w;
    struct wire_stream *s, *lost;

    (void)state;
    setenv("CUDA_HOST_MEMORY", SMALL_MEMORY, 1);
    d = devices_start("state_dir = @\n", "1", "1500,sticky");
    unsetenv("CUDA_HOST_MEMORY");
    w = wire_new(sys_daemon_endpoint(d), "a");
    s = wire_open(w, "big", "big", WIRE_RESULTS);
    log_says(d, "model_not_on_device model=big engine=cuda0");
    assert_int_equal(wire_counter(w, "cpu_states"), 1);
    wire_push(w, s, in, 100, 0);
    WIRE_UNTIL(w, s->results == 100);
    wire_credit(w, s, 100, s->limit);
    wire_push(w, s, in + 100, 50, 0);
    assert_int_equal(run_to_failure(d, w), EX_TEMPFAIL);
    assert_int_equal(s->applied, 150);
    results_check(s, by_big);
    wire_free(w);
    log_says(d, "states_kept streams=1");
    log_says(d, "reason=\"its device failed\"");
    assert_int_equal(sys_daemon_restart(d), 0); /* without devices that fail, as the environment is now */
    w = wire_new(sys_daemon_endpoint(d), "a");
    assert_int_equal(wire_counter(w, "states_taken_up"), 1);
    s = wire_open(w, "big", "big", WIRE_RESULTS | WIRE_RESUME);
    assert_int_equal(s->sent, 150);
    for (uint32_t at = 150; at < FRAMES; at += 50)
        wire_push(w, s, in + at, 50, 0);
    WIRE_UNTIL(w, s->next == FRAMES);
    results_check_nearly(s, by_big); /* this time the device has room */
    assert_int_equal(wire_try_open(w, &lost, "f0", "modes", WIRE_RESULTS | WIRE_RESUME, 0), SSMD__CODE__NO_STREAM);
    wire_free(w);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams__on_two_devices__are_spread_and_computed_there),
        cmocka_unit_test(streams__hundreds_at_once__share_batches_and_no_bit),
        cmocka_unit_test(streams__rollback_and_fork_and_backfill__work_on_a_device),
        cmocka_unit_test(states__kept_by_a_device__go_on_on_the_processor),
        cmocka_unit_test(auto__without_a_device__says_why_and_takes_the_processor),
        cmocka_unit_test(cuda__without_the_device__does_not_start),
        cmocka_unit_test(device__that_fails__ends_the_daemon_with_its_code_and_no_wrong_result),
        cmocka_unit_test(device__that_fails__leaves_streams_of_the_processor_as_a_stop_does),
    };

    return cmocka_run_group_tests_name("devices", tests, devices_group_open, devices_group_close);
}
