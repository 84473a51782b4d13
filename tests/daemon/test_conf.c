/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration: every key has a row, a default in its range, and a refusal beyond it; every error names where it
 * is; the files that people read say what the table says.
 */
#include "daemon/conf.h"
#include "daemon/conf_key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct conf conf;
static struct conf_report report;
static char path[] = "/tmp/ssmd-conf-XXXXXX";

static int path_make(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int path_remove(void **state)
{
    (void)state;
    return unlink(path);
}

/* Loads a configuration file of this text. */
static int load(const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
    return conf_load(&conf, path, &report);
}

static void assert_refused(const char *text, unsigned line, const char *words)
{
    char where[64];

    assert_int_equal(load(text), -1);
    snprintf(where, sizeof(where), "%s:%u: ", path, line);
    if (!strstr(report.text, where) || !strstr(report.text, words))
        fail_msg("\"%s\" should say \"%s\" and \"%s\"", report.text, where, words);
}

/* Loads text whose single error belongs to the whole file. */
static void assert_checked(const char *text, const char *words)
{
    assert_int_equal(load(text), -1);
    assert_int_equal(report.lines, 1);
    if (!strstr(report.text, words))
        fail_msg("\"%s\" should say \"%s\"", report.text, words);
}

static char *text_of(void (*print)(FILE *))
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    print(out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static char *file_read(const char *name)
{
    FILE *file = fopen(name, "r");
    char *text = calloc(1, 65536);

    assert_non_null(text);
    if (!file)
        fail_msg("%s cannot be opened (tests run in the root of the tree)", name);
    assert_in_range(fread(text, 1, 65535, file), 1, 65534);
    fclose(file);
    return text;
}

static void environment_set(const char *runtime, const char *user)
{
    if (runtime)
        setenv("RUNTIME_DIRECTORY", runtime, 1);
    else
        unsetenv("RUNTIME_DIRECTORY");
    if (user)
        setenv("XDG_RUNTIME_DIR", user, 1);
    else
        unsetenv("XDG_RUNTIME_DIR");
}

/* ---- defaults ---------------------------------------------------------------------------------------------------- */

static void conf__no_file__is_the_built_in_configuration(void **state)
{
    struct conf built_in;

    (void)state;
    conf_init(&built_in);
    assert_int_equal(conf_load(&conf, NULL, &report), 0);
    assert_memory_equal(&conf, &built_in, sizeof(conf));
    assert_int_equal(conf.max_streams, 20000);
    assert_int_equal(conf.allow_unauthenticated, 0);
    assert_int_equal(conf.socket_mode, 0660);
}

static void conf__endpoint_auto__follows_the_environment(void **state)
{
    (void)state;
    environment_set("/run/a:/run/b", "/run/user/7");
    conf_init(&conf);
    assert_string_equal(conf.endpoint.item[0], "ipc:///run/a/ssmd.sock");
    assert_string_equal(conf.tap, "ipc:///run/a/ssmd-tap.sock");
    environment_set(NULL, "/run/user/7");
    conf_init(&conf);
    assert_string_equal(conf.endpoint.item[0], "ipc:///run/user/7/ssmd/ssmd.sock");
    environment_set(NULL, NULL);
    conf_init(&conf);
    assert_string_equal(conf.endpoint.item[0], "ipc:///run/ssmd/ssmd.sock");
}

static void conf__tap_auto__lies_beside_the_first_ipc_endpoint_or_is_off(void **state)
{
    (void)state;
    assert_int_equal(load("endpoint = tcp://127.0.0.1:5555, ipc:///tmp/x/a.sock"), 0);
    assert_int_equal(conf.endpoint.n, 2);
    assert_string_equal(conf.tap, "ipc:///tmp/x/ssmd-tap.sock");
    assert_int_equal(load("endpoint = tcp://127.0.0.1:5555"), 0);
    assert_string_equal(conf.tap, "off");
    assert_int_equal(load("tap = off"), 0);
    assert_string_equal(conf.tap, "off");
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static void conf__comments_blanks_and_indentation__are_passed_over(void **state)
{
    (void)state;
    assert_int_equal(
        load("\n# one\n  threads=3   # three\n\tmax_streams   =  7\r\n\n#isa = no\nmodels = /a b # two words\n"), 0);
    assert_int_equal(conf.threads, 3);
    assert_int_equal(conf.max_streams, 7);
    assert_string_equal(conf.models, "/a b");
}

static void conf__unknown_key__is_refused_by_name(void **state)
{
    (void)state;
    assert_refused("threads = 1\nthread = 2\n", 2, "unknown key thread = 2");
}

static void conf__key_given_twice__is_refused_with_both_lines(void **state)
{
    (void)state;
    assert_refused("threads = 1\n\nthreads = 1\n", 3, "threads is given twice (first in line 1)");
}

static void conf__rules__add_up_and_read_back(void **state)
{
    static const char text[] = "class = a deadline=5\nserve = m class=a\n  class = b  deadline=7\n";
    static char printed[65536];
    FILE *out;

    (void)state;
    assert_int_equal(load(text), 0);
    assert_int_equal(conf.class.n, 2);
    assert_string_equal(conf.class.item[0], "a deadline=5");
    assert_string_equal(conf.class.item[1], "b  deadline=7");
    assert_int_equal(conf.serve.n, 1);
    out = fmemopen(printed, sizeof(printed), "w");
    assert_non_null(out);
    conf_print(&conf, out);
    fclose(out);
    assert_int_equal(load(printed), 0);
    assert_int_equal(conf.class.n, 2);
    assert_string_equal(conf.class.item[1], "b  deadline=7");
    assert_checked("class = a deadline=0", "class = a deadline=0: deadline must be");
}

static void conf__rules__are_bounded(void **state)
{
    static char text[8192];

    (void)state;
    text[0] = '\0';
    for (int i = 0; i <= CONF_RULES_MAX; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "class = c%d deadline=5\n", i);
    assert_refused(text, CONF_RULES_MAX + 1, "up to 32 such lines");
}

static void conf__line_without_a_value_or_with_a_section__is_refused(void **state)
{
    (void)state;
    assert_refused("threads\n", 1, "key = value");
    assert_refused("\n[ssmd]\n", 2, "sections");
    assert_refused("threads =\n", 1, "threads = : must be a number from 0 to 256");
    assert_refused("= 3\n", 1, "unknown key");
}

static void conf__line_longer_than_any_value__is_refused_and_the_rest_is_read(void **state)
{
    char text[8192];

    (void)state;
    memset(text, 'x', sizeof(text));
    memcpy(text, "models = /", 10);
    strcpy(text + sizeof(text) - 32, "\nthreads = many\n");
    assert_refused(text, 1, "longer than");
    assert_refused(text, 2, "threads = many");
    assert_int_equal(report.lines, 2);
}

static void conf__several_errors__are_all_told(void **state)
{
    (void)state;
    assert_int_equal(load("a = 1\nb = 2\nthreads = -1\nisa = mmx\n"), -1);
    assert_int_equal(report.lines, 4);
}

static void conf__more_errors_than_the_report_holds__are_counted(void **state)
{
    char text[65536] = "";
    size_t used = 0;

    (void)state;
    for (int i = 0; i < 500; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "unknown_key_%d = %d\n", i, i);
    assert_int_equal(load(text), -1);
    assert_int_equal(report.lines, 500);
    assert_true(strlen(report.text) < sizeof(report.text));
}

static void conf__missing_file__is_named(void **state)
{
    (void)state;
    assert_int_equal(conf_load(&conf, "/nowhere/ssmd.conf", &report), -1);
    assert_non_null(strstr(report.text, "/nowhere/ssmd.conf: cannot be opened"));
    assert_int_equal(conf_load(&conf, "/tmp", &report), -1);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static void conf__every_numeric_key__takes_its_limits_and_refuses_what_lies_beyond(void **state)
{
    size_t n, numeric = 0;
    const struct conf_key *keys = conf_keys(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        const char *dots = strstr(keys[i].range, "..");
        char low[64], text[80], high[64];

        if (!dots)
            continue;
        numeric++;
        snprintf(low, sizeof(low), "%.*s", (int)(dots - keys[i].range), keys[i].range);
        snprintf(high, sizeof(high), "%s", dots + 2);
        assert_int_equal(conf_value_decode(&keys[i], low, &conf), 0);
        assert_int_equal(conf_value_decode(&keys[i], high, &conf), 0);
        /* one digit more, before a unit if there is one, lies beyond every range */
        snprintf(text, sizeof(text), "9%s", high);
        assert_int_equal(conf_value_decode(&keys[i], text, &conf), -1);
        assert_int_equal(conf_value_decode(&keys[i], "-1", &conf), -1);
        assert_int_equal(conf_value_decode(&keys[i], "", &conf), -1);
        assert_int_equal(conf_value_decode(&keys[i], "1 ", &conf), -1);
        assert_int_equal(conf_value_decode(&keys[i], "0x10", &conf), -1);
        assert_int_equal(conf_value_decode(&keys[i], "18446744073709551617", &conf), -1);
        assert_int_equal(conf_value_decode(&keys[i], "17179869185G", &conf), -1); /* 2^64 + 2^30 */
    }
    assert_true(numeric >= 12);
    assert_refused("max_message = 1K\n", 1, "max_message = 1K: must be bytes (with K, M or G) from 4K to 64M");
    assert_refused("socket_mode = 1000\n", 1, "from 0600 to 0777");
}

static void conf__bytes__take_units(void **state)
{
    (void)state;
    assert_int_equal(load("max_message = 64k\nstream_window = 65536\ninput_memory = 3G"), 0);
    assert_int_equal(conf.max_message, 65536);
    assert_int_equal(conf.stream_window, 65536);
    assert_int_equal(conf.input_memory, 3ull << 30);
}

static void conf__choices__take_whole_words_only(void **state)
{
    (void)state;
    assert_int_equal(load("isa = avx2\nlog_level = debug\nallow_unauthenticated = yes"), 0);
    assert_string_equal(conf.isa, "avx2");
    assert_int_equal(conf.allow_unauthenticated, 1);
    assert_refused("isa = avx\n", 1, "one of auto, ref, avx2, avx512");
    assert_refused("isa = avx2|avx512\n", 1, "one of");
    assert_refused("allow_unauthenticated = true\n", 1, "one of yes, no");
}

static void conf__list__takes_a_bounded_number_of_bounded_entries(void **state)
{
    char text[4096] = "endpoint =";
    size_t used = strlen(text);

    (void)state;
    for (int i = 0; i < CONF_LIST_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, " tcp://127.0.0.1:%d", 5000 + i);
    assert_int_equal(load(text), 0);
    assert_int_equal(conf.endpoint.n, CONF_LIST_MAX);
    snprintf(text + used, sizeof(text) - used, " tcp://127.0.0.1:9");
    assert_refused(text, 1, "1 to 8 entries");
    memset(text, 'a', sizeof(text));
    memcpy(text, "endpoint = ", 11);
    text[11 + CONF_TEXT_SIZE] = '\0';
    assert_refused(text, 1, "at most 255 bytes");
    assert_refused("endpoint = , ,\n", 1, "1 to 8 entries");
}

static void conf__whatever_is_printed__reads_back_the_same(void **state)
{
    struct conf before;
    char *text = NULL;
    size_t size;
    FILE *out;

    (void)state;
    assert_int_equal(load("endpoint = ipc:///tmp/a tcp://0.0.0.0:1\ntap = tcp://127.0.0.1:2\nsocket_mode = 0600\n"
                          "allow_unauthenticated = yes\nmodels = /m o\nthreads = 5\nisa = ref\nmax_message = 5000\n"
                          "result_ring = 12K\nidle_ms = 1001\ndrain_ms = 0\nlog_level = err\n"),
                     0);
    before = conf;
    out = open_memstream(&text, &size);
    conf_print(&conf, out);
    fclose(out);
    assert_int_equal(load(text), 0);
    assert_memory_equal(&before, &conf, sizeof(conf));
    free(text);
}

/* ---- checks over several keys ------------------------------------------------------------------------------------ */

static void conf__tcp_beyond_loopback__needs_allow_unauthenticated(void **state)
{
    static const char *const open[] = {"tcp://0.0.0.0:5555", "tcp://*:5555",    "tcp://10.0.0.1:5555",
                                       "tcp://[::]:5555",    "tcp://eth0:5555", "tcp://128.0.0.1:5555"};
    static const char *const closed[] = {"tcp://127.0.0.1:5555", "tcp://127.9.9.9:5555", "tcp://[::1]:5555",
                                         "tcp://lo:5555"};
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
        snprintf(text, sizeof(text), "endpoint = %s", open[i]);
        assert_checked(text, "allow_unauthenticated = yes");
        snprintf(text, sizeof(text), "endpoint = %s\nallow_unauthenticated = yes", open[i]);
        assert_int_equal(load(text), 0);
    }
    for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
        snprintf(text, sizeof(text), "endpoint = %s", closed[i]);
        assert_int_equal(load(text), 0);
    }
    assert_checked("tap = tcp://0.0.0.0:5556", "tap = tcp://0.0.0.0:5556");
}

static void conf__metrics__is_a_local_endpoint_of_its_own(void **state)
{
    (void)state;
    assert_int_equal(load("metrics = tcp://127.0.0.1:9091"), 0);
    assert_int_equal(load("metrics = tcp://[::1]:9091"), 0);
    assert_int_equal(load("metrics = ipc:///run/metrics.sock"), 0);
    assert_int_equal(load("allow_unauthenticated = yes\nmetrics = tcp://0.0.0.0:9091"), 0);
    assert_checked("metrics = tcp://0.0.0.0:9091", "allow_unauthenticated");
    assert_checked("metrics = tcp://lo:9091", "numeric address");
    assert_checked("allow_unauthenticated = yes\nmetrics = tcp://*:9091", "numeric address");
    assert_checked("metrics = http://127.0.0.1:9091", "must be ipc");
    assert_checked("endpoint = ipc:///a\nmetrics = ipc:///a", "is an endpoint already");
    assert_checked("tap = ipc:///a\nmetrics = ipc:///a", "is the tap already");
}

static void conf__endpoint_of_another_form__is_refused(void **state)
{
    char text[512] = "endpoint = ipc:///";

    (void)state;
    assert_checked("endpoint = inproc://x", "must be ipc");
    assert_checked("endpoint = ipc://x.sock", "must begin with '/'");
    assert_checked("endpoint = tcp://127.0.0.1", "needs a port");
    assert_checked("endpoint = tcp://127.0.0.1:0", "needs a port");
    assert_checked("endpoint = tcp://127.0.0.1:70000", "needs a port");
    assert_checked("endpoint = ipc:///a ipc:///a", "given twice");
    assert_checked("endpoint = ipc:///a\ntap = ipc:///a", "is an endpoint already");
    memset(text + strlen(text), 'p', 120);
    assert_checked(text, "longer than a socket's");
}

static void conf__sizes_that_contradict__are_refused(void **state)
{
    (void)state;
    assert_checked("stream_window = 32M", "larger than connection_window");
    assert_checked("connection_window = 512M", "larger than input_memory");
    assert_checked("batch_frames = 16", "larger than batch_frames");
    assert_checked("models = models", "must begin with '/'");
}

/* ---- reload ------------------------------------------------------------------------------------------------------ */

static void conf__devices__are_all_or_numbers(void **state)
{
    (void)state;
    assert_int_equal(load("backend = cuda\ndevice = 0, 3 1\ndevice_streams = 5\ncuda_library = /x/libssm-cuda.so\n"),
                     0);
    assert_string_equal(conf.backend, "cuda");
    assert_int_equal(conf.device.n, 3);
    assert_string_equal(conf.device.item[1], "3");
    assert_refused("backend = gpu\n", 1, "backend = gpu: must be one of auto, cpu, cuda");
    assert_refused("\ndevice = one\n", 2, "device = one: must be all, or numbers from 0 to 255");
    assert_refused("device = 0 all\n", 1, "device = all: must be");
    assert_refused("device = 256\n", 1, "device = 256: must be");
    assert_refused("device = -1\n", 1, "device = -1: must be");
    assert_refused("device = 1 2 01\n", 1, "1 is given twice");
    assert_refused("device = 0 1 2 3 4 5 6 7 8\n", 1, "1 to 8 entries");
    assert_refused("device_batch_frames = 4000\n", 1, "device_batch_frames = 4000: less than max_row_frames = 4096");
}

static void conf__reload__takes_what_it_can_and_names_what_needs_a_restart(void **state)
{
    struct conf running, before;
    struct conf_report applied, refused;

    (void)state;
    conf_init(&running);
    before = running;
    assert_int_equal(load("threads = 9\nidle_ms = 2000\nlog_level = debug"), 0);
    conf_reload(&running, &conf, &applied, &refused);
    assert_int_equal(running.threads, before.threads);
    assert_int_equal(running.idle_ms, 2000);
    assert_string_equal(running.log_level, "debug");
    assert_int_equal(applied.lines, 2);
    assert_string_equal(refused.text, "key=threads from=\"0\" to=\"9\"");

    conf_reload(&running, &running, &applied, &refused);
    assert_int_equal(applied.lines + refused.lines, 0);
}

/* ---- what people read -------------------------------------------------------------------------------------------- */

static void conf__ssmd_conf__is_what_the_table_says(void **state)
{
    char *file = file_read("daemon/ssmd.conf"), *table = text_of(conf_print_example);

    (void)state;
    if (strcmp(file, table) != 0)
        fail_msg("daemon/ssmd.conf is old: build/bin/ssmd --print-example > daemon/ssmd.conf");
    free(file);
    free(table);
}

static void conf__ssmd_conf_with_every_key_uncommented__is_the_built_in_configuration(void **state)
{
    char *file = file_read("daemon/ssmd.conf");
    struct conf built_in;
    size_t n, found = 0;

    (void)state;
    conf_keys(&n);
    for (char *line = file; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (line[0] == '#' && line[1] >= 'a' && line[1] <= 'z') {
            line[0] = ' ';
            found++;
        }
    }
    assert_int_equal(found, n);
    assert_int_equal(load(file), 0);
    conf_init(&built_in);
    assert_memory_equal(&conf, &built_in, sizeof(conf));
    free(file);
}

static void conf__man_page__holds_the_table(void **state)
{
    char *file = file_read("docs/man/ssmd.conf.5"), *table = text_of(conf_print_man);

    (void)state;
    if (!strstr(file, table))
        fail_msg("docs/man/ssmd.conf.5 is old: put in what build/bin/ssmd --print-man says");
    free(file);
    free(table);
}

static void conf__help__names_every_key(void **state)
{
    char *table = text_of(conf_print_help);
    size_t n;
    const struct conf_key *keys = conf_keys(&n);

    (void)state;
    for (size_t i = 0; i < n; i++)
        assert_non_null(strstr(table, keys[i].name));
    free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conf__no_file__is_the_built_in_configuration),
        cmocka_unit_test(conf__endpoint_auto__follows_the_environment),
        cmocka_unit_test(conf__tap_auto__lies_beside_the_first_ipc_endpoint_or_is_off),
        cmocka_unit_test(conf__comments_blanks_and_indentation__are_passed_over),
        cmocka_unit_test(conf__unknown_key__is_refused_by_name),
        cmocka_unit_test(conf__key_given_twice__is_refused_with_both_lines),
        cmocka_unit_test(conf__rules__add_up_and_read_back),
        cmocka_unit_test(conf__rules__are_bounded),
        cmocka_unit_test(conf__line_without_a_value_or_with_a_section__is_refused),
        cmocka_unit_test(conf__line_longer_than_any_value__is_refused_and_the_rest_is_read),
        cmocka_unit_test(conf__several_errors__are_all_told),
        cmocka_unit_test(conf__more_errors_than_the_report_holds__are_counted),
        cmocka_unit_test(conf__missing_file__is_named),
        cmocka_unit_test(conf__every_numeric_key__takes_its_limits_and_refuses_what_lies_beyond),
        cmocka_unit_test(conf__bytes__take_units),
        cmocka_unit_test(conf__choices__take_whole_words_only),
        cmocka_unit_test(conf__list__takes_a_bounded_number_of_bounded_entries),
        cmocka_unit_test(conf__whatever_is_printed__reads_back_the_same),
        cmocka_unit_test(conf__tcp_beyond_loopback__needs_allow_unauthenticated),
        cmocka_unit_test(conf__metrics__is_a_local_endpoint_of_its_own),
        cmocka_unit_test(conf__endpoint_of_another_form__is_refused),
        cmocka_unit_test(conf__sizes_that_contradict__are_refused),
        cmocka_unit_test(conf__devices__are_all_or_numbers),
        cmocka_unit_test(conf__reload__takes_what_it_can_and_names_what_needs_a_restart),
        cmocka_unit_test(conf__ssmd_conf__is_what_the_table_says),
        cmocka_unit_test(conf__ssmd_conf_with_every_key_uncommented__is_the_built_in_configuration),
        cmocka_unit_test(conf__man_page__holds_the_table),
        cmocka_unit_test(conf__help__names_every_key),
    };

    return cmocka_run_group_tests_name("conf", tests, path_make, path_remove);
}
