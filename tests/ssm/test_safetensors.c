/* SPDX-License-Identifier: Apache-2.0
 *
 * The tensor files are hostile: every truncation, every flipped byte and every lie in the header is an error or a valid
 * set, never a read beyond the bytes (run under the address sanitizer, which sees it).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ssm/safetensors.h"
#include "tests/ssm/model_dir.h"

static const float WEIGHT[6] = {1, -2, 3.5f, -0.0f, 1e-30f, 1e30f};
static const uint16_t HALVES[3] = {0x3c00, 0xc000, 0x0001};
static const struct model_tensor TENSORS[] = {
    {"a.weight", NULL, 2, {2, 3}, WEIGHT}, {"b", "F16", 1, {3}, HALVES},     {"c", "BF16", 1, {3}, HALVES},
    {"scalar", NULL, 0, {0}, WEIGHT},      {"empty", NULL, 2, {0, 5}, NULL}, {"count", "I64", 1, {2}, NULL},
};
#define TENSOR_COUNT (sizeof(TENSORS) / sizeof(TENSORS[0]))

/* Reads every value of every tensor, as a loader would. */
static void read_all(struct ssm_tensors *set)
{
    for (size_t i = 0; i < ssm_tensors_count(set); i++) {
        struct ssm_tensor *t = ssm_tensors_at(set, i);
        uint64_t where;
        assert_ptr_equal(ssm_tensors_find(set, t->name), t);
        assert_true(t->elements < 1024);
        float values[1024];
        (void)!ssm_tensor_widen(t, values, &where);
    }
}

/* Parses a copy of exactly `size` bytes. */
static int parse_copy(const unsigned char *bytes, size_t size, struct ssm_error *err)
{
    struct ssm_tensors *set = NULL;
    unsigned char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    err->text[0] = '\0';
    int rc = ssm_tensors_parse(&set, copy, size, "t.safetensors", err);
    if (rc) {
        assert_null(set);
        assert_non_null(strstr(err->text, "t.safetensors"));
    } else {
        read_all(set);
    }
    ssm_tensors_close(set);
    free(copy);
    return rc;
}

static void parse__valid_file__finds_every_tensor(void **state)
{
    (void)state;
    size_t size;
    struct ssm_tensors *set;
    unsigned char *bytes = safetensors_new(TENSORS, TENSOR_COUNT, &size);
    assert_int_equal(ssm_tensors_parse(&set, bytes, size, "f", NULL), SSM_OK);
    assert_int_equal(ssm_tensors_count(set), TENSOR_COUNT);
    float values[6];
    uint64_t where;
    struct ssm_tensor *t = ssm_tensors_find(set, "a.weight");
    assert_non_null(t);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(ssm_tensor_widen(t, values, &where), SSM_OK);
    assert_memory_equal(values, WEIGHT, sizeof(WEIGHT));
    assert_int_equal(ssm_tensor_widen(ssm_tensors_find(set, "b"), values, &where), SSM_OK);
    assert_true(values[0] == 1 && values[1] == -2 && values[2] == 0x1p-24f);
    assert_int_equal(ssm_tensors_find(set, "scalar")->elements, 1);
    assert_int_equal(ssm_tensors_find(set, "empty")->elements, 0);
    assert_int_equal(ssm_tensor_widen(ssm_tensors_find(set, "count"), values, &where), SSM_UNSUPPORTED);
    assert_null(ssm_tensors_find(set, "a.weigh"));
    ssm_tensors_close(set);
    free(bytes);
}

/* Against the definition: (-1)^s 2^(e-15) (1 + f/1024), subnormals (-1)^s 2^-14 f/1024. */
static void widen__every_f16__is_exact(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 0x10000; half++) {
        int sign = half >> 15, exponent = half >> 10 & 31, fraction = half & 1023;
        double value = exponent ? ldexp(1 + fraction / 1024.0, exponent - 15) : ldexp(fraction / 1024.0, -14);
        unsigned char bytes[2] = {(unsigned char)half, (unsigned char)(half >> 8)};
        struct ssm_tensor t = {.dtype = SSM_F16, .elements = 1, .data = bytes};
        float out;
        uint64_t where = 9;
        int rc = ssm_tensor_widen(&t, &out, &where);
        assert_int_equal(rc, exponent == 31 ? SSM_NONFINITE : SSM_OK);
        if (exponent < 31) {
            assert_true((double)out == (sign ? -value : value));
            assert_int_equal(!!signbit(out), sign);
        } else {
            assert_int_equal(where, 0);
        }
    }
}

static void widen__every_bf16__is_the_upper_half_of_a_float(void **state)
{
    (void)state;
    for (uint32_t upper = 0; upper < 0x10000; upper++) {
        unsigned char bytes[2] = {(unsigned char)upper, (unsigned char)(upper >> 8)};
        struct ssm_tensor t = {.dtype = SSM_BF16, .elements = 1, .data = bytes};
        float out, expected;
        uint64_t where;
        memcpy(&expected, &(uint32_t){upper << 16}, 4);
        int rc = ssm_tensor_widen(&t, &out, &where);
        assert_int_equal(rc, isfinite(expected) ? SSM_OK : SSM_NONFINITE);
        if (!rc)
            assert_memory_equal(&out, &expected, 4);
    }
}

static void parse__every_truncation__is_refused(void **state)
{
    (void)state;
    size_t size;
    struct ssm_error err;
    unsigned char *bytes = safetensors_new(TENSORS, TENSOR_COUNT, &size);
    for (size_t n = 0; n < size; n++)
        assert_int_equal(parse_copy(bytes, n, &err), SSM_FORMAT);
    assert_int_equal(parse_copy(bytes, size, &err), SSM_OK);
    free(bytes);
}

static void parse__every_flipped_byte__is_refused_or_valid(void **state)
{
    (void)state;
    size_t size;
    struct ssm_error err;
    unsigned char *bytes = safetensors_new(TENSORS, TENSOR_COUNT, &size);
    for (size_t i = 0; i < size; i++) {
        unsigned char was = bytes[i];
        for (unsigned flip = 1; flip < 256; flip++) {
            bytes[i] = (unsigned char)(was ^ flip);
            (void)!parse_copy(bytes, size, &err);
        }
        bytes[i] = was;
    }
    free(bytes);
}

static void parse__surplus_byte__is_refused(void **state)
{
    (void)state;
    size_t size;
    struct ssm_error err;
    unsigned char *bytes =
        safetensors_new_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, &size);
    assert_int_equal(parse_copy(bytes, size, &err), SSM_FORMAT);
    assert_non_null(strstr(err.text, "belong to none"));
    free(bytes);
}

/* One lie each; all with 16 bytes of data. */
static const struct {
    const char *header, *says;
} LIES[] = {
    {"", "not a JSON object"},
    {"[]", "not a JSON object"},
    {"{} {}", "not a JSON object"},
    {"{\"a\":1}", "tensor 'a' must have"},
    {"{\"a\":{}}", "tensor 'a' must have"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}", "tensor 'a' must have"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16],\"x\":1}}", "nothing else"},
    {"{\"a\":{\"dtype\":4,\"shape\":[4],\"data_offsets\":[0,16]}}", "dtype"},
    {"{\"a\":{\"dtype\":\"F31\",\"shape\":[4],\"data_offsets\":[0,16]}}", "unknown dtype 'F31'"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]}}", "not a list"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", "dimension 0"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4.0],\"data_offsets\":[0,16]}}", "dimension 0"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,16]}}", "9 dimensions"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,16]}}", "overflows"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,16]}}", "overflows"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775808],\"data_offsets\":[0,16]}}", "not a JSON object"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]}}", "[begin, end]"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16,32]}}", "[begin, end]"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]}}", "[begin, end]"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}", "[begin, end]"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[4,20]}}", "ends at byte 20 of 16"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,9223372036854775807]}}", "ends at byte"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,16]}}", "has 16 bytes, its shape and dtype need 12"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,16]}}", "need 8"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[4,16]}}", "a hole"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}", "belong to none"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
     "overlap"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
     "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
     "duplicate"},
    {"{\"__metadata__\":{\"a\":\"b\"}}", "belong to none"},
};

static void parse__a_lie_in_the_header__is_refused_and_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(LIES) / sizeof(LIES[0]); i++) {
        size_t size;
        struct ssm_error err;
        unsigned char *bytes = safetensors_new_raw(LIES[i].header, 16, &size);
        int rc = parse_copy(bytes, size, &err);
        if (rc != SSM_FORMAT || !strstr(err.text, LIES[i].says))
            print_error("%s\n -> %d: %s (should say: %s)\n", LIES[i].header, rc, err.text, LIES[i].says);
        assert_int_equal(rc, SSM_FORMAT);
        assert_non_null(strstr(err.text, LIES[i].says));
        free(bytes);
    }
}

static void parse__header_length__is_bounded(void **state)
{
    (void)state;
    const uint64_t lengths[] = {3, 1u << 30, UINT64_MAX, UINT64_MAX - 7, 1ull << 63};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        unsigned char bytes[10] = {[8] = '{', [9] = '}'};
        struct ssm_error err;
        memcpy(bytes, &lengths[i], 8);
        assert_int_equal(parse_copy(bytes, sizeof(bytes), &err), SSM_FORMAT);
    }
}

static void parse__deep_nesting__is_refused(void **state)
{
    (void)state;
    size_t depth = 100000, size;
    struct ssm_error err;
    char *header = malloc(depth + 16);
    assert_non_null(header);
    size_t n = (size_t)sprintf(header, "{\"a\":");
    memset(header + n, '[', depth);
    header[n + depth] = '\0';
    unsigned char *bytes = safetensors_new_raw(header, 0, &size);
    assert_int_equal(parse_copy(bytes, size, &err), SSM_FORMAT);
    free(bytes);
    free(header);
}

static void parse__metadata__is_ignored(void **state)
{
    (void)state;
    size_t size;
    struct ssm_error err;
    unsigned char *bytes = safetensors_new_raw("{\"__metadata__\":{\"format\":\"pt\"}}   ", 0, &size);
    assert_int_equal(parse_copy(bytes, size, &err), SSM_OK);
    free(bytes);
}

/* ---- directories ------------------------------------------------------------------------------------------------- */

static const struct model_tensor FIRST[] = {{"x", NULL, 1, {2}, WEIGHT}};
static const struct model_tensor SECOND[] = {{"y", "BF16", 1, {3}, HALVES}};
#define SHARD_1 "model-00001-of-00002.safetensors"
#define SHARD_2 "model-00002-of-00002.safetensors"
#define INDEX   "model.safetensors.index.json"

static void check_open(const struct model_dir *dir, int status, const char *says)
{
    struct ssm_tensors *set = NULL;
    struct ssm_error err = {0};
    int rc = ssm_tensors_open(&set, dir->path, &err);
    if (rc != status || !strstr(err.text, says))
        print_error("%d: %s (should say: %s)\n", rc, err.text, says);
    assert_int_equal(rc, status);
    assert_non_null(strstr(err.text, says));
    if (!rc)
        read_all(set);
    ssm_tensors_close(set);
}

static void open__no_tensor_file__is_an_empty_set(void **state)
{
    (void)state;
    struct model_dir dir;
    struct ssm_tensors *set;
    model_dir_init(&dir);
    assert_int_equal(ssm_tensors_open(&set, dir.path, NULL), SSM_OK);
    assert_int_equal(ssm_tensors_count(set), 0);
    assert_null(ssm_tensors_find(set, "x"));
    ssm_tensors_close(set);
    model_dir_fini(&dir);
}

static void open__not_a_file_with_bytes__is_refused(void **state)
{
    (void)state;
    struct model_dir dir;
    char path[128];
    model_dir_init(&dir);
    snprintf(path, sizeof(path), "%s/model.safetensors", dir.path);
    model_dir_write_text(&dir, "model.safetensors", "");
    check_open(&dir, SSM_FORMAT, "empty");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    check_open(&dir, SSM_FORMAT, "not a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    check_open(&dir, SSM_FORMAT, "not a regular file");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("nowhere", path), 0);
    check_open(&dir, SSM_NOENT, "model.safetensors");
    model_dir_fini(&dir);
}

static void open__shards__are_one_set(void **state)
{
    (void)state;
    struct model_dir dir;
    struct ssm_tensors *set;
    model_dir_init(&dir);
    model_dir_write_tensors(&dir, "blob", FIRST, 1); /* as download caches do */
    char link[128];
    snprintf(link, sizeof(link), "%s/" SHARD_1, dir.path);
    assert_int_equal(symlink("blob", link), 0);
    model_dir_write_tensors(&dir, SHARD_2, SECOND, 1);
    model_dir_write_text(&dir, INDEX, "{\"metadata\":{},\"weight_map\":{\"y\":\"" SHARD_2 "\",\"x\":\"" SHARD_1 "\"}}");
    assert_int_equal(ssm_tensors_open(&set, dir.path, NULL), SSM_OK);
    assert_int_equal(ssm_tensors_count(set), 2);
    read_all(set);
    assert_non_null(strstr(ssm_tensors_find(set, "y")->file, SHARD_2));
    ssm_tensors_close(set);
    model_dir_fini(&dir);
}

static const struct {
    const char *index;
    int status;
    const char *says;
} BAD_INDEXES[] = {
    {"", SSM_CONFIG, INDEX},
    {"{}", SSM_FORMAT, "weight_map"},
    {"{\"weight_map\":[]}", SSM_FORMAT, "weight_map"},
    {"{\"weight_map\":{\"x\":1}}", SSM_FORMAT, "not a string"},
    {"{\"weight_map\":{\"x\":\"../" SHARD_1 "\"}}", SSM_FORMAT, "not a file name in this directory"},
    {"{\"weight_map\":{\"x\":\"/etc/passwd\"}}", SSM_FORMAT, "not a file name in this directory"},
    {"{\"weight_map\":{\"x\":\"..\"}}", SSM_FORMAT, "not a file name in this directory"},
    {"{\"weight_map\":{\"x\":\"\"}}", SSM_FORMAT, "not a file name in this directory"},
    {"{\"weight_map\":{\"x\":\"missing.safetensors\"}}", SSM_NOENT, "missing.safetensors"},
    {"{\"weight_map\":{\"x\":\"" SHARD_1 "\",\"x\":\"" SHARD_1 "\"}}", SSM_CONFIG, "duplicate"},
    {"{\"weight_map\":{\"x\":\"" SHARD_2 "\",\"y\":\"" SHARD_1 "\"}}", SSM_FORMAT, "should be in"},
    {"{\"weight_map\":{\"x\":\"" SHARD_1 "\",\"z\":\"" SHARD_2 "\"}}", SSM_TENSOR, "'z' is not in its shard"},
    {"{\"weight_map\":{\"x\":\"" SHARD_1 "\",\"y\":\"twice.safetensors\",\"w\":\"" SHARD_2 "\"}}", SSM_FORMAT,
     "'y' is in"},
};

static void open__an_index_that_lies__is_refused_and_named(void **state)
{
    (void)state;
    struct model_dir dir;
    model_dir_init(&dir);
    model_dir_write_tensors(&dir, SHARD_1, FIRST, 1);
    model_dir_write_tensors(&dir, SHARD_2, SECOND, 1);
    model_dir_write_tensors(&dir, "twice.safetensors", SECOND, 1);
    for (size_t i = 0; i < sizeof(BAD_INDEXES) / sizeof(BAD_INDEXES[0]); i++) {
        model_dir_write_text(&dir, INDEX, BAD_INDEXES[i].index);
        check_open(&dir, BAD_INDEXES[i].status, BAD_INDEXES[i].says);
    }
    model_dir_fini(&dir);
}

static void open__tensor_of_a_shard_outside_the_index__is_refused(void **state)
{
    (void)state;
    struct model_dir dir;
    const struct model_tensor both[] = {FIRST[0], SECOND[0]};
    model_dir_init(&dir);
    model_dir_write_tensors(&dir, SHARD_1, both, 2);
    model_dir_write_text(&dir, INDEX, "{\"weight_map\":{\"x\":\"" SHARD_1 "\"}}");
    check_open(&dir, SSM_FORMAT, "'y' is not in the index");
    model_dir_fini(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__valid_file__finds_every_tensor),
        cmocka_unit_test(widen__every_f16__is_exact),
        cmocka_unit_test(widen__every_bf16__is_the_upper_half_of_a_float),
        cmocka_unit_test(parse__every_truncation__is_refused),
        cmocka_unit_test(parse__every_flipped_byte__is_refused_or_valid),
        cmocka_unit_test(parse__surplus_byte__is_refused),
        cmocka_unit_test(parse__a_lie_in_the_header__is_refused_and_named),
        cmocka_unit_test(parse__header_length__is_bounded),
        cmocka_unit_test(parse__deep_nesting__is_refused),
        cmocka_unit_test(parse__metadata__is_ignored),
        cmocka_unit_test(open__no_tensor_file__is_an_empty_set),
        cmocka_unit_test(open__not_a_file_with_bytes__is_refused),
        cmocka_unit_test(open__shards__are_one_set),
        cmocka_unit_test(open__an_index_that_lies__is_refused_and_named),
        cmocka_unit_test(open__tensor_of_a_shard_outside_the_index__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
