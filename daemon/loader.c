/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading may take seconds for a large model; nothing else waits for it but the opens that asked.
 */
#include "daemon/loader.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOADER_NICE 19

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

static void *loader_run(void *context)
{
    struct loader *loader = context;

    (void)!setpriority(PRIO_PROCESS, (id_t)gettid(), LOADER_NICE);
    for (;;) {
        struct pollfd wait = {.fd = loader->todo.fd, .events = POLLIN, .revents = 0};
        struct load *load = spsc_pop(&loader->todo);

        if (!load) {
            if (spsc_sleep(&loader->todo))
                (void)!poll(&wait, 1, -1);
            spsc_awake(&loader->todo, wait.revents != 0);
            continue;
        }
        if (load->kind == LOAD_STOP)
            break;
        if (load->kind == LOAD_MODEL)
            model_load(load);
        else
            names_load(load);
        (void)spsc_push(&loader->done, load);
    }
    return NULL;
}

int loader_start(struct loader *loader)
{
    memset(loader, 0, sizeof(*loader));
    loader->done.fd = -1;
    if (spsc_init(&loader->todo) != 0 || spsc_init(&loader->done) != 0)
        return -1;
    errno = pthread_create(&loader->thread, NULL, loader_run, loader);
    return errno ? -1 : 0;
}

void loader_stop(struct loader *loader)
{
    struct load stop = {.kind = LOAD_STOP};

    while (!spsc_push(&loader->todo, &stop))
        (void)loader_take(loader);
    pthread_join(loader->thread, NULL);
    spsc_fini(&loader->todo);
    spsc_fini(&loader->done);
}

bool loader_submit(struct loader *loader, struct load *load)
{
    return spsc_push(&loader->todo, load);
}

struct load *loader_take(struct loader *loader)
{
    return spsc_pop(&loader->done);
}
