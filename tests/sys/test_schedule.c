/* SPDX-License-Identifier: Apache-2.0
 *
 * Deadlines, priorities, queues and admission in the real daemon. Whose turn it is in which order is tested in simulated
 * time (tests/daemon/test_lane.c); here, that it is so on the wire. Nothing is said of how long anything takes: what
 * must be late waits for credit, and what must be early has an hour.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char feature[] = "schedule";

static struct wire *schedule_connect(struct sys_daemon *d, const char *writer)
{
    struct wire *w = wire_connect(sys_daemon_endpoint(d), writer);

    w->feature = feature;
    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    return w;
}

static const Ssmd__StreamInfo *stream_info(struct wire *w, const char *id)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Info info = SSMD__INFO__INIT;

    info.id = wire_bytes(id);
    message.request_case = SSMD__FROM_CLIENT__REQUEST_INFO;
    message.info = &info;
    assert_int_equal(wire_request(w, &message), SSMD__CODE__OK);
    return w->reply->stream;
}

static const Ssmd__ModelInfo *model_info(struct wire *w, const char *name)
{
    char model[256];

    snprintf(model, sizeof(model), "%s", name); /* it may be of the last reply */
    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    for (size_t i = 0; i < w->reply->hello->n_models; i++)
        if (strcmp(w->reply->hello->models[i]->name, model) == 0)
            return w->reply->hello->models[i];
    fail_msg("no model %s", name);
    return NULL;
}

/* Two results for a frame; a frame is no time at all, so that no chunk is ahead of real time. */
#define QUICK "memory:rate=1e7,channels=1,order=2,window=1e-5"

/* ---- deadlines --------------------------------------------------------------------------------------------------- */

static void deadlines__by_class__are_kept_or_counted(void **state)
{
    struct sys_daemon *d = serving_start("class = soon deadline=1\nclass = hour deadline=3600000\n"
                                         "serve = twice class=hour\nresult_ring = 4K\n");
    struct wire *w = schedule_connect(d, "w");
    static float in[2048];
    struct wire_stream *a, *b;

    (void)state;
    w->class = NULL;
    a = wire_open(w, "a", "twice", WIRE_RESULTS);
    w->class = (char *)"soon";
    b = wire_open(w, "b", QUICK, WIRE_RESULTS | WIRE_NO_CREDIT);
    assert_string_equal(stream_info(w, "a")->class_, "hour"); /* its model's */
    assert_string_equal(stream_info(w, "b")->class_, "soon");
    wire_push(w, a, in, 2048, 0);
    WIRE_UNTIL(w, a->results == 2048);
    assert_int_equal(stream_info(w, "a")->deadline_misses, 0);
    wire_push(w, b, in, 512, 0); /* fills the ring */
    WIRE_UNTIL(w, b->applied == 512);
    wire_push(w, b, in, 10, 0);
    wire_push(w, b, in, 10, 0);
    usleep(20000); /* a deadline of 1 ms passes while the ring is full */
    wire_credit(w, b, 0, UINT64_MAX);
    WIRE_UNTIL(w, b->next == 512);
    wire_credit(w, b, 512, UINT64_MAX);
    WIRE_UNTIL(w, b->next == 532);
    assert_true(stream_info(w, "b")->deadline_misses >= 2);
    assert_true(stream_info(w, "b")->deadline_misses <= 3);
    assert_int_equal(stream_info(w, "a")->deadline_misses, 0);
    assert_int_equal(wire_counter(w, "deadline_misses"), stream_info(w, "b")->deadline_misses);
    assert_int_equal(model_info(w, stream_info(w, "b")->model)->deadline_misses, stream_info(w, "b")->deadline_misses);
    wire_free(w);
    serving_stop(d);
}

static void class__unknown_or_without_the_feature__is_refused(void **state)
{
    struct sys_daemon *d = serving_start("class = soon deadline=1\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "w"), *v = schedule_connect(d, "v");
    struct wire_stream *s;

    (void)state;
    w->class = (char *)"soon";
    assert_int_equal(wire_try_open(w, &s, "a", "twice", 0, 0), SSMD__CODE__FEATURE);
    w->class = NULL;
    assert_int_equal(wire_try_open(w, &s, "a", "twice", 0, 0), SSMD__CODE__OK);
    assert_null(stream_info(w, "a")->class_);
    assert_false(stream_info(w, "a")->has_deadline_misses); /* nor is it told of */
    v->class = (char *)"late";
    assert_int_equal(wire_try_open(v, &s, "b", "twice", 0, 0), SSMD__CODE__BAD_OPTION);
    v->class = (char *)"soon";
    assert_int_equal(wire_try_open(v, &s, "b", "twice", 0, 0), SSMD__CODE__OK);
    assert_string_equal(stream_info(v, "b")->class_, "soon");
    assert_null(stream_info(v, "a")->class_);
    wire_free(w);
    wire_free(v);
    serving_stop(d);
}

static void class__of_a_stream__outlives_the_daemon(void **state)
{
    struct sys_daemon *d = serving_start("class = soon deadline=1\nstate_dir = @\n");
    struct wire *w = schedule_connect(d, "w");

    (void)state;
    w->class = (char *)"soon";
    wire_open(w, "a", "twice", 0);
    wire_free(w);
    assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
    assert_int_equal(sys_daemon_restart(d), 0);
    w = schedule_connect(d, "w");
    WIRE_UNTIL(w, wire_counter(w, "streams") == 1);
    assert_string_equal(stream_info(w, "a")->class_, "soon");
    wire_free(w);
    serving_stop(d);
}

/* ---- queues ------------------------------------------------------------------------------------------------------ */

static void queue__of_a_model__is_full_for_its_streams_only(void **state)
{
    struct sys_daemon *d = serving_start("serve = twice queue=4K\nresult_ring = 4K\n");
    struct wire *w = schedule_connect(d, "w");
    static float in[4096];
    struct wire_stream *a, *b, *c;

    (void)state;
    a = wire_open(w, "a", "twice", WIRE_RESULTS | WIRE_NO_CREDIT);
    b = wire_open(w, "b", "twice", WIRE_RESULTS);
    c = wire_open(w, "c", "pair", WIRE_RESULTS);
    wire_push(w, a, in, 1024, 0);
    WIRE_UNTIL(w, a->applied == 1024); /* its ring is full */
    wire_push(w, a, in, 1000, 0);      /* waits: 4000 of 4096 bytes */
    wire_push(w, b, in, 100, 0);
    WIRE_UNTIL(w, wire_refusals(w, SSMD__CODE__OVERFLOW) == 1);
    assert_non_null(strstr(wire_last_refusal(w)->text, "serve"));
    assert_int_equal(wire_counter(w, "chunks_overflow_model"), 1);
    assert_int_equal(model_info(w, "twice")->queued_bytes, 4000);
    wire_push(w, c, in, 2048, 0);
    WIRE_UNTIL(w, c->results == 2048);
    wire_credit(w, a, 0, UINT64_MAX);
    WIRE_UNTIL(w, a->next == 1024);
    wire_credit(w, a, 1024, UINT64_MAX);
    WIRE_UNTIL(w, a->next == 2024);
    b->sent = 0; /* again */
    wire_push(w, b, in, 100, 0);
    WIRE_UNTIL(w, b->results == 100);
    assert_int_equal(model_info(w, "twice")->queued_bytes, 0);
    wire_free(w);
    serving_stop(d);
}

/* ---- admission --------------------------------------------------------------------------------------------------- */

/* 10^7 frames in a second, each with a product of 64 by 64: no machine does that in a hundredth of its time. */
#define HEAVY "memory:rate=1e7,channels=1,order=64,window=1e-4"

static void admission__refuse__keeps_what_it_has_no_time_for_out(void **state)
{
    struct sys_daemon *d = serving_start("admission = refuse\nadmission_load = 1\n");
    struct wire *w = schedule_connect(d, "w");
    struct wire_stream *s;

    (void)state;
    assert_int_equal(wire_try_open(w, &s, "heavy", HEAVY, 0, 0), SSMD__CODE__LIMIT);
    assert_non_null(strstr(w->reply->error->text, "admission_load"));
    assert_int_equal(wire_counter(w, "limit_load"), 1);
    assert_int_equal(wire_try_open(w, &s, "light", "memory:rate=1,channels=1,order=8,window=9", 0, 0), SSMD__CODE__OK);
    assert_int_equal(wire_counter(w, "streams"), 1);
    wire_free(w);
    serving_stop(d);
}

static void admission__warn_and_off__let_it_in(void **state)
{
    struct sys_daemon *d = serving_start("admission_load = 1\n");
    struct wire *w = schedule_connect(d, "w");
    const Ssmd__ModelInfo *model;

    (void)state;
    wire_open(w, "heavy", HEAVY, 0);
    assert_int_equal(wire_counter(w, "opens_warned_load"), 1);
    assert_non_null(strstr(sys_daemon_log(d), "overload_ahead"));
    model = model_info(w, stream_info(w, "heavy")->model);
    assert_true(model->has_cost && model->cost > 0.01);
    assert_true(model->load == model->cost); /* it counts as live from its open on */
    wire_free(w);
    serving_stop(d);
    d = serving_start("admission = off\nadmission_load = 1\n");
    w = schedule_connect(d, "w");
    wire_open(w, "heavy", HEAVY, 0);
    assert_int_equal(wire_counter(w, "opens_warned_load"), 0);
    wire_free(w);
    serving_stop(d);
}

/* ---- fairness ---------------------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HOG_FRAMES 3000 /* an instrumented product of matrices is slow */
#else
#define HOG_FRAMES 30000
#endif

enum { HOGS = 6, ASKED = 50 };

/* Some send as fast as the windows let them, live and as backfill, to two models. One asks for a little at a time, and
 * has every answer before they are through. */
static void one_stream_beside_hogs__is_answered_before_they_are_through(void **state)
{
    struct sys_daemon *d = serving_start("stream_window = 256M\nconnection_window = 512M\ninput_memory = 1G\n"
                                         "result_ring = 1M\n");
    struct wire *hog = schedule_connect(d, "hog"), *w = schedule_connect(d, "w");
    struct wire_stream *hogs[HOGS], *s;
    float *in = calloc(HOG_FRAMES, sizeof(*in));

    (void)state;
    assert_non_null(in);
    for (uint32_t i = 0; i < HOGS; i++) {
        char id[16];

        snprintf(id, sizeof(id), "hog%u", i);
        hogs[i] = wire_open(hog, id, i % 2 ? "memory:rate=1000,channels=1,order=128,window=1" : "twice", 0);
    }
    s = wire_open(w, "s", "memory:rate=1000,channels=1,order=128,window=1", WIRE_RESULTS);
    for (int round = 0; round < 8; round++)
        for (uint32_t i = 0; i < HOGS; i++)
            wire_push(hog, hogs[i], in, HOG_FRAMES, i >= HOGS / 2 ? PROTO_FLAG_BACKFILL : 0);
    for (uint64_t i = 1; i <= ASKED; i++) {
        wire_push(w, s, in, 10, 0);
        WIRE_UNTIL(w, s->results == 10 * i);
    }
    assert_true(stream_info(w, "hog1")->queued > 0); /* else the test shows nothing */
    assert_true(stream_info(w, "hog5")->queued > 0);
    for (uint32_t i = 0; i < HOGS; i++)
        WIRE_UNTIL(hog, hogs[i]->applied == 8 * HOG_FRAMES);
    assert_true(stream_info(w, "hog5")->has_catch_up &&
                stream_info(w, "hog5")->catch_up > 1000); /* real time and more */
    assert_false(stream_info(w, "hog1")->has_catch_up);
    assert_int_equal(stream_info(w, "hog5")->deadline_misses, 0); /* backfill has no deadline */
    free(in);
    wire_free(w);
    wire_free(hog);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deadlines__by_class__are_kept_or_counted),
        cmocka_unit_test(class__unknown_or_without_the_feature__is_refused),
        cmocka_unit_test(class__of_a_stream__outlives_the_daemon),
        cmocka_unit_test(queue__of_a_model__is_full_for_its_streams_only),
        cmocka_unit_test(admission__refuse__keeps_what_it_has_no_time_for_out),
        cmocka_unit_test(admission__warn_and_off__let_it_in),
        cmocka_unit_test(one_stream_beside_hogs__is_answered_before_they_are_through),
    };

    return cmocka_run_group_tests(tests, serving_group_open, serving_group_close);
}
