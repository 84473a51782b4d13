/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams of a rate of their own: the daemon discretises the model anew for them, shares it by rate, keeps the bounds,
 * and refuses as before what cannot be.
 */
#include "tests/sys/states.h"
#include "tests/sys/versions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int try_open_at(struct wire *w, struct wire_stream **s, const char *id, const char *model, double rate)
{
    int code;

    w->rate = rate;
    w->native_rate = true;
    code = wire_try_open(w, s, id, model, WIRE_RESULTS, 0);
    w->rate = 0;
    w->native_rate = false;
    return code;
}

static struct wire_stream *open_at(struct wire *w, const char *id, const char *model, double rate)
{
    struct wire_stream *s;

    if (try_open_at(w, &s, id, model, rate) != SSMD__CODE__OK)
        fail_msg("open %s at %g Hz: %s", id, rate, w->reply->error->text);
    assert_true(w->reply->stream->rate == rate && w->reply->stream->out_rate == rate);
    return s;
}

/* What hello says of the model at that rate; NULL when it does not. In w->reply. */
static const Ssmd__ModelInfo *model_at(struct wire *w, const char *name, double rate)
{
    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    for (size_t i = 0; i < w->reply->hello->n_models; i++) {
        const Ssmd__ModelInfo *m = w->reply->hello->models[i];

        if (strcmp(m->name, name) == 0 && m->has_rate && m->rate == rate)
            return m;
    }
    return NULL;
}

static void stream__of_another_rate__gets_the_model_discretised_for_it(void **state)
{
    double rates[] = {VERSIONS_RATE, VERSIONS_RATE / 2, VERSIONS_RATE * 2.5};
    struct wire_stream *s[3];
    struct versions_site site;

    (void)state;
    versions_open(&site, "");
    for (int i = 0; i < 3; i++) {
        s[i] = open_at(site.wire, (const char *[]){"a", "b", "c"}[i], "wave", rates[i]);
        assert_true(site.wire->reply->stream->config_rate == VERSIONS_RATE);
        assert_int_equal(site.wire->reply->stream->has_modes_zeroed, i > 0);
        assert_int_equal(site.wire->reply->stream->modes_zeroed, i == 1);
    }
    for (int i = 0; i < 3; i++)
        versions_push(site.wire, s[i], 300);
    for (int i = 0; i < 3; i++) {
        WIRE_UNTIL(site.wire, s[i]->results == 300);
        versions_check(s[i], 0, 0, 300, 1, rates[i]);
    }
    assert_non_null(strstr(sys_daemon_log(site.daemon), "rate=50 modes_zeroed=1"));
    versions_close(&site);
}

static void streams__of_one_rate__share_a_model_and_resume_it_by_name(void **state)
{
    struct versions_site site;
    struct wire_stream *s, *t;
    struct wire *v;

    (void)state;
    versions_open(&site, "");
    s = open_at(site.wire, "a", "wave", 50);
    (void)open_at(site.wire, "b", "wave", 50);
    assert_int_equal(model_at(site.wire, "wave", 50)->streams, 2);
    assert_int_equal(model_at(site.wire, "wave", 100)->streams, 0);
    versions_push(site.wire, s, 50);
    WIRE_UNTIL(site.wire, s->results == 50);
    t = wire_open(site.wire, "a", "wave", WIRE_RESULTS); /* without a rate: its own */
    assert_true(site.wire->reply->stream->rate == 50);
    versions_push(site.wire, t, 50);
    WIRE_UNTIL(site.wire, t->next == 100);
    versions_check(t, t->results - 50, 50, 50, 1, 50);
    assert_int_equal(try_open_at(site.wire, &s, "a", "wave", 25), SSMD__CODE__RATE);
    assert_non_null(strstr(site.wire->reply->error->text, "resample the stream to 50 Hz"));
    v = wire_new(sys_daemon_endpoint(site.daemon), "two"); /* who knows no rates sees one model of a name */
    for (size_t i = 0, n = 0; i < v->reply->hello->n_models; i++) {
        n += strcmp(v->reply->hello->models[i]->name, "wave") == 0;
        assert_true(n <= 1 && !v->reply->hello->models[i]->has_config_rate);
    }
    wire_free(v);
    versions_close(&site);
}

static void rate__unasked_for_or_impossible__is_refused_naming_the_layer(void **state)
{
    struct versions_site site;
    struct wire_stream *s;
    struct wire *v;

    (void)state;
    versions_open(&site, "");
    versions_write_fixed(&site, "fixed");
    assert_int_equal(try_open_at(site.wire, &s, "a", "fixed", 50), SSMD__CODE__RATE);
    assert_non_null(strstr(site.wire->reply->error->text, "layer 2 (conv1d 'k')"));
    assert_non_null(strstr(site.wire->reply->error->text, "resample the stream to 100 Hz"));
    (void)open_at(site.wire, "a", "fixed", 100);
    site.wire->rate = 50; /* not with native_rate */
    assert_int_equal(wire_try_open(site.wire, &s, "b", "wave", 0, 0), SSMD__CODE__RATE);
    assert_non_null(strstr(site.wire->reply->error->text, "native_rate"));
    v = wire_new(sys_daemon_endpoint(site.daemon), "two");
    assert_int_equal(try_open_at(v, &s, "b", "wave", 50), SSMD__CODE__FEATURE);
    wire_free(v);
    assert_int_equal(try_open_at(site.wire, &s, "b", "wave", 1e15), SSMD__CODE__RATE);
    assert_int_equal(try_open_at(site.wire, &s, "b", "none", 50), SSMD__CODE__NO_MODEL);
    versions_close(&site);
}

static void rates__beyond_model_rates__are_refused_until_one_is_free(void **state)
{
    struct versions_site site;
    struct wire_stream *a, *s;

    (void)state;
    versions_open(&site, "model_rates = 2\n");
    a = open_at(site.wire, "a", "wave", 50);
    (void)open_at(site.wire, "b", "wave", 60);
    (void)open_at(site.wire, "own", "wave", 100);
    assert_int_equal(try_open_at(site.wire, &s, "c", "wave", 70), SSMD__CODE__LIMIT);
    assert_non_null(strstr(site.wire->reply->error->text, "model_rates"));
    assert_int_equal(wire_counter(site.wire, "models_rates_full"), 1);
    (void)open_at(site.wire, "d", "wave", 60); /* shared */
    assert_int_equal(wire_close(site.wire, a), SSMD__CODE__OK);
    wire_credit(site.wire, a, a->next, UINT64_MAX);
    s = open_at(site.wire, "c", "wave", 70);
    assert_null(model_at(site.wire, "wave", 50));
    versions_push(site.wire, s, 20);
    WIRE_UNTIL(site.wire, s->results == 20);
    versions_check(s, 0, 0, 20, 1, 70);
    versions_close(&site);
}

static void image__of_a_stream_of_another_rate__goes_on_at_it(void **state)
{
    struct versions_site site;
    struct states_image image;
    struct wire_stream *s, *t;

    (void)state;
    versions_open(&site, "");
    s = open_at(site.wire, "a", "wave", 50);
    versions_push(site.wire, s, 40);
    assert_int_equal(states_snapshot(site.wire, "a", &image), SSMD__CODE__OK);
    WIRE_UNTIL(site.wire, s->results == 40);
    wire_credit(site.wire, s, 40, UINT64_MAX);
    assert_int_equal(states_restore(site.wire, image.bytes, image.size, "b"), SSMD__CODE__OK);
    assert_true(site.wire->reply->stream->rate == 50);
    t = wire_open(site.wire, "b", "wave", WIRE_RESULTS | WIRE_RESUME);
    versions_push(site.wire, t, 40);
    WIRE_UNTIL(site.wire, t->next == 80);
    versions_check(t, t->results - 40, 40, 40, 1, 50);
    free(image.bytes);
    versions_close(&site);
}

static void stop__with_streams_of_other_rates__keeps_them(void **state)
{
    struct versions_site site;
    struct wire_stream *s;

    (void)state;
    versions_open(&site, "state_dir = @\n");
    s = open_at(site.wire, "a", "wave", 50);
    versions_push(site.wire, s, 40);
    WIRE_UNTIL(site.wire, s->results == 40);
    wire_free(site.wire);
    assert_int_equal(sys_daemon_stop(site.daemon, WIRE_MS), 0);
    assert_int_equal(sys_daemon_restart(site.daemon), 0);
    site.wire = versions_wire(&site, "one");
    s = wire_open(site.wire, "a", "wave", WIRE_RESULTS | WIRE_RESUME);
    assert_true(site.wire->reply->stream->rate == 50 && site.wire->reply->stream->next == 40);
    versions_push(site.wire, s, 40);
    WIRE_UNTIL(site.wire, s->next == 80);
    versions_check(s, s->results - 40, 40, 40, 1, 50);
    versions_close(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream__of_another_rate__gets_the_model_discretised_for_it),
        cmocka_unit_test(streams__of_one_rate__share_a_model_and_resume_it_by_name),
        cmocka_unit_test(rate__unasked_for_or_impossible__is_refused_naming_the_layer),
        cmocka_unit_test(rates__beyond_model_rates__are_refused_until_one_is_free),
        cmocka_unit_test(image__of_a_stream_of_another_rate__goes_on_at_it),
        cmocka_unit_test(stop__with_streams_of_other_rates__keeps_them),
    };

    return cmocka_run_group_tests_name("rates", tests, NULL, NULL);
}
