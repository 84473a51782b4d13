/* SPDX-License-Identifier: Apache-2.0
 *
 * Replays the fuzzers' corpora (tests/fuzz), whole and cut at every length, so that what a fuzzer once found stays
 * found.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/fuzz/fuzz.h"

/* A copy of exactly `size` bytes, so that a sanitizer sees every step beyond. */
static void replay_bytes(int (*target)(const uint8_t *, size_t), const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    assert_int_equal(target(copy, size), 0);
    free(copy);
}

static void replay_file(int (*target)(const uint8_t *, size_t), const char *path)
{
    static uint8_t bytes[1 << 16];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    replay_bytes(target, bytes, size);
    for (size_t n = 0; n < size; n += 1 + n / 64)
        replay_bytes(target, bytes, n);
}

static void replay(int (*target)(const uint8_t *, size_t), const char *dir)
{
    struct dirent **entries;
    unsigned replayed = 0;
    int count = scandir(dir, &entries, NULL, alphasort);
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            replay_file(target, path);
            replayed++;
        }
        free(entries[i]);
    }
    free(entries);
    assert_true(replayed > 0);
}

static void corpus__safetensors__never_crashes(void **state)
{
    (void)state;
    replay(fuzz_safetensors, "tests/fuzz/corpus/safetensors");
}

static void corpus__config__never_crashes(void **state)
{
    (void)state;
    replay(fuzz_config, "tests/fuzz/corpus/config");
}

static void corpus__codec__never_crashes(void **state)
{
    (void)state;
    replay(fuzz_codec, "tests/fuzz/corpus/codec");
}

static void corpus__image__never_crashes(void **state)
{
    (void)state;
    replay(fuzz_image, "tests/fuzz/corpus/image");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(corpus__safetensors__never_crashes),
        cmocka_unit_test(corpus__config__never_crashes),
        cmocka_unit_test(corpus__codec__never_crashes),
        cmocka_unit_test(corpus__image__never_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
