/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines `publish`: what they mean, which of them an id belongs to, and that every mistake is named; also by conf_load.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/mapping.h"

static struct mapping mapping;
static char why[512];

static void parse__a_whole_line__has_every_value(void **state)
{
    (void)state;
    assert_int_equal(mapping_parse(&mapping,
                                   "room/ model=forecast:order=32,horizon=0.05 rate=16000 channels=2 gap=hold "
                                   "max_fill=800 source_ms=250 evict_ms=0",
                                   why, sizeof(why)),
                     0);
    assert_string_equal(mapping.prefix, "room/");
    assert_int_equal(mapping.prefix_size, 5);
    assert_string_equal(mapping.model, "forecast:order=32,horizon=0.05");
    assert_true(mapping.rate == 16000);
    assert_int_equal(mapping.channels, 2);
    assert_int_equal(mapping.source.gap, GAP_HOLD);
    assert_int_equal(mapping.source.max_fill, 800);
    assert_int_equal(mapping.source.live_ns, 250000000);
    assert_true(mapping.has_evict_ms);
    assert_int_equal(mapping.evict_ms, 0);
}

static void parse__the_least__has_the_standard_values(void **state)
{
    (void)state;
    assert_int_equal(mapping_parse(&mapping, "*  model=m", why, sizeof(why)), 0);
    assert_int_equal(mapping.prefix_size, 0);
    assert_true(mapping.rate == 0);
    assert_int_equal(mapping.channels, 0);
    assert_int_equal(mapping.source.gap, GAP_RESET);
    assert_int_equal(mapping.source.max_fill, MAPPING_MAX_FILL);
    assert_int_equal(mapping.source.live_ns, MAPPING_SOURCE_MS * UINT64_C(1000000));
    assert_false(mapping.has_evict_ms);
}

static void parse__every_mistake__is_named(void **state)
{
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {"", "empty"},
        {"a", "model= is missing"},
        {"a model=", "model= is missing"},
        {"a model=m extra", "extra: must be of the form key=value"},
        {"a model=m model=n", "given twice"},
        {"a model=m gaps=hold", "unknown word gaps"},
        {"a model=m gap=fill", "one of reset, hold, zero, refuse"},
        {"a model=m rate=0", "rate"},
        {"a model=m rate=fast", "rate"},
        {"a model=m channels=0", "channels=0: must be a number from 1 to 65536"},
        {"a model=m max_fill=-1", "max_fill=-1"},
        {"a model=m max_fill=16777217", "16777216"},
        {"a model=m source_ms=0", "source_ms=0"},
        {"a model=m evict_ms=x", "evict_ms=x"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa model=m", "64 bytes"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(mapping_parse(&mapping, wrong[i].text, why, sizeof(why)), -1);
        if (!strstr(why, wrong[i].says))
            fail_msg("%s: \"%s\" should say \"%s\"", wrong[i].text, why, wrong[i].says);
    }
}

static const char *found(struct mappings *m, const char *id)
{
    const struct mapping *at = mappings_find(m, (const uint8_t *)id, strlen(id));

    return at ? at->model : "none";
}

static void find__the_longest_prefix__counts(void **state)
{
    static struct conf_rules rules = {3, {"ab model=short", "abc model=long", "x model=other"}};
    static struct mappings m;

    (void)state;
    assert_int_equal(mappings_parse(&m, &rules, why, sizeof(why)), -1);
    assert_string_equal(found(&m, "ab"), "short");
    assert_string_equal(found(&m, "abd"), "short");
    assert_string_equal(found(&m, "abc"), "long");
    assert_string_equal(found(&m, "abcd"), "long");
    assert_string_equal(found(&m, "a"), "none");
    assert_string_equal(found(&m, "b"), "none");
    strcpy(rules.item[2], "* model=all");
    assert_int_equal(mappings_parse(&m, &rules, why, sizeof(why)), -1);
    assert_string_equal(found(&m, "b"), "all");
    assert_string_equal(found(&m, "abz"), "short");
    strcpy(rules.item[2], "ab model=again");
    assert_int_equal(mappings_parse(&m, &rules, why, sizeof(why)), 2);
    assert_non_null(strstr(why, "has a rule already"));
}

/* conf_load of a file of this text: its report. */
static const char *load(const char *text, struct conf *conf)
{
    static struct conf_report report;
    char path[] = "/tmp/ssmd-mapping-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    (void)!conf_load(conf, path, &report);
    unlink(path);
    return report.text;
}

static void conf__with_publish_lines__has_an_endpoint_of_its_own(void **state)
{
    static struct conf conf;

    (void)state;
    assert_string_equal(load("endpoint = ipc:///tmp/d/x.sock\n", &conf), "");
    assert_false(conf_has_publish(&conf));
    assert_string_equal(load("endpoint = ipc:///tmp/d/x.sock\npublish = a model=m\n", &conf), "");
    assert_true(conf_has_publish(&conf));
    assert_string_equal(conf.publish_endpoint.item[0], "ipc:///tmp/d/ssmd-publish.sock");
    assert_string_equal(load("publish_endpoint = off\npublish = a model=m\n", &conf), "");
    assert_false(conf_has_publish(&conf));
    assert_string_equal(load("publish_endpoint = tcp://127.0.0.1:7000 ipc:///tmp/y.sock\n", &conf), "");
    assert_true(conf_has_publish(&conf));
}

static void conf__with_wrong_publish_lines__is_refused(void **state)
{
    static struct conf conf;

    (void)state;
    assert_non_null(strstr(load("publish = a gap=hold\n", &conf), "publish = a gap=hold: model= is missing"));
    assert_non_null(strstr(load("publish = a model=m evict_ms=5\n", &conf), "need a state_dir"));
    assert_non_null(strstr(load("evict_ms = 5\n", &conf), "need a state_dir"));
    assert_non_null(strstr(load("evict_when_full = yes\n", &conf), "need a state_dir"));
    assert_string_equal(load("evict_ms = 5\nstate_dir = /tmp\n", &conf), "");
    assert_non_null(strstr(load("publish_endpoint = tcp://0.0.0.0:7000\n", &conf), "allow_unauthenticated"));
    assert_non_null(
        strstr(load("tap = ipc:///tmp/t\npublish_endpoint = ipc:///tmp/t\n", &conf), "publishers need their own"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__a_whole_line__has_every_value),
        cmocka_unit_test(parse__the_least__has_the_standard_values),
        cmocka_unit_test(parse__every_mistake__is_named),
        cmocka_unit_test(find__the_longest_prefix__counts),
        cmocka_unit_test(conf__with_publish_lines__has_an_endpoint_of_its_own),
        cmocka_unit_test(conf__with_wrong_publish_lines__is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
