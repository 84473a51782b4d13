/* SPDX-License-Identifier: Apache-2.0
 *
 * The tensor files of a model directory, mapped: model.safetensors, or else the shards of model.safetensors.index.json.
 *
 * The index is as hostile as the files. A shard's name is a plain file name (it cannot leave the directory, though the
 * file may be a symbolic link, as download caches make them); every tensor of the index must be in the shard that the
 * index says, and every tensor of a shard must be in the index.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "ssm/config.h"
#include "ssm/model.h"
#include "ssm/safetensors_set.h"

#define SHARDS_MAX 4096

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct ssm_tensor *)a)->name, ((const struct ssm_tensor *)b)->name);
}

int ssm_tensors_sort(struct ssm_tensors *set, struct ssm_error *err)
{
    if (set->count)
        qsort(set->tensors, set->count, sizeof(*set->tensors), compare_names);
    for (size_t i = 1; i < set->count; i++) {
        const struct ssm_tensor *a = &set->tensors[i - 1], *b = &set->tensors[i];
        if (strcmp(a->name, b->name) == 0)
            return ssm_error_set(err, SSM_FORMAT, "tensor '%s' is in %s and in %s", a->name, a->file, b->file);
    }
    return SSM_OK;
}

/* Maps `path` (kept, freed with the set) and appends its tensors. */
static int add_file(struct ssm_tensors *set, char *path, struct ssm_error *err)
{
    int rc = SSM_OK;
    struct stat st;
    void *bytes = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not make us wait */
    if (fd < 0 || fstat(fd, &st) < 0) {
        rc = ssm_error_set(err, errno == ENOENT ? SSM_NOENT : SSM_IO, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = ssm_error_set(err, SSM_FORMAT, "%s: not a regular file", path);
        goto out;
    }
    if (st.st_size == 0) {
        rc = ssm_error_set(err, SSM_FORMAT, "%s: the file is empty", path);
        goto out;
    }
    bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        bytes = NULL;
        rc = ssm_error_set(err, SSM_IO, "%s: %s", path, strerror(errno));
    }
out:
    if (fd >= 0)
        close(fd);
    if (rc) {
        free(path);
        return rc;
    }
    set->mappings[set->mapped++] = (struct ssm_mapping){path, bytes, (size_t)st.st_size};
    return ssm_tensors_add(set, bytes, (size_t)st.st_size, path, err);
}

static char *path_in(const char *dir, const char *file)
{
    char *path;
    return asprintf(&path, "%s/%s", dir, file) < 0 ? NULL : path;
}

/* The shards of a weight_map, each once, as the keys of a new object whose values are their paths. */
static int list_shards(const json_t *map, const char *index, json_t *shards, struct ssm_error *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)map, tensor, value)
    {
        const char *shard = json_string_value(value);
        if (!shard)
            return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s': the shard is not a string", index, tensor);
        if (!*shard || strchr(shard, '/') || strcmp(shard, ".") == 0 || strcmp(shard, "..") == 0)
            return ssm_error_set(err, SSM_FORMAT,
                                 "%s: tensor '%s': the shard '%s' is not a file name in this directory", index, tensor,
                                 shard);
        if (json_object_set_new(shards, shard, json_true()) < 0)
            return ssm_error_set(err, SSM_NOMEM, "%s: out of memory", index);
    }
    if (json_object_size(shards) > SHARDS_MAX)
        return ssm_error_set(err, SSM_FORMAT, "%s: %zu shards; at most %d are read", index, json_object_size(shards),
                             SHARDS_MAX);
    return SSM_OK;
}

/* The sorted set holds exactly what the map says, where it says. */
static int check_map(struct ssm_tensors *set, const json_t *map, const char *index, struct ssm_error *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)map, tensor, value)
    {
        const struct ssm_tensor *t = ssm_tensors_find(set, tensor);
        const char *shard = json_string_value(value);
        if (!t)
            return ssm_error_set(err, SSM_TENSOR, "%s: tensor '%s' is not in its shard '%s'", index, tensor, shard);
        if (strcmp(strrchr(t->file, '/') + 1, shard) != 0)
            return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s' should be in '%s', but is in %s", index, tensor,
                                 shard, t->file);
    }
    for (size_t i = 0; i < set->count; i++) {
        if (!json_object_get(map, set->tensors[i].name))
            return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s' is not in the index %s", set->tensors[i].file,
                                 set->tensors[i].name, index);
    }
    return SSM_OK;
}

static int open_shards(struct ssm_tensors *set, const char *dir, const char *index, struct ssm_error *err)
{
    json_t *config = NULL, *shards = json_object();
    int rc = shards ? ssm_config_load(&config, index, err) : ssm_error_set(err, SSM_NOMEM, "%s: out of memory", index);
    if (rc)
        goto out;
    const json_t *map = json_object_get(config, "weight_map");
    if (!json_is_object(map)) {
        rc = ssm_error_set(err, SSM_FORMAT, "%s: there is no object 'weight_map'", index);
        goto out;
    }
    rc = list_shards(map, index, shards, err);
    if (rc)
        goto out;
    set->mappings = calloc(json_object_size(shards) + 1, sizeof(*set->mappings));
    const char *shard;
    json_t *unused;
    json_object_foreach(shards, shard, unused)
    {
        char *path = set->mappings ? path_in(dir, shard) : NULL;
        rc = path ? add_file(set, path, err) : ssm_error_set(err, SSM_NOMEM, "%s: out of memory", index);
        if (rc)
            goto out;
    }
    rc = ssm_tensors_sort(set, err);
    if (!rc)
        rc = check_map(set, map, index, err);
out:
    json_decref(shards);
    json_decref(config);
    return rc;
}

static int open_single(struct ssm_tensors *set, char *path, struct ssm_error *err)
{
    set->mappings = calloc(1, sizeof(*set->mappings));
    if (!set->mappings) {
        free(path);
        return ssm_error_set(err, SSM_NOMEM, "out of memory");
    }
    int rc = add_file(set, path, err);
    return rc ? rc : ssm_tensors_sort(set, err);
}

int ssm_tensors_open(struct ssm_tensors **out, const char *dir, struct ssm_error *err)
{
    int rc = SSM_OK;
    struct ssm_tensors *set = calloc(1, sizeof(*set));
    char *single = path_in(dir, "model.safetensors");
    char *index = path_in(dir, "model.safetensors.index.json");
    struct stat st;
    *out = NULL;
    if (!set || !single || !index) {
        rc = ssm_error_set(err, SSM_NOMEM, "%s: out of memory", dir);
    } else if (lstat(single, &st) == 0) {
        rc = open_single(set, single, err);
        single = NULL;
    } else if (lstat(index, &st) == 0) {
        rc = open_shards(set, dir, index, err);
    }
    free(single);
    free(index);
    if (rc)
        ssm_tensors_close(set);
    else
        *out = set;
    return rc;
}

void ssm_tensors_close(struct ssm_tensors *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->count; i++)
        free((char *)set->tensors[i].name);
    for (size_t i = 0; i < set->mapped; i++) {
        munmap(set->mappings[i].bytes, set->mappings[i].size);
        free(set->mappings[i].name);
    }
    free(set->mappings);
    free(set->tensors);
    free(set);
}

struct ssm_tensor *ssm_tensors_find(struct ssm_tensors *set, const char *name)
{
    struct ssm_tensor key = {.name = name};
    return set->count ? bsearch(&key, set->tensors, set->count, sizeof(key), compare_names) : NULL;
}

int ssm_tensors_alias(struct ssm_tensors *set, const char *name, const char *of, struct ssm_error *err)
{
    const struct ssm_tensor *original = ssm_tensors_find(set, of);
    struct ssm_tensor *old = ssm_tensors_find(set, name), alias;
    if (!original)
        return ssm_error_set(err, SSM_TENSOR, "tensor '%s', which '%s' stands for, is missing", of, name);
    alias = *original;
    if (old) {
        alias.name = old->name;
        *old = alias;
        return SSM_OK;
    }
    struct ssm_tensor *grown = realloc(set->tensors, (set->count + 1) * sizeof(*grown));
    if (grown)
        set->tensors = grown;
    alias.name = strdup(name);
    if (!grown || !alias.name) {
        free((char *)alias.name);
        return ssm_error_set(err, SSM_NOMEM, "out of memory");
    }
    set->tensors[set->count++] = alias;
    return ssm_tensors_sort(set, err);
}

size_t ssm_tensors_count(const struct ssm_tensors *set)
{
    return set->count;
}

struct ssm_tensor *ssm_tensors_at(struct ssm_tensors *set, size_t i)
{
    return i < set->count ? &set->tensors[i] : NULL;
}
