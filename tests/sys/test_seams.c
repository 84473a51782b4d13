/* SPDX-License-Identifier: Apache-2.0
 *
 * Where parts of the daemon meet: a stop while models load, moves that cannot be, eviction beside reloads, forks and
 * restores that come too many at once, gaps beside a model's queue. Each test was a bug that no part had alone.
 */
#include "tests/ssm/making.h"
#include "tests/sys/publishing.h"
#include "tests/sys/states.h"
#include "tests/sys/versions.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define EVICTING PUBLISHING_ENDPOINT "publish = s model=wave source_ms=86400000\nstate_dir = @\nevict_ms = 1\n"

static const float zeros[100];

/* A model that looks 8 frames ahead: a wave, scaled, through a convolution. */
static void ahead_write(const struct versions_site *site, double gain)
{
    struct making m;
    char path[256];

    making_init(&m, 5);
    making_tensor(&m, 0, "l.log_dt", 1, 1)[0] = logf(0.01f);
    memcpy(making_tensor(&m, 0, "l.log_A_real", 2, 1, 2), (float[]){1, 1}, 2 * sizeof(float));
    memcpy(making_tensor(&m, 0, "l.A_imag", 2, 1, 2), (float[]){80, 200}, 2 * sizeof(float));
    memcpy(making_tensor(&m, 0, "l.C", 3, 1, 2, 2), (float[]){1, 2, 3, 4}, 4 * sizeof(float));
    (void)making_tensor(&m, 1, "l.D", 1, 1);
    (void)making_tensor(&m, 1, "k.weight", 3, 1, 1, 9);
    making_layers(&m,
                  "{'type':'s4d','name':'l','channels':1,'state':4,'discretization':'zoh'},{'type':'scale','value':%g},"
                  "{'type':'conv1d','name':'k','in':1,'out':1,'kernel':9,'padding':'valid','bias':false}",
                  gain);
    snprintf(path, sizeof(path), "%s/ahead", site->dir.path);
    (void)mkdir(path, 0755);
    making_write(&m, path, 1, 1);
    making_fini(&m);
}

static void stop__while_models_load__keeps_the_streams(void **state)
{
    enum { MODELS = 40 };
    struct versions_site site;
    char name[16];

    (void)state;
    versions_open(&site, "state_dir = @\nmodel_memory = 2G\n");
    for (int i = 0; i < MODELS; i++) {
        snprintf(name, sizeof(name), "h%d", i);
        versions_write_heavy(&site, name, 1);
    }
    (void)wire_open(site.wire, "keep", "wave", WIRE_RESULTS);
    for (int i = 0; i < MODELS; i++) {
        Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
        Ssmd__Open open = SSMD__OPEN__INIT;

        snprintf(name, sizeof(name), "h%d", i);
        open.id = wire_bytes(name);
        open.model = name;
        message.request_case = SSMD__FROM_CLIENT__REQUEST_OPEN;
        message.open = &open;
        wire_request_send(site.wire, &message);
    }
    assert_int_equal(wire_ping(site.wire), SSMD__CODE__OK);
    assert_int_equal(sys_daemon_stop(site.daemon, WIRE_MS), 0);
    assert_non_null(strstr(sys_daemon_log(site.daemon), "states_kept"));
    wire_free(site.wire);
    sys_daemon_free(site.daemon);
    model_dir_fini(&site.dir);
}

static void move__whose_results_were_not_taken__is_kept_over_a_stop(void **state)
{
    struct versions_site site;
    struct wire_stream *s;
    struct wire *w;

    (void)state;
    versions_open(&site, "state_dir = @\n");
    ahead_write(&site, 1);
    w = versions_wire(&site, "two");
    s = wire_open(w, "s", "ahead", WIRE_RESULTS | WIRE_NO_CREDIT);
    versions_push(w, s, 100);
    WIRE_UNTIL(w, s->applied == 100);
    ahead_write(&site, 2);
    assert_int_equal(wire_reload(site.wire, "ahead"), SSMD__CODE__OK);
    wire_move_send(w, s);
    assert_int_equal(wire_ping(w), SSMD__CODE__OK);
    wire_free(w);
    wire_free(site.wire);
    assert_int_equal(sys_daemon_stop(site.daemon, WIRE_MS), 0);
    assert_null(strstr(sys_daemon_log(site.daemon), "stream_not_kept"));
    sys_daemon_free(site.daemon);
    model_dir_fini(&site.dir);
}

static void stream__evicted_before_a_reload__comes_back_with_its_version(void **state)
{
    struct versions_site site;
    struct publishing *p;

    (void)state;
    versions_open(&site, EVICTING);
    p = publishing_new(site.daemon, "run", 1);
    publishing_send(p, "s1", 0, zeros, 100);
    publishing_counter_wait(site.wire, "evictions", 1);
    versions_write_wave(&site, "wave", 2, 1);
    assert_int_equal(wire_reload(site.wire, NULL), SSMD__CODE__OK);
    assert_int_equal(wire_counter(site.wire, "models_reloaded"), 1);
    publishing_send(p, "s1", 100, zeros, 100);
    publishing_counter_wait(site.wire, "evictions_returned", 1);
    publishing_counter_wait(site.wire, "frames_applied", 200);
    assert_int_equal(wire_counter(site.wire, "states_refused"), 0);
    publishing_free(p);
    versions_close(&site);
}

static void stream__that_comes_back__is_no_new_epoch_to_readers(void **state)
{
    struct versions_site site;
    struct publishing *p;
    struct wire *r;

    (void)state;
    versions_open(&site, EVICTING);
    r = wire_new(sys_daemon_endpoint(site.daemon), "r");
    p = publishing_new(site.daemon, "run", 1);
    assert_int_equal(wire_read(r, "s", true, NULL, 1 << 20), SSMD__CODE__OK);
    publishing_send(p, "s1", 0, zeros, 100);
    publishing_counter_wait(r, "evictions", 1);
    publishing_send(p, "s1", 100, zeros, 100);
    publishing_counter_wait(r, "evictions_returned", 1);
    WIRE_UNTIL(r, wire_find(r, "s1")->next == 200);
    assert_int_equal(wire_events(r, SSMD__EVENT__KIND__EPOCH), 0);
    publishing_free(p);
    wire_free(r);
    versions_close(&site);
}

static void restores__at_once__keep_to_max_streams(void **state)
{
    enum { IMAGES = 8 };
    struct versions_site site;
    struct states_image image;
    uint32_t numbers[IMAGES];
    char id[IMAGES][16];

    (void)state;
    versions_open(&site, "max_streams = 2\n");
    (void)wire_open(site.wire, "s", "wave", 0);
    assert_int_equal(states_snapshot(site.wire, "s", &image), SSMD__CODE__OK);
    for (int i = 0; i < IMAGES; i++)
        assert_int_equal(states_put(site.wire, image.bytes, image.size, 65536, &numbers[i]), SSMD__CODE__OK);
    for (int i = 0; i < IMAGES; i++) {
        Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
        Ssmd__Restore restore = SSMD__RESTORE__INIT;

        snprintf(id[i], sizeof(id[i]), "r%d", i);
        restore.image = numbers[i];
        restore.has_id = true;
        restore.id = wire_bytes(id[i]);
        message.request_case = SSMD__FROM_CLIENT__REQUEST_RESTORE;
        message.restore = &restore;
        wire_request_send(site.wire, &message);
    }
    WIRE_UNTIL(site.wire, wire_counter(site.wire, "limit_streams") == IMAGES - 1);
    assert_int_equal(wire_counter(site.wire, "streams"), 2);
    free(image.bytes);
    versions_close(&site);
}

static void forks__that_fail_late__leave_the_sum_of_rings_right(void **state)
{
    enum { N = 60 };
    struct versions_site site;
    struct wire_stream *a[N], *x;
    char id[N][16];

    (void)state;
    versions_open(&site, "");
    for (int i = 0; i < N; i++) {
        snprintf(id[i], sizeof(id[i]), "a%d", i);
        a[i] = wire_open(site.wire, id[i], "wave", WIRE_RESULTS);
        versions_push(site.wire, a[i], 1000);
    }
    for (int i = 0; i < N; i++)
        WIRE_UNTIL(site.wire, a[i]->results == 1000);
    kill(sys_daemon_pid(site.daemon), SIGSTOP); /* so that all are under way at once */
    for (int i = 0; i < N; i++) {
        Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
        Ssmd__Fork fork = SSMD__FORK__INIT;

        fork.id = wire_bytes(id[i]);
        fork.new_id = wire_bytes("x");
        message.request_case = SSMD__FROM_CLIENT__REQUEST_FORK;
        message.fork = &fork;
        wire_request_send(site.wire, &message);
    }
    kill(sys_daemon_pid(site.daemon), SIGCONT);
    WIRE_UNTIL(site.wire, wire_counter(site.wire, "requests_refused") == N - 1);
    assert_int_equal(wire_counter(site.wire, "forks"), 1);
    for (int i = 0; i < N; i++) {
        assert_int_equal(wire_close(site.wire, a[i]), SSMD__CODE__OK);
        wire_credit(site.wire, a[i], UINT64_MAX, UINT64_MAX);
    }
    x = wire_open(site.wire, "x", "wave", 0);
    assert_int_equal(wire_close(site.wire, x), SSMD__CODE__OK);
    WIRE_UNTIL(site.wire, wire_counter(site.wire, "streams") == 0);
    assert_int_equal(wire_counter(site.wire, "ring_bytes"), 0);
    versions_close(&site);
}

static void gap__larger_than_the_models_queue__resets(void **state)
{
    struct versions_site site;
    struct publishing *p;

    (void)state;
    versions_open(&site, PUBLISHING_ENDPOINT "publish = s model=wave gap=hold source_ms=86400000\n"
                                             "serve = wave queue=4K\n");
    p = publishing_new(site.daemon, "run", 1);
    publishing_send(p, "s1", 0, zeros, 100);
    publishing_counter_wait(site.wire, "frames_applied", 100);
    publishing_send(p, "s1", 1200, zeros, 100);
    publishing_counter_wait(site.wire, "frames_applied", 200);
    assert_int_equal(wire_counter(site.wire, "publish_gaps_reset"), 1);
    assert_int_equal(wire_counter(site.wire, "chunks_overflow_model"), 0);
    publishing_free(p);
    versions_close(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop__while_models_load__keeps_the_streams),
        cmocka_unit_test(move__whose_results_were_not_taken__is_kept_over_a_stop),
        cmocka_unit_test(stream__evicted_before_a_reload__comes_back_with_its_version),
        cmocka_unit_test(stream__that_comes_back__is_no_new_epoch_to_readers),
        cmocka_unit_test(restores__at_once__keep_to_max_streams),
        cmocka_unit_test(forks__that_fail_late__leave_the_sum_of_rings_right),
        cmocka_unit_test(gap__larger_than_the_models_queue__resets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
