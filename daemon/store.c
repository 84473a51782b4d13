/* SPDX-License-Identifier: Apache-2.0
 * Files of the state directory; see store.h. */
#include "daemon/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "daemon/lock.h"
#include "daemon/log.h"

#define LOADS_AHEAD 16 /* images in memory at a time */

bool store_has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);

    return n > k && strcmp(name + n - k, suffix) == 0;
}

int store_open(struct loop *loop)
{
    const char *directory = loop->conf.state_dir;
    char path[CONF_TEXT_SIZE + 8];
    struct stat found;
    int status;

    if (!directory[0])
        return EX_OK;
    loop->store_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (loop->store_fd < 0 || fstat(loop->store_fd, &found) != 0 || access(directory, W_OK) != 0) {
        log_event(LOG_ERR, "state_dir_failed", "state_dir=%s error=%s", directory, strerror(errno));
        return EX_CONFIG;
    }
    if (found.st_mode & S_IWOTH) {
        log_event(LOG_ERR, "state_dir_failed", "state_dir=%s error=everybody may write to it", directory);
        return EX_CONFIG;
    }
    snprintf(path, sizeof(path), "%s/states", directory);
    status = lock_acquire(&loop->store_lock, path);
    if (status == LOCK_OK)
        return EX_OK;
    log_event(LOG_ERR, "state_dir_failed", "state_dir=%s error=%s", directory,
              status == LOCK_HELD ? "another daemon keeps its streams there" : strerror(errno));
    return status == LOCK_HELD ? EX_UNAVAILABLE : EX_CONFIG;
}

/* ---- taking up --------------------------------------------------------------------------------------------------- */

static void set_aside(struct loop *loop, const char *file, const char *reason)
{
    char to[NAME_MAX + 1];

    snprintf(to, sizeof(to), "%.200s" STORE_REFUSED, file);
    loop->counters.states_refused++;
    log_event(LOG_ERR, "state_refused", "file=%s/%s moved_to=%s reason=%s", loop->conf.state_dir, file, to, reason);
    if (renameat(loop->store_fd, file, loop->store_fd, to) != 0)
        log_event(LOG_ERR, "state_not_moved", "file=%s/%s error=%s", loop->conf.state_dir, file, strerror(errno));
}

static void outcome(struct loop *loop, const struct task *task, const char *reason)
{
    if (reason) {
        set_aside(loop, task->file, reason);
        return;
    }
    loop->counters.states_taken_up++;
    if (unlinkat(loop->store_fd, task->file, 0) != 0)
        log_event(LOG_ERR, "state_not_removed", "file=%s/%s error=%s", loop->conf.state_dir, task->file,
                  strerror(errno));
}

struct image *store_image_open(struct loop *loop, int directory, const char *file, int *fd, const char **reason)
{
    struct image *image = NULL;
    struct stat found;

    *fd = openat(directory, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    *reason = "it is not a file that can be read";
    if (*fd < 0 || fstat(*fd, &found) != 0 || !S_ISREG(found.st_mode))
        goto fail;
    *reason = "it has not the size of an image";
    if (found.st_size < 1 || (uint64_t)found.st_size > IMAGE_BYTES_MAX)
        goto fail;
    *reason = "there is no memory for it";
    image = image_new(loop, NULL, (size_t)found.st_size);
    if (!image || !(image->bytes = malloc(image->size)))
        goto fail;
    *reason = NULL;
    return image;
fail:
    if (image)
        image_free(loop, image);
    if (*fd >= 0)
        close(*fd);
    return NULL;
}

const char *store_image_read(struct image *image, int fd)
{
    size_t got = 0;
    ssize_t n;

    while (got < image->size && (n = read(fd, image->bytes + got, image->size - got)) != 0) {
        if (n < 0 && errno != EINTR)
            break;
        got += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    return got < image->size ? "it could not be read to its end" : NULL;
}

static void file_load(struct loop *loop, const char *file)
{
    const char *reason;
    int fd;
    struct image *image = store_image_open(loop, loop->store_fd, file, &fd, &reason);
    struct task *task;

    if (image)
        reason = store_image_read(image, fd);
    task = reason ? NULL : task_new(loop, NULL, 0, TASK_RESTORE);
    if (!task) {
        if (image)
            image_free(loop, image);
        set_aside(loop, file, reason ? reason : "there is no memory for it");
        return;
    }
    task->image = image;
    task->outcome = outcome;
    memcpy(task->file, file, strlen(file) + 1); /* it fits: store_load */
    restore_begin(loop, task, NULL);
}

static void tasks_wait(struct loop *loop, uint32_t most)
{
    while (loop->states.tasks_n > most) {
        loop_jobs_take(loop);
        usleep(100);
    }
}

void store_load(struct loop *loop)
{
    DIR *directory;
    struct dirent *entry;

    if (loop->store_fd < 0)
        return;
    directory = opendir(loop->conf.state_dir);
    while (directory && (entry = readdir(directory)) != NULL) {
        if (store_has_suffix(entry->d_name, STORE_SUFFIX STORE_HALF))
            set_aside(loop, entry->d_name, "it was not written to its end");
        else if (store_has_suffix(entry->d_name, STORE_SUFFIX) &&
                 strlen(entry->d_name) < sizeof(((struct task *)0)->file))
            file_load(loop, entry->d_name);
        tasks_wait(loop, LOADS_AHEAD);
    }
    tasks_wait(loop, 0);
    if (directory)
        closedir(directory);
    (void)!fsync(loop->store_fd);
    if (loop->counters.states_taken_up + loop->counters.states_refused > 0)
        log_event(LOG_NOTICE, "states_taken_up", "streams=%llu refused=%llu",
                  (unsigned long long)loop->counters.states_taken_up,
                  (unsigned long long)loop->counters.states_refused);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

void store_name(const uint8_t *id, size_t id_size, const char *suffix, char name[STORE_NAME_BYTES])
{
    size_t n = 0;

    for (size_t i = 0; i < id_size && i < PROTO_ID_MAX; i++)
        n += (size_t)snprintf(name + n, STORE_NAME_BYTES - n, "%02x", id[i]);
    snprintf(name + n, STORE_NAME_BYTES - n, "%s", suffix);
}

static bool bytes_write(int fd, const unsigned char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

const char *store_file_write(int directory, const char *name, const unsigned char *bytes, size_t size, bool flushes)
{
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    const char *reason = NULL;

    if (fd < 0 || !bytes_write(fd, bytes, size) || (flushes && fsync(fd) != 0))
        reason = strerror(errno);
    if (fd >= 0)
        close(fd);
    if (reason)
        (void)!unlinkat(directory, name, 0);
    return reason;
}

/* NULL, or why the stream could not be written. */
static const char *stream_save(struct loop *loop, const struct stream *stream)
{
    char name[STORE_NAME_BYTES];
    struct image_sections sections;
    uint64_t keep = stream_keep_image(stream);
    const char *reason;
    unsigned char *bytes;
    int status;

    if (stream->is_lost)
        return "its device failed";
    if (stream->is_failed)
        return "the engine refused its frames";
    if (stream->is_replaying)
        return "it was going back";
    if (stream->has_flushed && !stream->is_closed)
        return "it was closing, and its tail is not a state to go on from";
    if (!image_describe(stream, keep, &bytes, &sections))
        return "no memory for its image";
    status = image_fill(bytes, &sections, &stream->ring, keep, stream->site->program, stream->slot);
    if (status != SSM_OK) {
        free(bytes);
        return ssm_status_text(status);
    }
    store_name(stream->id, stream->id_size, STORE_SUFFIX STORE_HALF, name);
    reason = store_file_write(loop->store_fd, name, bytes, sections.size, false);
    free(bytes);
    return reason;
}

void store_save(struct loop *loop)
{
    char half[STORE_NAME_BYTES], name[STORE_NAME_BYTES];
    uint32_t saved = 0;

    if (loop->store_fd < 0)
        return;
    for (uint32_t i = 0; i < loop->streams.n; i++) {
        const struct stream *stream = loop->streams.sorted[i];
        const char *reason = stream_save(loop, stream);

        if (reason)
            log_event(LOG_ERR, "stream_not_kept", "stream=%.*s reason=%s", stream->id_size, stream->id, reason);
    }
    if (syncfs(loop->store_fd) != 0)
        log_event(LOG_ERR, "state_dir_failed", "state_dir=%s error=%s", loop->conf.state_dir, strerror(errno));
    for (uint32_t i = 0; i < loop->streams.n; i++) {
        const struct stream *stream = loop->streams.sorted[i];

        store_name(stream->id, stream->id_size, STORE_SUFFIX STORE_HALF, half);
        store_name(stream->id, stream->id_size, STORE_SUFFIX, name);
        if (renameat(loop->store_fd, half, loop->store_fd, name) == 0) {
            saved++;
        } else if (errno != ENOENT) { /* else it was not written, which was said */
            log_event(LOG_ERR, "stream_not_kept", "stream=%.*s reason=%s", stream->id_size, stream->id,
                      strerror(errno));
        }
    }
    (void)!fsync(loop->store_fd);
    log_event(LOG_NOTICE, "states_kept", "streams=%u not_kept=%u", saved, loop->streams.n - saved);
}
