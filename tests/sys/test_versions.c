/* SPDX-License-Identifier: Apache-2.0
 *
 * Versions of models: a reload adds one while streams run, new streams get it, those that are there keep theirs until
 * they are reset, moved or closed; what nobody has is unloaded, and what is too much is refused.
 */
#include "tests/ssm/making.h"
#include "tests/sys/states.h"
#include "tests/sys/versions.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void reload_check(struct wire *w, const char *name, unsigned unchanged, unsigned added, unsigned failed)
{
    const Ssmd__ReloadReply *reply;

    assert_int_equal(wire_reload(w, name), SSMD__CODE__OK);
    assert_int_equal(w->reply->answer_case, SSMD__REPLY__ANSWER_RELOAD);
    reply = w->reply->reload;
    assert_int_equal(reply->unchanged, unchanged);
    assert_int_equal(reply->added, added);
    assert_int_equal(reply->failed, failed);
    assert_true((reply->failure != NULL) == (failed > 0));
}

/* The last reply describes a stream of that version; newest 0: it is the newest. */
static void version_check(const struct wire *w, unsigned version, unsigned newest)
{
    const Ssmd__StreamInfo *info = w->reply->stream;

    assert_int_equal(w->reply->answer_case, SSMD__REPLY__ANSWER_STREAM);
    assert_int_equal(info->version, version);
    assert_int_equal(info->has_newest_version, newest > 0);
    if (newest)
        assert_int_equal(info->newest_version, newest);
}

static void info_ask(struct wire *w, const char *id)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Info info = SSMD__INFO__INIT;

    info.id = wire_bytes(id);
    message.request_case = SSMD__FROM_CLIENT__REQUEST_INFO;
    message.info = &info;
    assert_int_equal(wire_request(w, &message), SSMD__CODE__OK);
}

/* The next frames of the stream, whose results the library's `wave` with the gain gives from `first` on. */
static void go_on(struct wire *w, struct wire_stream *s, uint64_t first, uint32_t frames, double gain, double rate)
{
    uint64_t from = s->results;

    assert_int_equal(s->sent, first);
    versions_push(w, s, frames);
    WIRE_UNTIL(w, s->results == from + frames);
    versions_check(s, from, first, frames, gain, rate);
}

/* Whether hello lists the version of wave, and with how many streams. */
static bool has_version(struct wire *w, unsigned version, unsigned *streams)
{
    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    for (size_t i = 0; i < w->reply->hello->n_models; i++) {
        const Ssmd__ModelInfo *m = w->reply->hello->models[i];

        if (strcmp(m->name, "wave") != 0 || !m->has_version || m->version != version)
            continue;
        *streams = m->streams;
        return true;
    }
    return false;
}

static void reload__of_another_gain__is_for_new_streams_only(void **state)
{
    struct versions_site site;
    struct wire_stream *s, *t;
    unsigned streams;

    (void)state;
    versions_open(&site, "");
    s = wire_open(site.wire, "old", "wave", WIRE_RESULTS);
    version_check(site.wire, 1, 0);
    go_on(site.wire, s, 0, 100, 1, 0);
    reload_check(site.wire, "wave", 1, 0, 0);
    versions_write_wave(&site, "wave", 2, 1);
    t = wire_open(site.wire, "early", "wave", WIRE_RESULTS); /* nobody has read it yet */
    version_check(site.wire, 1, 0);
    go_on(site.wire, t, 0, 10, 1, 0);
    reload_check(site.wire, "wave", 0, 1, 0);
    t = wire_open(site.wire, "new", "wave", WIRE_RESULTS);
    version_check(site.wire, 2, 0);
    go_on(site.wire, t, 0, 100, 2, 0);
    go_on(site.wire, s, 100, 100, 1, 0);
    info_ask(site.wire, "old");
    version_check(site.wire, 1, 2);
    s = wire_open(site.wire, "old", "wave", WIRE_RESULTS); /* resumed, it stays what it is */
    version_check(site.wire, 1, 2);
    WIRE_UNTIL(site.wire, s->next == 200);
    go_on(site.wire, s, 200, 10, 1, 0);
    assert_true(has_version(site.wire, 1, &streams) && streams == 2);
    assert_true(has_version(site.wire, 2, &streams) && streams == 1);
    assert_int_equal(wire_counter(site.wire, "models_reloaded"), 1);
    versions_close(&site);
}

static void reset__of_a_stream_of_an_old_version__takes_the_newest(void **state)
{
    struct versions_site site;
    struct wire_stream *s;
    uint64_t epoch;
    unsigned streams;

    (void)state;
    versions_open(&site, "");
    site.wire->history = (Ssmd__History)SSMD__HISTORY__INIT;
    site.wire->history.interval = site.wire->history.depth = 64;
    s = wire_open(site.wire, "s", "wave", WIRE_RESULTS);
    go_on(site.wire, s, 0, 100, 1, 0);
    versions_write_wave(&site, "wave", 2, 1);
    sys_daemon_signal(site.daemon, SIGHUP);
    WIRE_UNTIL(site.wire, wire_counter(site.wire, "models_reloaded") == 1);
    epoch = s->epoch;
    assert_int_equal(wire_reset(site.wire, s), SSMD__CODE__OK);
    version_check(site.wire, 2, 0);
    assert_true(s->epoch > epoch && s->sent == 0);
    go_on(site.wire, s, 0, 200, 2, 0);
    assert_int_equal(states_rollback(site.wire, s, 150), SSMD__CODE__OK); /* its history went along */
    go_on(site.wire, s, 150, 30, 2, 0);
    WIRE_UNTIL(site.wire, !has_version(site.wire, 1, &streams));
    assert_int_equal(wire_counter(site.wire, "streams_moved"), 1);
    versions_close(&site);
}

static void reset__of_a_stream_at_another_rate__takes_the_newest_at_it(void **state)
{
    struct versions_site site;
    struct wire_stream *s;

    (void)state;
    versions_open(&site, "");
    site.wire->rate = 50;
    site.wire->native_rate = true;
    s = wire_open(site.wire, "s", "wave", WIRE_RESULTS);
    go_on(site.wire, s, 0, 50, 1, 50);
    versions_write_wave(&site, "wave", 2, 1);
    reload_check(site.wire, NULL, 0, 1, 0);
    go_on(site.wire, s, 50, 50, 1, 50);
    assert_int_equal(wire_reset(site.wire, s), SSMD__CODE__OK);
    version_check(site.wire, 2, 0);
    assert_true(site.wire->reply->stream->rate == 50);
    go_on(site.wire, s, 0, 50, 2, 50);
    versions_close(&site);
}

static void move__sends_every_result_and_begins_again_with_the_newest(void **state)
{
    struct versions_site site;
    struct wire_stream *s;
    uint64_t epoch;

    (void)state;
    versions_open(&site, "");
    s = wire_open(site.wire, "s", "wave", WIRE_RESULTS);
    epoch = s->epoch;
    versions_push(site.wire, s, 100);
    assert_int_equal(wire_move(site.wire, s), SSMD__CODE__OK); /* nothing newer: nothing happens */
    version_check(site.wire, 1, 0);
    assert_true(s->epoch == epoch && s->sent == 100);
    s->next = s->results;
    WIRE_UNTIL(site.wire, s->results == 100);
    versions_write_wave(&site, "wave", 2, 1);
    reload_check(site.wire, "wave", 0, 1, 0);
    versions_push(site.wire, s, 100); /* in front of the move, so of the old version */
    assert_int_equal(wire_move(site.wire, s), SSMD__CODE__OK);
    version_check(site.wire, 2, 0);
    assert_true(s->epoch > epoch && s->sent == 0);
    assert_int_equal(s->results, 200);
    versions_check(s, 0, 0, 200, 1, 0);
    go_on(site.wire, s, 0, 100, 2, 0);
    versions_close(&site);
}

static void move__of_a_writer_that_is_away__waits_for_it_to_take_its_results(void **state)
{
    struct versions_site site;
    struct wire_stream *s;
    struct wire *w;

    (void)state;
    versions_open(&site, "");
    w = versions_wire(&site, "two");
    s = wire_open(w, "s", "wave", WIRE_RESULTS | WIRE_NO_CREDIT);
    versions_push(w, s, 100);
    versions_write_wave(&site, "wave", 2, 1);
    reload_check(w, "wave", 0, 1, 0);
    wire_move_send(w, s); /* nobody waits for the answer */
    assert_int_equal(wire_ping(w), SSMD__CODE__OK);
    wire_free(w);
    w = versions_wire(&site, "two");
    s = wire_open(w, "s", "wave", WIRE_RESULTS | WIRE_NO_CREDIT);
    version_check(w, 1, 2);
    wire_credit(w, s, 0, 100 * sizeof(float));
    WIRE_UNTIL(w, s->results == 100);
    versions_check(s, 0, 0, 100, 1, 0);
    do
        info_ask(w, "s");
    while (w->reply->stream->version == 1);
    version_check(w, 2, 0);
    assert_int_equal(w->reply->stream->next, 0);
    wire_free(w);
    versions_close(&site);
}

static void version__of_other_shapes__is_not_for_streams_that_are_there(void **state)
{
    struct versions_site site;
    struct wire_stream *s;

    (void)state;
    versions_open(&site, "");
    s = wire_open(site.wire, "s", "wave", WIRE_RESULTS);
    go_on(site.wire, s, 0, 100, 1, 0);
    versions_write_wave(&site, "wave", 1, 2);
    reload_check(site.wire, "wave", 0, 1, 0);
    assert_int_equal(wire_move(site.wire, s), SSMD__CODE__RATE);
    assert_non_null(strstr(site.wire->reply->error->text, "output channels"));
    go_on(site.wire, s, 100, 10, 1, 0);
    assert_int_equal(wire_reset(site.wire, s), SSMD__CODE__OK);
    version_check(site.wire, 1, 2);
    go_on(site.wire, s, 0, 100, 1, 0);
    assert_non_null(strstr(sys_daemon_log(site.daemon), "stream_stays"));
    versions_close(&site);
}

static void reload__of_what_does_not_load__changes_nothing_and_says_why(void **state)
{
    struct versions_site site;
    struct wire_stream *s;

    (void)state;
    versions_open(&site, "");
    s = wire_open(site.wire, "s", "wave", WIRE_RESULTS);
    go_on(site.wire, s, 0, 100, 1, 0);
    versions_write_broken(&site, "wave");
    reload_check(site.wire, "wave", 0, 0, 1);
    assert_non_null(strstr(site.wire->reply->reload->failure, "config.json"));
    assert_non_null(strstr(sys_daemon_log(site.daemon), "model_reload_failed"));
    assert_int_equal(wire_counter(site.wire, "models_reload_failed"), 1);
    go_on(site.wire, s, 100, 100, 1, 0);
    s = wire_open(site.wire, "t", "wave", WIRE_RESULTS);
    go_on(site.wire, s, 0, 100, 1, 0);
    assert_int_equal(wire_reload(site.wire, "none"), SSMD__CODE__NO_MODEL);
    versions_close(&site);
}

static void image__of_an_old_version__is_restored_as_long_as_that_has_streams(void **state)
{
    struct versions_site site;
    struct states_image image;
    struct wire_stream *s, *t;
    unsigned streams;

    (void)state;
    versions_open(&site, "");
    s = wire_open(site.wire, "s", "wave", WIRE_RESULTS);
    go_on(site.wire, s, 0, 100, 1, 0);
    wire_credit(site.wire, s, 100, UINT64_MAX);
    assert_int_equal(states_snapshot(site.wire, "s", &image), SSMD__CODE__OK);
    versions_write_wave(&site, "wave", 2, 1);
    reload_check(site.wire, "wave", 0, 1, 0);
    assert_int_equal(states_restore(site.wire, image.bytes, image.size, "t"), SSMD__CODE__OK);
    version_check(site.wire, 1, 2);
    t = wire_open(site.wire, "t", "wave", WIRE_RESULTS | WIRE_RESUME);
    versions_push(site.wire, t, 50);
    WIRE_UNTIL(site.wire, t->next == 150);
    versions_check(t, t->results - 50, 100, 50, 1, 0);
    assert_int_equal(wire_reset(site.wire, s), SSMD__CODE__OK);
    assert_int_equal(wire_reset(site.wire, t), SSMD__CODE__OK);
    WIRE_UNTIL(site.wire, !has_version(site.wire, 1, &streams));
    states_refused(site.wire, states_restore(site.wire, image.bytes, image.size, "u"), SSMD__CODE__BAD_IMAGE,
                   "another model");
    free(image.bytes);
    versions_close(&site);
}

static void versions__beyond_model_versions__are_not_added_until_one_is_free(void **state)
{
    struct versions_site site;
    struct wire_stream *s;

    (void)state;
    versions_open(&site, "model_versions = 2\n");
    s = wire_open(site.wire, "a", "wave", WIRE_RESULTS);
    versions_write_wave(&site, "wave", 2, 1);
    reload_check(site.wire, "wave", 0, 1, 0);
    (void)wire_open(site.wire, "b", "wave", 0);
    versions_write_wave(&site, "wave", 3, 1);
    reload_check(site.wire, "wave", 0, 0, 1);
    assert_non_null(strstr(site.wire->reply->reload->failure, "model_versions"));
    assert_int_equal(wire_counter(site.wire, "models_versions_full"), 1);
    assert_int_equal(wire_move(site.wire, s), SSMD__CODE__OK);
    version_check(site.wire, 2, 0);
    reload_check(site.wire, "wave", 0, 1, 0);
    s = wire_open(site.wire, "c", "wave", WIRE_RESULTS);
    version_check(site.wire, 3, 0);
    go_on(site.wire, s, 0, 10, 3, 0);
    versions_close(&site);
}

static void weights__beyond_model_memory__are_refused_until_others_go(void **state)
{
    struct versions_site site;
    struct wire_stream *a, *s;

    (void)state;
    versions_open(&site, "model_memory = 1M\n");
    versions_write_heavy(&site, "one", 1);
    versions_write_heavy(&site, "two", 1);
    a = wire_open(site.wire, "w", "wave", 0);
    assert_int_equal(wire_close(site.wire, a), SSMD__CODE__OK); /* unused, and stays: its bytes would not help */
    a = wire_open(site.wire, "a", "one", WIRE_RESULTS);
    assert_int_equal(wire_try_open(site.wire, &s, "b", "two", 0, 0), SSMD__CODE__LIMIT);
    assert_non_null(strstr(site.wire->reply->error->text, "model_memory"));
    assert_int_equal(wire_counter(site.wire, "models_memory_full"), 1);
    assert_int_equal(wire_counter(site.wire, "models_unloaded"), 0);
    assert_in_range(wire_counter(site.wire, "model_bytes"), 512 << 10, 1 << 20);
    assert_int_equal(wire_close(site.wire, a), SSMD__CODE__OK);
    (void)wire_open(site.wire, "b", "two", 0);
    assert_true(wire_counter(site.wire, "models_unloaded") >= 1);
    assert_in_range(wire_counter(site.wire, "model_bytes"), 512 << 10, 1 << 20);
    versions_close(&site);
}

/* ---- any order ------------------------------------------------------------------------------------------------------ */

enum { CHAOS_STREAMS = 8, CHAOS_TURNS = 400 };

struct chaos {
    struct versions_site site;
    struct wire_stream *stream[CHAOS_STREAMS]; /* NULL: closed */
    double rate[CHAOS_STREAMS];
    unsigned version[CHAOS_STREAMS];
    double gain[CHAOS_TURNS]; /* of each version */
    unsigned newest;
    uint32_t seed;
};

static void chaos_open(struct chaos *c, uint32_t i)
{
    static const double rates[] = {100, 50, 70, 200, 300};
    struct wire *w = c->site.wire;
    char id[8];
    int code;

    snprintf(id, sizeof(id), "s%u", i);
    w->rate = c->rate[i] = rates[making_number(&c->seed, 5)];
    code = wire_try_open(w, &c->stream[i], id, "wave", WIRE_RESULTS | WIRE_CREATE, 0);
    if (code != SSMD__CODE__OK) {
        assert_int_equal(code, SSMD__CODE__LIMIT);
        return;
    }
    assert_true(w->reply->stream->rate == c->rate[i]);
    version_check(w, c->newest, 0);
    c->version[i] = c->newest;
}

/* A reset or a move: to the newest version, or nowhere when there is no room for it at the rate. */
static void chaos_begin_again(struct chaos *c, uint32_t i, bool moves)
{
    struct wire *w = c->site.wire;
    struct wire_stream *s = c->stream[i];
    uint64_t epoch = s->epoch;
    int code = moves ? wire_move(w, s) : wire_reset(w, s);
    unsigned version = code == SSMD__CODE__OK ? w->reply->stream->version : 0;

    if (code == SSMD__CODE__OK && version == c->newest) {
        assert_true((moves && c->version[i] == version) == (s->epoch == epoch));
        c->version[i] = version;
    } else if (code == SSMD__CODE__OK) {
        assert_true(!moves && version == c->version[i] && s->epoch > epoch);
    } else {
        assert_true(moves && code == SSMD__CODE__LIMIT);
    }
}

static void chaos_reload(struct chaos *c)
{
    double gain = 1 + making_number(&c->seed, 3);
    struct wire *w = c->site.wire;

    versions_write_wave(&c->site, "wave", gain, 1);
    assert_int_equal(wire_reload(w, NULL), SSMD__CODE__OK);
    if (w->reply->reload->added)
        c->gain[++c->newest] = gain;
    else if (w->reply->reload->failed)
        versions_write_wave(&c->site, "wave", c->gain[c->newest], 1); /* what an open may read is known */
    else
        assert_true(gain == c->gain[c->newest]);
}

static void chaos_turn(struct chaos *c)
{
    uint32_t i = making_number(&c->seed, CHAOS_STREAMS), what = making_number(&c->seed, 10);
    struct wire *w = c->site.wire;

    if (what == 0) {
        chaos_reload(c);
    } else if (!c->stream[i]) {
        chaos_open(c, i);
    } else if (what == 1) {
        assert_int_equal(wire_close(w, c->stream[i]), SSMD__CODE__OK);
        wire_credit(w, c->stream[i], UINT64_MAX, UINT64_MAX);
        c->stream[i] = NULL;
    } else if (what <= 3) {
        chaos_begin_again(c, i, what == 3);
    } else {
        go_on(w, c->stream[i], c->stream[i]->sent, 1 + making_number(&c->seed, 20), c->gain[c->version[i]], c->rate[i]);
    }
}

static void opens_moves_resets_and_reloads__in_any_order__give_each_stream_its_versions_bits(void **state)
{
    static struct chaos c;

    (void)state;
    for (uint32_t seed = 1; seed <= 3; seed++) {
        c = (struct chaos){.newest = 1, .gain = {0, 1}, .seed = seed * 977};
        versions_open(&c.site, "model_rates = 3\nmodel_versions = 3\n");
        c.site.wire->native_rate = true;
        chaos_open(&c, 0);
        for (uint32_t turn = 0; turn < CHAOS_TURNS; turn++)
            chaos_turn(&c);
        versions_close(&c.site);
    }
}

static void requests__without_the_feature__are_refused(void **state)
{
    struct versions_site site;
    struct wire_stream *s;
    struct wire *w;

    (void)state;
    versions_open(&site, "");
    w = wire_new(sys_daemon_endpoint(site.daemon), "two");
    s = wire_open(w, "s", "wave", 0);
    assert_false(w->reply->stream->has_version || w->reply->stream->has_config_rate);
    assert_int_equal(wire_reload(w, NULL), SSMD__CODE__FEATURE);
    assert_int_equal(wire_move(w, s), SSMD__CODE__FEATURE);
    wire_free(w);
    versions_close(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reload__of_another_gain__is_for_new_streams_only),
        cmocka_unit_test(reset__of_a_stream_of_an_old_version__takes_the_newest),
        cmocka_unit_test(reset__of_a_stream_at_another_rate__takes_the_newest_at_it),
        cmocka_unit_test(move__sends_every_result_and_begins_again_with_the_newest),
        cmocka_unit_test(move__of_a_writer_that_is_away__waits_for_it_to_take_its_results),
        cmocka_unit_test(version__of_other_shapes__is_not_for_streams_that_are_there),
        cmocka_unit_test(reload__of_what_does_not_load__changes_nothing_and_says_why),
        cmocka_unit_test(image__of_an_old_version__is_restored_as_long_as_that_has_streams),
        cmocka_unit_test(versions__beyond_model_versions__are_not_added_until_one_is_free),
        cmocka_unit_test(weights__beyond_model_memory__are_refused_until_others_go),
        cmocka_unit_test(opens_moves_resets_and_reloads__in_any_order__give_each_stream_its_versions_bits),
        cmocka_unit_test(requests__without_the_feature__are_refused),
    };

    return cmocka_run_group_tests_name("versions", tests, NULL, NULL);
}
