/* SPDX-License-Identifier: Apache-2.0
 * Reading golden cases; see case.h. */
#include "tests/golden/case.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

static void *read_numbers(const char *dir, const char *name, uint64_t *count)
{
    char path[600];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    assert_int_equal(fstat(fileno(file), &st), 0);
    char *bytes = malloc((size_t)st.st_size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)st.st_size, file), st.st_size);
    fclose(file);
    assert_int_equal(st.st_size % 4, 0);
    *count = (uint64_t)st.st_size / 4;
    return bytes;
}

void golden_load(struct golden *g)
{
    char path[600];
    json_error_t error;
    uint64_t count = 0;
    snprintf(path, sizeof(path), "%s/case.json", g->dir);
    json_t *json = json_load_file(path, 0, &error);
    assert_non_null(json);
    g->steps = (uint64_t)json_integer_value(json_object_get(json, "steps"));
    g->in_channels = (uint32_t)json_integer_value(json_object_get(json, "in_channels"));
    g->out_channels = (uint32_t)json_integer_value(json_object_get(json, "out_channels"));
    g->tolerance = json_number_value(json_object_get(json, "tolerance"));
    json_decref(json);
    assert_true(g->steps > 0 && g->tolerance > 0);
    g->in = read_numbers(g->dir, "input.f32", &count);
    if (!g->in)
        g->in = read_numbers(g->dir, "input.i32", &count);
    assert_non_null(g->in);
    assert_int_equal(count, g->steps * g->in_channels);
    g->expected = read_numbers(g->dir, "expected.f32", &count);
    assert_non_null(g->expected);
    g->out_frames = count / g->out_channels;
    assert_int_equal(count % g->out_channels, 0);
    g->out = calloc(count + 1, sizeof(float));
    g->first = calloc(count + 1, sizeof(float));
    assert_true(g->out && g->first);
}

void golden_free(struct golden *g)
{
    free(g->in);
    free(g->expected);
    free(g->out);
    free(g->first);
}

double golden_error(const struct golden *g)
{
    double worst = 0, scale = 0;
    for (uint64_t i = 0; i < g->out_frames * g->out_channels; i++) {
        double difference = fabs((double)g->out[i] - (double)g->expected[i]);
        if (!(difference <= worst))
            worst = difference;
        if (isnan(worst))
            return worst;
        scale = fmax(scale, fabs((double)g->expected[i]));
    }
    return scale > 0 ? worst / scale : worst;
}

static size_t find_cases(const char *root, bool may_skip, struct golden *cases, struct CMUnitTest *tests, size_t n,
                         CMUnitTestFunction test)
{
    struct dirent **entries;
    int found = scandir(root, &entries, NULL, alphasort);
    if (found < 0) {
        fprintf(stderr, "%s: no such directory of golden cases\n", root);
        exit(1);
    }
    for (int i = 0; i < found; i++) {
        char path[512];
        struct golden *g = &cases[n];
        snprintf(g->dir, sizeof(g->dir), "%.240s/%.240s", root, entries[i]->d_name);
        snprintf(path, sizeof(path), "%.490s/case.json", g->dir);
        if (entries[i]->d_name[0] != '.' && access(path, R_OK) == 0 && n < CASES_MAX) {
            g->may_skip = may_skip;
            tests[n++] = (struct CMUnitTest){g->dir, test, NULL, NULL, g};
        }
        free(entries[i]);
    }
    free(entries);
    return n;
}

size_t golden_find_all(struct golden *cases, struct CMUnitTest *tests, CMUnitTestFunction test)
{
    const char *more = getenv("GOLDEN");
    size_t n = find_cases("tests/golden", false, cases, tests, 0, test);

    return more && *more ? find_cases(more, true, cases, tests, n, test) : n;
}
