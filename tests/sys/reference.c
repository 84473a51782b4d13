/* SPDX-License-Identifier: Apache-2.0
 *
 * Golden cases are read again here rather than shared with tests/golden, which judges the library by them; here they
 * are only material, and the library is the judge.
 */
#include "tests/sys/reference.h"
#include "tests/ssm/model_dir.h"

#include <dirent.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

static void *numbers_read(const char *directory, const char *name, size_t *count)
{
    char path[600];
    struct stat found;
    FILE *file;
    void *bytes;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    file = fopen(path, "rb");
    if (!file)
        return NULL;
    assert_int_equal(fstat(fileno(file), &found), 0);
    bytes = malloc((size_t)found.st_size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)found.st_size, file), found.st_size);
    fclose(file);
    *count = (size_t)found.st_size / 4;
    return bytes;
}

static void case_read(struct reference *r, const char *directory)
{
    char path[600];
    json_error_t error;
    json_t *json;
    float *expected;
    size_t count = 0;

    snprintf(path, sizeof(path), "%.500s/case.json", directory);
    json = json_load_file(path, 0, &error);
    assert_non_null(json);
    r->frames = (uint32_t)json_integer_value(json_object_get(json, "steps"));
    r->tolerance = json_number_value(json_object_get(json, "tolerance"));
    json_decref(json);
    r->out_frames = (uint32_t)ssm_out_frames(r->model, r->frames);
    r->in = numbers_read(directory, "input.f32", &count);
    if (!r->in)
        r->in = numbers_read(directory, "input.i32", &count);
    assert_non_null(r->in);
    assert_int_equal(count, (size_t)r->frames * r->in_channels);
    expected = numbers_read(directory, "expected.f32", &count);
    assert_non_null(expected);
    assert_int_equal(count, (size_t)r->out_frames * r->out_channels);
    r->expected = malloc(count * sizeof(double) + 1);
    assert_non_null(r->expected);
    for (size_t i = 0; i < count; i++)
        r->expected[i] = expected[i];
    free(expected);
}

void reference_load(struct reference *r, const char *name)
{
    const struct ssm_model_info *info;
    struct ssm_error err = {""};
    char directory[256];

    memset(r, 0, sizeof(*r));
    snprintf(r->name, sizeof(r->name), "case-%.50s", name);
    snprintf(directory, sizeof(directory), "%s/%.200s", GOLDEN_DIRECTORY, name);
    if (ssm_model_load(&r->model, directory, NULL, &err) != SSM_OK)
        fail_msg("%s", err.text);
    info = ssm_model_info(r->model);
    r->in_channels = info->in_channels;
    r->out_channels = info->out_channels;
    r->vocab = info->input == SSM_TOKENS ? info->vocab : 0;
    case_read(r, directory);
    running_open(&r->running, r->model, NULL, 1, 4);
    r->step = malloc((size_t)r->out_frames * r->out_channels * sizeof(float) + 1);
    assert_non_null(r->step);
    reference_step(r, r->in, r->frames, r->step);
}

void reference_free(struct reference *r)
{
    running_close(&r->running);
    ssm_model_free(r->model);
    free(r->in);
    free(r->step);
    free(r->expected);
}

void reference_step(struct reference *r, const void *in, uint32_t frames, float *out)
{
    running_pass(&r->running, SSM_STEP, in, frames, out, NULL, frames, 1);
}

size_t reference_load_all(struct reference *out, size_t most)
{
    struct dirent **entries;
    int found = scandir(GOLDEN_DIRECTORY, &entries, NULL, alphasort);
    size_t n = 0;

    assert_true(found > 0);
    for (int i = 0; i < found; i++) {
        char path[600];

        snprintf(path, sizeof(path), "%s/%s/case.json", GOLDEN_DIRECTORY, entries[i]->d_name);
        if (n < most && entries[i]->d_name[0] != '.' && access(path, R_OK) == 0)
            reference_load(&out[n++], entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    assert_true(n >= 10);
    return n;
}

void reference_free_all(struct reference *all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        reference_free(&all[i]);
}

/* ---- small models ------------------------------------------------------------------------------------------------ */

#define CONFIG(channels, layers)                                                                                       \
    "{\"model_type\":\"ssmd\",\"format_version\":1,\"name\":\"test\","                                                 \
    "\"input\":{\"kind\":\"signal\",\"channels\":" channels ",\"sample_rate\":1000},"                                  \
    "\"output\":{\"kind\":\"signal\",\"channels\":" channels ",\"sample_rate\":1000},\"layers\":[" layers "]}"

static void model_write(const struct models_dir *dir, const char *name, const char *config,
                        const struct model_tensor *tensors, size_t n)
{
    struct model_dir to;

    snprintf(to.path, sizeof(to.path), "%.40s/%.20s", dir->path, name);
    assert_int_equal(mkdir(to.path, 0700), 0);
    model_dir_write_text(&to, "config.json", config);
    model_dir_write_tensors(&to, "model.safetensors", tensors, n);
}

/* The cases under names of their own: `forecast` alone would be the template. */
static void cases_link(const struct models_dir *dir)
{
    struct dirent **entries;
    int found = scandir(GOLDEN_DIRECTORY, &entries, NULL, alphasort);
    char root[PATH_MAX], from[PATH_MAX + 300], to[400];

    assert_true(found > 0);
    assert_non_null(realpath(GOLDEN_DIRECTORY, root));
    for (int i = 0; i < found; i++) {
        snprintf(from, sizeof(from), "%s/%s", root, entries[i]->d_name);
        snprintf(to, sizeof(to), "%s/case-%s", dir->path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            assert_int_equal(symlink(from, to), 0);
        free(entries[i]);
    }
    free(entries);
}

void models_dir_init(struct models_dir *dir)
{
    static const struct model_tensor wide = {.name = "mix.weight", .rank = 2, .dims = {2, 3}};

    snprintf(dir->path, sizeof(dir->path), "/tmp/ssmd-models-XXXXXX");
    assert_non_null(mkdtemp(dir->path));
    model_write(dir, "twice", CONFIG("1", "{\"type\":\"scale\",\"name\":\"s\",\"value\":2}"), NULL, 0);
    model_write(dir, "pair", CONFIG("2", "{\"type\":\"scale\",\"name\":\"s\",\"value\":2}"), NULL, 0);
    model_write(dir, "broken", CONFIG("2", "{\"type\":\"linear\",\"name\":\"mix\",\"in\":2,\"out\":2,\"bias\":false}"),
                &wide, 1);
    cases_link(dir);
    model_write(dir, "slow",
                "{\"model_type\":\"ssmd\",\"format_version\":1,\"name\":\"slow\","
                "\"input\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":1000},"
                "\"output\":{\"kind\":\"signal\",\"channels\":512,\"sample_rate\":1000},"
                "\"layers\":[{\"type\":\"hippo\",\"name\":\"h\",\"measure\":\"legs\",\"channels\":1,\"order\":512,"
                "\"dt\":0.001,\"discretization\":\"zoh\"}]}",
                NULL, 0);
    model_write(dir, "garbled", "{\"model_type\": ", NULL, 0);
}

static int entry_remove(const char *path, const struct stat *found, int kind, struct FTW *walk)
{
    (void)found;
    (void)kind;
    (void)walk;
    return remove(path);
}

void models_dir_fini(struct models_dir *dir)
{
    nftw(dir->path, entry_remove, 8, FTW_DEPTH | FTW_PHYS);
}
