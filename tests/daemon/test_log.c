/* SPDX-License-Identifier: Apache-2.0
 *
 * The log: one line for each event whatever its values hold, priorities for the journal, and a limit for each call
 * site.
 */
#include "daemon/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int pipe_fds[2];
static char text[65536];

static int pipe_make(void **state)
{
    (void)state;
    if (pipe(pipe_fds) != 0)
        return -1;
    log_init(pipe_fds[1], LOG_FORM_JOURNAL, LOG_INFO);
    return 0;
}

static int pipe_remove(void **state)
{
    (void)state;
    close(pipe_fds[0]);
    return close(pipe_fds[1]);
}

/* What was logged since the last call. */
static const char *logged(void)
{
    ssize_t size;

    assert_int_equal(write(pipe_fds[1], "", 1), 1); /* so that read does not wait when there is nothing */
    size = read(pipe_fds[0], text, sizeof(text) - 1);
    assert_true(size > 0);
    return text;
}

static void log__event_with_values__is_one_line_of_pairs(void **state)
{
    (void)state;
    log_event(LOG_NOTICE, "opened", "stream=%s epoch=%" PRIu64 " rate=%g n=%zu delta=%d mode=%o", "ecg", UINT64_MAX,
              0.5, (size_t)7, -3, 0660);
    assert_string_equal(logged(), "<5>opened stream=ecg epoch=18446744073709551615 rate=0.5 n=7 delta=-3 mode=660\n");
    log_event(LOG_INFO, "ready");
    assert_string_equal(logged(), "<6>ready\n");
    log_event(LOG_ERR, "failed", "a=%.2f b=%lu c=%lld d=%jd e=%x f=%u", 1.0, 2ul, 3ll, (intmax_t)4, 0xffu, 4000000000u);
    assert_string_equal(logged(), "<3>failed a=1.00 b=2 c=3 d=4 e=ff f=4000000000\n");
}

static void log__value_that_could_forge_a_line__is_quoted_and_escaped(void **state)
{
    (void)state;
    log_event(LOG_INFO, "x", "v=%s", "two words");
    assert_string_equal(logged(), "<6>x v=\"two words\"\n");
    log_event(LOG_INFO, "x", "v=%s w=%s", "a\n<0>b \"c\" \\", "");
    assert_string_equal(logged(), "<6>x v=\"a\\x0a<0>b \\\"c\\\" \\\\\" w=\"\"\n");
    log_event(LOG_INFO, "x", "v=%s", "k=v");
    assert_string_equal(logged(), "<6>x v=\"k=v\"\n");
    log_event(LOG_INFO, "x", "v=%s", "\xc3\xa4\x7f");
    assert_string_equal(logged(), "<6>x v=\"\\xc3\\xa4\\x7f\"\n");
}

static void log__bytes_without_an_end__are_read_no_further_than_told(void **state)
{
    char *id = malloc(3); /* no NUL behind it */

    (void)state;
    assert_non_null(id);
    memcpy(id, "abc", 3);
    log_event(LOG_INFO, "x", "id=%.*s next=%d", 3, id, 5);
    assert_string_equal(logged(), "<6>x id=abc next=5\n");
    log_event(LOG_INFO, "x", "id=%.*s next=%d", 2, "abc", 6);
    assert_string_equal(logged(), "<6>x id=ab next=6\n");
    free(id);
}

static void log__null_text__is_empty(void **state)
{
    const char *volatile none = NULL;

    (void)state;
    log_event(LOG_INFO, "x", "v=%s", none);
    assert_string_equal(logged(), "<6>x v=\"\"\n");
}

static void log__line_too_long__is_cut_and_says_so(void **state)
{
    char value[5000];
    size_t size;

    (void)state;
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    log_event(LOG_INFO, "x", "a=%s b=%s c=%s", value, value, value);
    size = strlen(logged());
    assert_in_range(size, 500, 1024);
    assert_string_equal(text + size - 4, "...\n");
    assert_ptr_equal(strchr(text, '\n'), text + size - 1);
}

static void log__event_below_the_level__is_not_written(void **state)
{
    (void)state;
    log_event(LOG_DEBUG, "quiet", "n=%d", 1);
    assert_string_equal(logged(), "");
    log_set_level(LOG_DEBUG);
    log_event(LOG_DEBUG, "loud");
    assert_string_equal(logged(), "<7>loud\n");
    log_set_level(LOG_INFO);
}

static void log__call_site_that_repeats__is_limited_and_counts_the_rest(void **state)
{
    struct log_site site = {0};
    char last[64];
    const char *line;
    int lines = 0;

    (void)state;
    for (int i = 0; i < LOG_SITE_BURST + 90; i++)
        log_write(&site, LOG_INFO, "storm", " n=%d", i);
    for (line = logged(); *line != '\0'; line = strchr(line, '\n') + 1)
        lines++;
    assert_int_equal(lines, LOG_SITE_BURST);

    log_event(LOG_INFO, "other"); /* another site is not touched by it */
    assert_string_equal(logged(), "<6>other\n");

    site.began_ms -= LOG_SITE_PERIOD_MS; /* the period is over */
    log_write(&site, LOG_INFO, "storm", " n=%d", 1000);
    snprintf(last, sizeof(last), "<6>storm n=1000 suppressed=%d\n", 90);
    assert_string_equal(logged(), last);
    log_write(&site, LOG_INFO, "storm", " n=%d", 1001);
    assert_string_equal(logged(), "<6>storm n=1001\n");
}

static void *log_many(void *context)
{
    struct log_site site = {0};

    for (int i = 0; i < LOG_SITE_BURST; i++)
        log_write(&site, LOG_INFO, "thread", " text=%s", (const char *)context);
    return NULL;
}

static void log__several_threads__write_whole_lines(void **state)
{
    enum { THREADS = 4, SIZE = 200 };
    static char value[THREADS][SIZE];
    pthread_t thread[THREADS];
    int lines = 0;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        memset(value[i], 'a' + i, SIZE - 1);
        assert_int_equal(pthread_create(&thread[i], NULL, log_many, value[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    for (const char *line = logged(); *line != '\0'; line += strlen("<6>thread text=\n") + SIZE - 1, lines++) {
        assert_memory_equal(line, "<6>thread text=", 15);
        assert_int_equal(strspn(line + 15, (char[]){line[15], '\0'}), SIZE - 1);
        assert_int_equal(line[15 + SIZE - 1], '\n');
    }
    assert_int_equal(lines, THREADS * LOG_SITE_BURST);
}

static void log__plain_form__begins_with_time_and_priority(void **state)
{
    int year, month, day, hour, minute, second, milli, end = 0;

    (void)state;
    log_init(pipe_fds[1], LOG_FORM_PLAIN, LOG_INFO);
    log_event(LOG_WARNING, "late", "ms=%d", 3);
    logged();
    log_init(pipe_fds[1], LOG_FORM_JOURNAL, LOG_INFO);
    assert_int_equal(
        sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &year, &month, &day, &hour, &minute, &second, &milli, &end), 7);
    assert_string_equal(text + end, "warning late ms=3\n");
}

static void log__journal_stream__decides_the_form(void **state)
{
    struct stat st;
    char stream[64];

    (void)state;
    assert_int_equal(fstat(pipe_fds[1], &st), 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    assert_int_equal(log_form_find(pipe_fds[1]), LOG_FORM_JOURNAL);
    setenv("JOURNAL_STREAM", "1:1", 1);
    assert_int_equal(log_form_find(pipe_fds[1]), LOG_FORM_PLAIN);
    setenv("JOURNAL_STREAM", "nonsense", 1);
    assert_int_equal(log_form_find(pipe_fds[1]), LOG_FORM_PLAIN);
    unsetenv("JOURNAL_STREAM");
    assert_int_equal(log_form_find(pipe_fds[1]), LOG_FORM_PLAIN);
}

static void log__level_names__are_those_of_the_configuration(void **state)
{
    (void)state;
    assert_int_equal(log_level_find("err"), LOG_ERR);
    assert_int_equal(log_level_find("debug"), LOG_DEBUG);
    assert_int_equal(log_level_find("trace"), -1);
    assert_int_equal(log_level_find(""), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log__event_with_values__is_one_line_of_pairs),
        cmocka_unit_test(log__value_that_could_forge_a_line__is_quoted_and_escaped),
        cmocka_unit_test(log__bytes_without_an_end__are_read_no_further_than_told),
        cmocka_unit_test(log__null_text__is_empty),
        cmocka_unit_test(log__line_too_long__is_cut_and_says_so),
        cmocka_unit_test(log__event_below_the_level__is_not_written),
        cmocka_unit_test(log__call_site_that_repeats__is_limited_and_counts_the_rest),
        cmocka_unit_test(log__several_threads__write_whole_lines),
        cmocka_unit_test(log__plain_form__begins_with_time_and_priority),
        cmocka_unit_test(log__journal_stream__decides_the_form),
        cmocka_unit_test(log__level_names__are_those_of_the_configuration),
    };

    return cmocka_run_group_tests_name("log", tests, pipe_make, pipe_remove);
}
