/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory that a configuration allows: every key that bounds some moves the sum by what it says, and the largest
 * configuration there is does not overflow it.
 */
#include "daemon/conf_key.h"
#include "daemon/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct conf conf;

static void assert_grows(const char *what, uint64_t before, uint64_t least, uint64_t most)
{
    uint64_t by = memory_bytes(&conf) - before;

    if (by < least || by > most)
        fail_msg("%s grew the sum by %llu, not %llu to %llu", what, (unsigned long long)by, (unsigned long long)least,
                 (unsigned long long)most);
}

static void memory__keys_of_bytes__count_as_they_are(void **state)
{
    uint64_t *const keys[] = {&conf.input_memory, &conf.ring_memory,    &conf.image_memory, &conf.history_memory,
                              &conf.state_memory, &conf.publish_memory, &conf.model_memory};

    (void)state;
    conf_init(&conf);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        uint64_t before = memory_bytes(&conf);

        *keys[i] += 12345678;
        assert_grows("a key of bytes", before, 12345678, 12345678);
    }
}

static void memory__keys_of_numbers__count_what_each_costs(void **state)
{
    uint64_t before;

    (void)state;
    conf_init(&conf);
    before = memory_bytes(&conf);
    conf.max_connections += 1; /* messages each way, and what waits for it */
    assert_grows("a connection", before, conf.connection_messages * (conf.max_message + (256u << 10)),
                 conf.connection_messages * (conf.max_message + (256u << 10)) + (6u << 20));
    before = memory_bytes(&conf);
    conf.connection_messages += 1;
    assert_grows("a message", before, conf.max_connections * (conf.max_message + (256u << 10)),
                 conf.max_connections * (conf.max_message + (256u << 10)));
    before = memory_bytes(&conf);
    conf.max_images += 1;
    assert_grows("an image", before, conf.result_ring, conf.result_ring + 4096);
    before = memory_bytes(&conf);
    conf.tap_subscriptions += 1000;
    assert_grows("prefixes of the tap", before, 1000 * 65, 1000 * 8192);
    before = memory_bytes(&conf);
    conf.max_streams += 1; /* rings are at ring_memory already; times and bookkeeping are not */
    assert_grows("a stream", before, 8192 * 24 + 300, 8192 * 24 + 4096);
}

static void memory__few_streams__need_no_more_than_their_rings(void **state)
{
    uint64_t before;

    (void)state;
    conf_init(&conf);
    conf.max_streams = 10;
    conf.result_ring = 1 << 20;
    before = memory_bytes(&conf);
    conf.ring_memory += 1 << 20;
    assert_grows("ring_memory beyond all rings", before, 0, 0);
    conf.result_ring += 1 << 20;
    assert_grows("rings", before, 10 << 20, (10 + conf.max_images) << 20);
}

/* Every number of the table at its upper end. */
static void memory__the_largest_configuration__does_not_overflow(void **state)
{
    struct memory_item items[MEMORY_ITEMS];
    uint32_t n;
    size_t keys_n;
    const struct conf_key *keys = conf_keys(&keys_n);

    (void)state;
    conf_init(&conf);
    for (size_t i = 0; i < keys_n; i++)
        if (keys[i].type == CONF_COUNT || keys[i].type == CONF_BYTES)
            assert_int_equal(conf_value_decode(&keys[i], strstr(keys[i].range, "..") + 2, &conf), 0);
    n = memory_items(&conf, items);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(items[i].bytes > 0 && items[i].bytes <= UINT64_MAX / MEMORY_ITEMS);
        assert_true(memory_bytes(&conf) > items[i].bytes);
    }
}

static void memory__what_is_printed__names_every_item_and_the_sum(void **state)
{
    struct memory_item items[MEMORY_ITEMS];
    char *text = NULL, sum[64];
    size_t size;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    conf_init(&conf);
    memory_print(&conf, out);
    assert_int_equal(fclose(out), 0);
    for (uint32_t i = 0, n = memory_items(&conf, items); i < n; i++)
        assert_non_null(strstr(text, items[i].name));
    snprintf(sum, sizeof(sum), "%.1f MiB\n", (double)memory_bytes(&conf) / (1 << 20));
    assert_non_null(strstr(text, sum));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory__keys_of_bytes__count_as_they_are),
        cmocka_unit_test(memory__keys_of_numbers__count_what_each_costs),
        cmocka_unit_test(memory__few_streams__need_no_more_than_their_rings),
        cmocka_unit_test(memory__the_largest_configuration__does_not_overflow),
        cmocka_unit_test(memory__what_is_printed__names_every_item_and_the_sum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
