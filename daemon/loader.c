/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading may take seconds for a large model; nothing else waits for it but the opens that asked.
 */
#include "daemon/loader.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool loader_name_is_valid(const char *name)
{
    size_t size = strlen(name);

    if (size == 0 || size >= LOADER_NAME_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < size; i++)
        if (name[i] == '/' || !isprint((unsigned char)name[i]))
            return false;
    return true;
}

static void model_load(struct load *load)
{
    struct ssm_model *without = NULL;

    load->status = ssm_model_load(&load->model, load->spec, load->has_hint ? &load->hint : NULL, &load->error);
    if (load->status == SSM_OK || !load->has_hint)
        return;
    /* Was it the rate and channels of `open`? Then the answer is another one. */
    if (ssm_model_load(&without, load->spec, NULL, NULL) == SSM_OK)
        load->hint_contradicts = true;
    ssm_model_free(without);
}

static int name_compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool has_config(const char *directory, const char *name)
{
    char path[4 * CONF_TEXT_SIZE];
    struct stat found;

    if (snprintf(path, sizeof(path), "%s/%s/config.json", directory, name) >= (int)sizeof(path))
        return false;
    return stat(path, &found) == 0 && S_ISREG(found.st_mode);
}

static void names_load(struct load *load)
{
    DIR *directory = load->spec[0] ? opendir(load->spec) : NULL;
    struct dirent *entry;

    load->n = 0;
    if (!directory)
        return;
    while (load->n < LOADER_NAMES && (entry = readdir(directory)) != NULL)
        if (loader_name_is_valid(entry->d_name) && has_config(load->spec, entry->d_name))
            memccpy(load->names[load->n++], entry->d_name, '\0', LOADER_NAME_MAX);
    closedir(directory);
    qsort(load->names, load->n, LOADER_NAME_MAX, name_compare);
}

static void load_run(struct work *work)
{
    struct load *load = (struct load *)work;

    if (load->kind == LOAD_MODEL)
        model_load(load);
    else
        names_load(load);
}

bool loader_submit(struct worker *loader, struct load *load)
{
    load->work.run = load_run;
    return worker_submit(loader, &load->work);
}

struct load *loader_take(struct worker *loader)
{
    return (struct load *)worker_take(loader);
}
