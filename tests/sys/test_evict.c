/* SPDX-License-Identifier: Apache-2.0
 *
 * Idle streams that leave memory for an image: nobody sees in the results that they were away, nobody finds them gone
 * without being told, and what cannot be taken up again stops nobody.
 */
#include "tests/sys/publishing.h"
#include "tests/sys/serving.h"
#include "tests/sys/states.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define READ_BYTES (64u << 20)
#define MODEL      "case-lti-zoh" /* 2 channels in, 3 out, with a memory */
#define SOON       "state_dir = @\nevict_ms = 1\n"
#define LINES      PUBLISHING_ENDPOINT "publish = s model=" MODEL " gap=hold source_ms=86400000\n"

enum { FRAMES = 400, IN = 2 };

static struct reference lti;
static float *expected; /* of all frames */

static int group_open(void **state)
{
    if (states_group_open(state) != 0)
        return -1;
    reference_load(&lti, "lti-zoh");
    expected = malloc(FRAMES * lti.out_channels * sizeof(float));
    assert_non_null(expected);
    reference_step(&lti, lti.in, FRAMES, expected);
    return 0;
}

static int group_close(void **state)
{
    free(expected);
    reference_free(&lti);
    return states_group_close(state);
}

static const float *in_at(uint64_t frame)
{
    return (const float *)lti.in + frame * IN;
}

static void path_of(const struct sys_daemon *d, const char *id, const char *suffix, char path[300])
{
    size_t n = (size_t)snprintf(path, 300, "%s/evicted/", sys_daemon_directory(d));

    for (; *id; id++)
        n += (size_t)snprintf(path + n, 300 - n, "%02x", (unsigned char)*id);
    snprintf(path + n, 300 - n, "%s", suffix);
}

static bool has_image(const struct sys_daemon *d, const char *id)
{
    char path[300];

    path_of(d, id, ".ssmd", path);
    return access(path, F_OK) == 0;
}

/* The last `frames` results that came are those of frames below `end`. */
static void tail_check(struct wire *w, const char *id, uint64_t end, uint32_t frames, const float *all)
{
    const struct wire_stream *s;

    WIRE_UNTIL(w, (s = wire_find(w, id)) != NULL && s->next == end);
    assert_in_range(s->results, frames, FRAMES);
    assert_memory_equal(s->out + (s->results - frames) * lti.out_channels, all + (end - frames) * lti.out_channels,
                        frames * lti.out_channels * sizeof(float));
}

/* ---- by time ----------------------------------------------------------------------------------------------------- */

static void idle__published__leaves_and_comes_back_with_the_same_bits(void **state)
{
    struct sys_daemon *d = serving_start(LINES SOON);
    struct wire *w = wire_new(sys_daemon_endpoint(d), "r");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN);
    float in[FRAMES * IN], *out = malloc(FRAMES * lti.out_channels * sizeof(float));

    (void)state;
    assert_non_null(out);
    memcpy(in, lti.in, sizeof(in)); /* frames 100 to 149 never come; the last before them stands in, though it left */
    for (uint32_t i = 100; i < 150; i++)
        memcpy(in + i * IN, in_at(99), IN * sizeof(float));
    reference_step(&lti, in, FRAMES, out);
    assert_int_equal(wire_read(w, "s", true, NULL, READ_BYTES), SSMD__CODE__OK);
    publishing_send(p, "s1", 1000, in_at(0), 100);
    publishing_counter_wait(w, "evictions", 1);
    assert_string_equal(watching_wait(t, SSMD__EVENT__KIND__EVICTED, 0)->id, "s1");
    assert_int_equal(wire_counter(w, "streams"), 0);
    assert_int_equal(wire_events(w, SSMD__EVENT__KIND__ENDED), 1); /* who did not ask for more hears what it knows */
    assert_true(has_image(d, "s1"));
    publishing_send(p, "s1", 1150, in_at(150), 250);
    tail_check(w, "s1", FRAMES, 300, out);
    assert_int_equal(wire_counter(w, "evictions_returned"), 1);
    assert_int_equal(wire_counter(w, "publish_sources"), 1);
    assert_int_equal(wire_counter(w, "publish_frames_filled"), 50);
    free(out);
    publishing_free(p);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

static void idle__then_another_daemon__is_still_an_image_and_comes_back(void **state)
{
    struct sys_daemon *d = serving_start(LINES SOON);
    struct wire *w = wire_new(sys_daemon_endpoint(d), "r");
    struct publishing *p = publishing_new(d, "run", IN);

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_counter_wait(w, "evictions", 1);
    publishing_free(p);
    wire_free(w);
    assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
    assert_true(has_image(d, "s1"));
    assert_int_equal(sys_daemon_restart(d), 0);
    w = wire_new(sys_daemon_endpoint(d), "r");
    assert_int_equal(wire_counter(w, "streams"), 0);
    assert_int_equal(wire_read(w, "s", true, NULL, READ_BYTES), SSMD__CODE__OK);
    p = publishing_new(d, "run", IN);
    publishing_send(p, "s1", 100, in_at(100), 300);
    tail_check(w, "s1", FRAMES, 300, expected);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

/* Data comes while images are written, read, or neither: whatever happens, no frame is lost or taken twice. */
static void idle__and_fed_at_any_moment__loses_nothing(void **state)
{
    struct sys_daemon *d = serving_start(LINES SOON);
    struct wire *w = wire_new(sys_daemon_endpoint(d), "r");
    struct publishing *p = publishing_new(d, "run", IN);

    (void)state;
    assert_int_equal(wire_read(w, "s", true, NULL, READ_BYTES), SSMD__CODE__OK);
    for (uint32_t i = 0; i < FRAMES; i += 20) {
        uint64_t left = wire_counter(w, "evictions");

        publishing_send(p, "s1", i, in_at(i), 20);
        tail_check(w, "s1", i + 20, 20, expected);
        for (uint32_t k = 0; k < i || i % 40 == 0; k++) /* sometimes to the end of an eviction */
            if (wire_counter(w, "evictions") > left)
                break;
    }
    assert_in_range(wire_counter(w, "evictions"), FRAMES / 40, FRAMES / 20);
    assert_int_equal(wire_counter(w, "publish_gaps_filled"), 0);
    assert_int_equal(wire_counter(w, "publish_sources"), 1);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

/* ---- clients ----------------------------------------------------------------------------------------------------- */

static void idle__of_a_client_that_went__is_resumed_with_what_it_had_not_received(void **state)
{
    struct sys_daemon *d = serving_start(SOON "idle_ms = 1000\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "stays"), *c = wire_new(sys_daemon_endpoint(d), "goes");
    struct wire_stream *held = wire_open(w, "s0", MODEL, WIRE_RESULTS);
    struct wire_stream *s = wire_open(c, "s1", MODEL, WIRE_RESULTS | WIRE_NO_CREDIT);

    (void)state;
    wire_push(w, held, in_at(0), 100, 0);
    wire_push(c, s, in_at(0), 100, 0);
    WIRE_UNTIL(c, s->applied == 100);
    wire_free(c);
    publishing_counter_wait(w, "evictions", 1);
    assert_true(has_image(d, "s1"));
    c = wire_new(sys_daemon_endpoint(d), "another");
    assert_int_equal(wire_try_open(c, &s, "s1", MODEL, WIRE_RESULTS, 0), SSMD__CODE__OWNED);
    wire_free(c);
    c = wire_new(sys_daemon_endpoint(d), "goes");
    s = wire_open(c, "s1", MODEL, WIRE_RESULTS | WIRE_RESUME);
    assert_int_equal(s->sent, 100);
    assert_int_equal(s->next, 0);
    wire_push(c, s, in_at(100), 300, 0);
    tail_check(c, "s1", FRAMES, FRAMES, expected);
    wire_push(w, held, in_at(100), 300, 0); /* a connection held it: it was there all the time */
    tail_check(w, "s0", FRAMES, FRAMES, expected);
    assert_int_equal(wire_events(w, SSMD__EVENT__KIND__EVICTED), 0);
    assert_int_equal(wire_counter(w, "streams"), 2);
    wire_free(c);
    wire_free(w);
    serving_stop(d);
}

static void idle__of_a_client_that_asked_for_it__is_told_and_opened_again(void **state)
{
    struct sys_daemon *d = serving_start(SOON);
    struct wire *w = wire_connect(sys_daemon_endpoint(d), "one"), *r = wire_connect(sys_daemon_endpoint(d), "reader");
    struct wire_stream *s;

    (void)state;
    w->feature = r->feature = (char *)(uintptr_t) "evictions";
    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    assert_int_equal(wire_hello(r), SSMD__CODE__OK);
    assert_int_equal(wire_read(r, "s", true, NULL, READ_BYTES), SSMD__CODE__OK);
    s = wire_open(w, "s1", MODEL, WIRE_RESULTS);
    wire_push(w, s, in_at(0), 100, 0);
    WIRE_UNTIL(w, wire_events(w, SSMD__EVENT__KIND__EVICTED) == 1);
    WIRE_UNTIL(r, wire_events(r, SSMD__EVENT__KIND__EVICTED) == 1);
    assert_int_equal(wire_events(r, SSMD__EVENT__KIND__ENDED), 0);
    assert_int_equal(s->results, 100);
    wire_push(w, s, in_at(100), 10, 0); /* on its way when it left: dropped, and not counted as taken */
    publishing_counter_wait(w, "chunks_dead_handle", 1);
    s = wire_open(w, "s1", MODEL, WIRE_RESULTS);
    assert_int_equal(s->sent, 100);
    wire_push(w, s, in_at(100), 300, 0);
    tail_check(w, "s1", FRAMES, 300, expected);
    wire_free(r);
    wire_free(w);
    serving_stop(d);
}

static void id__of_an_evicted_stream__is_taken(void **state)
{
    struct sys_daemon *d = serving_start(LINES SOON);
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "w");
    struct publishing *p = publishing_new(d, "run", IN);
    struct wire_stream *s, *other;
    struct states_image image;

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_counter_wait(w, "evictions", 1);
    other = wire_open(w, "other", MODEL, 0);
    wire_push(w, other, in_at(0), 10, 0);
    WIRE_UNTIL(w, other->applied == 10);
    states_refused(w, states_fork(w, "other", "s1"), SSMD__CODE__EXISTS, "evicted");
    assert_int_equal(states_snapshot(w, "other", &image), SSMD__CODE__OK);
    states_refused(w, states_restore(w, image.bytes, image.size, "s1"), SSMD__CODE__EXISTS, "evicted");
    free(image.bytes);
    states_refused(w, wire_try_open(w, &s, "s1", MODEL, WIRE_CREATE, 0), SSMD__CODE__EXISTS, "exists");
    publishing_counter_wait(w, "evictions", 2); /* that brought it back */
    assert_int_equal(wire_try_open(w, &s, "s1", "twice", WIRE_TAKE_OVER, 0), SSMD__CODE__EXISTS);
    assert_int_equal(wire_try_open(w, &s, "s1", MODEL, WIRE_TAKE_OVER, 0), SSMD__CODE__OK);
    assert_int_equal(s->sent, 100);
    assert_false(has_image(d, "s1"));
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

/* ---- when full --------------------------------------------------------------------------------------------------- */

static void full__of_idle_streams__makes_room_for_data_and_clients(void **state)
{
    struct sys_daemon *d =
        serving_start(LINES "publish = a model=" MODEL "\nstate_dir = @\nevict_when_full = yes\nmax_streams = 2\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "w");
    struct publishing *p = publishing_new(d, "run", IN);
    struct wire_stream *s, *x, *y;

    (void)state;
    assert_int_equal(wire_read(w, "s", true, NULL, READ_BYTES), SSMD__CODE__OK);
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_counter_wait(w, "frames_applied", 100);
    publishing_send(p, "s2", 0, in_at(0), 100);
    publishing_counter_wait(w, "frames_applied", 200);
    publishing_send(p, "s3", 0, in_at(0), 100); /* s1 goes */
    publishing_counter_wait(w, "frames_applied", 300);
    assert_true(has_image(d, "s1"));
    x = wire_open(w, "x", MODEL, 0); /* s2 goes */
    assert_true(has_image(d, "s2"));
    publishing_send(p, "s1", 100, in_at(100), 300); /* comes back, s3 goes */
    tail_check(w, "s1", FRAMES, 300, expected);
    assert_true(has_image(d, "s3") && !has_image(d, "s1"));
    y = wire_open(w, "y", MODEL, 0);
    assert_int_equal(wire_counter(w, "streams"), 2);
    assert_int_equal(wire_counter(w, "evictions"), 4);
    assert_int_equal(wire_try_open(w, &s, "z", MODEL, 0, 0), SSMD__CODE__LIMIT); /* both are held */
    assert_int_equal(wire_try_open(w, &s, "s1", MODEL, WIRE_RESUME | WIRE_TAKE_OVER, 0), SSMD__CODE__LIMIT);
    assert_true(has_image(d, "s1"));
    assert_int_equal(wire_close(w, x), SSMD__CODE__OK);
    assert_int_equal(wire_close(w, y), SSMD__CODE__OK);
    assert_int_equal(wire_try_open(w, &s, "s1", MODEL, WIRE_RESUME | WIRE_TAKE_OVER, 0), SSMD__CODE__OK);
    assert_int_equal(s->sent, FRAMES);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

static void full__without_the_policy__refuses_and_says_so(void **state)
{
    struct sys_daemon *d = serving_start(LINES "max_streams = 1\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "w");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN);

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_counter_wait(w, "frames_applied", 100);
    publishing_send(p, "s2", 0, in_at(0), 100);
    assert_non_null(strstr(watching_wait(t, SSMD__EVENT__KIND__PUBLISH_REFUSED, 0)->text, "max_streams"));
    assert_int_equal(wire_counter(w, "publish_dropped"), 1);
    publishing_free(p);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

/* ---- what goes wrong --------------------------------------------------------------------------------------------- */

static void image__damaged__is_set_aside_and_the_id_is_free(void **state)
{
    struct sys_daemon *d = serving_start(LINES SOON);
    struct wire *w = wire_new(sys_daemon_endpoint(d), "w");
    struct publishing *p = publishing_new(d, "run", IN);
    struct wire_stream *s;
    char path[300];
    FILE *file;

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_counter_wait(w, "evictions", 1);
    path_of(d, "s1", ".ssmd", path);
    file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -20, SEEK_END), 0);
    assert_int_equal(fputc(0x5a, file), 0x5a);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(wire_try_open(w, &s, "s1", MODEL, 0, 0), SSMD__CODE__BAD_IMAGE);
    path_of(d, "s1", ".ssmd.refused", path);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(wire_counter(w, "states_refused"), 1);
    assert_int_equal(wire_try_open(w, &s, "s1", MODEL, 0, 0), SSMD__CODE__OK);
    assert_int_equal(s->sent, 0);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

static void folder__that_cannot_be__leaves_the_stream_where_it_is(void **state)
{
    struct sys_daemon *d = serving_start(LINES SOON);
    struct wire *w = wire_new(sys_daemon_endpoint(d), "w");
    struct publishing *p = publishing_new(d, "run", IN);
    char path[300];
    FILE *file;

    (void)state;
    snprintf(path, sizeof(path), "%s/evicted", sys_daemon_directory(d));
    file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(wire_read(w, "s", true, NULL, READ_BYTES), SSMD__CODE__OK);
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_counter_wait(w, "evictions_failed", 1);
    publishing_send(p, "s1", 100, in_at(100), 300);
    tail_check(w, "s1", FRAMES, FRAMES, expected);
    assert_int_equal(wire_counter(w, "evictions"), 0);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle__published__leaves_and_comes_back_with_the_same_bits),
        cmocka_unit_test(idle__then_another_daemon__is_still_an_image_and_comes_back),
        cmocka_unit_test(idle__and_fed_at_any_moment__loses_nothing),
        cmocka_unit_test(idle__of_a_client_that_went__is_resumed_with_what_it_had_not_received),
        cmocka_unit_test(idle__of_a_client_that_asked_for_it__is_told_and_opened_again),
        cmocka_unit_test(id__of_an_evicted_stream__is_taken),
        cmocka_unit_test(full__of_idle_streams__makes_room_for_data_and_clients),
        cmocka_unit_test(full__without_the_policy__refuses_and_says_so),
        cmocka_unit_test(image__damaged__is_set_aside_and_the_id_is_free),
        cmocka_unit_test(folder__that_cannot_be__leaves_the_stream_where_it_is),
    };

    return cmocka_run_group_tests(tests, group_open, group_close);
}
