/* SPDX-License-Identifier: Apache-2.0
 * Streams to files and back while the daemon serves; see evict.h. */
#include "daemon/evict.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/deliver.h"
#include "daemon/features.h"
#include "daemon/generate.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/store.h"

#define FOLDER    "evicted"
#define RETRY_NS  (5000 * CLOCK_MS) /* after a file that could not be written */
#define SEARCH_NS (100 * CLOCK_MS)  /* after a look at all streams that found none to evict */

void evict_init(struct evict *evict)
{
    evict->fd = -1;
    TAILQ_INIT(&evict->returns);
    TAILQ_INIT(&evict->rooms);
    TAILQ_INIT(&evict->opens);
}

void evict_fini(struct evict *evict)
{
    struct evict_return *back;

    while ((back = TAILQ_FIRST(&evict->returns)) != NULL) {
        TAILQ_REMOVE(&evict->returns, back, link);
        free(back);
    }
    if (evict->fd >= 0)
        close(evict->fd);
}

void evict_open(struct loop *loop)
{
    struct evict *evict = &loop->evict;
    struct dirent *entry;
    uint32_t images = 0;
    DIR *folder;
    int fd;

    if (loop->store_fd < 0)
        return;
    evict->fd = openat(loop->store_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    fd = evict->fd < 0 ? -1 : openat(evict->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        if (fd >= 0)
            close(fd);
        return; /* it is made when the first image needs it */
    }
    while ((entry = readdir(folder)) != NULL) {
        if (store_has_suffix(entry->d_name, STORE_HALF))
            (void)!unlinkat(evict->fd, entry->d_name, 0); /* its stream was there until the daemon's end */
        images += store_has_suffix(entry->d_name, STORE_SUFFIX);
    }
    closedir(folder);
    log_event(LOG_INFO, "evicted_found", "images=%u", images);
}

/* The disk is full, or so: not at every sweep. */
static void failed(struct loop *loop)
{
    loop->counters.evictions_failed++;
    loop->evict.retry_ns = loop->now_ns + RETRY_NS;
}

static bool folder_make(struct loop *loop)
{
    if (loop->evict.fd >= 0)
        return true;
    if (loop->store_fd < 0)
        return false;
    (void)!mkdirat(loop->store_fd, FOLDER, 0700);
    loop->evict.fd = openat(loop->store_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (loop->evict.fd >= 0 && fsync(loop->store_fd) == 0)
        return true;
    log_event(LOG_ERR, "evict_failed", "folder=%s/%s error=%s", loop->conf.state_dir, FOLDER, strerror(errno));
    failed(loop);
    return false;
}

/* ---- who waits --------------------------------------------------------------------------------------------------- */

static void wait_add(struct evict_waits *on, struct evict_wait *wait)
{
    wait->on = on;
    TAILQ_INSERT_TAIL(on, wait, link);
}

void evict_forget(struct evict_wait *wait)
{
    TAILQ_REMOVE(wait->on, wait, link);
    wait->on = NULL;
}

static void wait_end(struct loop *loop, struct evict_wait *wait, Ssmd__Code code, const char *text)
{
    evict_forget(wait);
    wait->done(loop, wait, code, text);
}

/* ---- leaving ----------------------------------------------------------------------------------------------------- */

/* Whether it is idle enough to go: nothing is under way but what its eviction itself queues. */
static bool is_idle(const struct stream *stream)
{
    return !stream->head && stream->request == REQUEST_NONE && !stream->is_closing && !stream->is_failed &&
           !stream->is_replaying && !generate_is_running(stream) &&
           !(stream->generation && stream->generation->has_token) && /* which no image holds */
           (!stream->conn || (stream->conn->features & FEATURE_EVICTIONS)) &&
           (!stream->publication || STAILQ_EMPTY(&stream->publication->held.chunks));
}

static bool may_leave(const struct stream *stream)
{
    return is_idle(stream) && stream->place == PLACE_NONE && TAILQ_EMPTY(&stream->tasks);
}

static void leave_run(struct work *work)
{
    struct task *task = (struct task *)work;
    char half[STORE_NAME_BYTES];
    const char *reason;

    task->status =
        image_fill(task->image->bytes, &task->sections, task->source, task->keep, task->site->program, task->from);
    if (task->status != SSM_OK) {
        snprintf(task->error.text, sizeof(task->error.text), "%s", ssm_status_text(task->status));
        return;
    }
    store_name(task->id, task->id_size, STORE_SUFFIX STORE_HALF, half);
    reason = store_file_write(task->fd, half, task->image->bytes, task->sections.size, true);
    if (!reason && (renameat(task->fd, half, task->fd, task->file) != 0 || fsync(task->fd) != 0))
        reason = strerror(errno);
    if (!reason)
        return;
    task->status = SSM_IO;
    snprintf(task->error.text, sizeof(task->error.text), "%s", reason);
}

/* Its writer, if there is one, is told: what is on its way to the stream is dropped. */
static void writer_tell(struct loop *loop, struct stream *stream)
{
    Ssmd__Event event = SSMD__EVENT__INIT;

    if (!stream->conn)
        return;
    event.kind = SSMD__EVENT__KIND__EVICTED;
    event.has_handle = event.has_epoch = event.has_first = true;
    event.handle = stream->handle;
    event.epoch = stream->epoch;
    event.first = stream->ring.hi;
    deliver_event(loop, stream->conn, &event);
}

static void leave_finished(struct loop *loop, struct task *task)
{
    struct stream *stream = task->stream;

    if (task->status != SSM_OK) {
        failed(loop);
        log_event(LOG_ERR, "evict_failed", "stream=%.*s error=%s", stream->id_size, stream->id, task->error.text);
        task_free(loop, task);
        return;
    }
    if (!is_idle(stream) || stream->active_ns != task->since_ns || TAILQ_NEXT(task, of_stream)) {
        if (unlinkat(task->fd, task->file, 0) != 0) /* it is needed after all */
            log_event(LOG_ERR, "evict_not_removed", "file=%s error=%s", task->file, strerror(errno));
        task_free(loop, task);
        return;
    }
    loop->counters.evictions++;
    log_event(LOG_INFO, "stream_evicted", "stream=%.*s next=%llu epoch=%llu", stream->id_size, stream->id,
              (unsigned long long)stream->next, (unsigned long long)stream->epoch);
    TAILQ_REMOVE(&stream->tasks, task, of_stream);
    task->stream = NULL;
    stream->is_evicted = true;
    stream->model->evicted++;
    writer_tell(loop, stream);
    loop_stream_remove(loop, stream);
    task_free(loop, task);
}

static void leave_begin(struct loop *loop, struct task *task)
{
    struct stream *stream = task->stream;
    unsigned char *bytes = NULL;

    task->keep = stream_keep_image(stream);
    task->site = stream->site;
    task->from = stream->slot;
    task->source = &stream->ring;
    if (!is_idle(stream) || !image_describe(stream, task->keep, &bytes, &task->sections) ||
        loop->states.bytes + task->sections.size > loop->conf.image_memory ||
        !(task->image = image_new(loop, NULL, task->sections.size))) {
        free(bytes);
        task_free(loop, task); /* another time */
        return;
    }
    task->image->bytes = bytes;
    task_submit(loop, task, leave_run, leave_finished);
}

static bool leave(struct loop *loop, struct stream *stream)
{
    struct task *task;

    if (loop->evict.leaving >= EVICT_LEAVING || loop->now_ns < loop->evict.retry_ns || loop->drain_ns ||
        !folder_make(loop) || !(task = task_new(loop, NULL, 0, TASK_EVICT)))
        return false;
    loop->evict.leaving++;
    task->step = leave_begin;
    task->fd = loop->evict.fd;
    task->since_ns = stream->active_ns;
    task->id_size = stream->id_size;
    memcpy(task->id, stream->id, stream->id_size);
    store_name(stream->id, stream->id_size, STORE_SUFFIX, task->file);
    task_wait(loop, task, stream);
    return true;
}

void evict_left(struct loop *loop)
{
    struct evict_wait *wait = TAILQ_FIRST(&loop->evict.rooms);

    loop->evict.leaving--;
    if (wait && !loop->is_over)
        wait_end(loop, wait, SSMD__CODE__OK, NULL);
}

void evict_check(struct loop *loop, struct stream *stream)
{
    uint64_t ms = publish_evict_ms(loop, stream);

    if (ms > 0 && loop->now_ns - stream->active_ns > ms * CLOCK_MS && may_leave(stream))
        (void)leave(loop, stream);
}

bool evict_make_room(struct loop *loop, struct evict_wait *wait)
{
    struct stream *oldest = NULL;

    if (!loop->conf.evict_when_full || loop->evict.leaving >= EVICT_LEAVING || loop->now_ns < loop->evict.search_ns)
        return false;
    for (uint32_t i = 0; i < loop->streams.n; i++) {
        struct stream *stream = loop->streams.sorted[i];

        if (!stream->conn && (!oldest || stream->active_ns < oldest->active_ns) && may_leave(stream))
            oldest = stream;
    }
    if (!oldest)
        loop->evict.search_ns = loop->now_ns + SEARCH_NS;
    if (!oldest || !leave(loop, oldest))
        return false;
    wait_add(&loop->evict.rooms, wait);
    return true;
}

/* ---- coming back ------------------------------------------------------------------------------------------------- */

bool evict_has(const struct loop *loop, const uint8_t *id, size_t id_size)
{
    char name[STORE_NAME_BYTES];

    if (loop->evict.fd < 0)
        return false;
    store_name(id, id_size, STORE_SUFFIX, name);
    return faccessat(loop->evict.fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

const char *evict_absent_text(const struct loop *loop, const uint8_t *id, size_t id_size)
{
    if (stream_id_is_valid(id, id_size) && evict_has(loop, id, id_size))
        return "the stream was evicted: open it, and it comes back";
    return "no such stream";
}

static void returns_begin(struct loop *loop);

static struct evict_return *return_find(struct loop *loop, const uint8_t *id, size_t id_size)
{
    struct evict_return *back;

    TAILQ_FOREACH(back, &loop->evict.returns, link)
        if (back->id_size == id_size && memcmp(back->id, id, id_size) == 0)
            return back;
    return NULL;
}

/* Everybody who waited is told; then the next ones have their turn. */
static void return_end(struct loop *loop, struct evict_return *back, Ssmd__Code code, const char *text)
{
    struct evict_waits waits = TAILQ_HEAD_INITIALIZER(waits);
    struct evict_wait *wait;

    TAILQ_REMOVE(&loop->evict.returns, back, link);
    TAILQ_CONCAT(&waits, &back->waits, link);
    free(back);
    TAILQ_FOREACH(wait, &waits, link)
        wait->on = &waits;
    while ((wait = TAILQ_FIRST(&waits)) != NULL)
        wait_end(loop, wait, code, text);
}

/* The image cannot become a stream. One that is damaged is set aside: the id is free then. */
static void image_refuse(struct loop *loop, const struct task *task, const char *reason)
{
    char to[NAME_MAX + 1];

    log_event(LOG_ERR, "evicted_refused", "file=%s/%s/%s reason=%s", loop->conf.state_dir, FOLDER, task->file, reason);
    if (task->code != SSMD__CODE__BAD_IMAGE)
        return;
    loop->counters.states_refused++;
    snprintf(to, sizeof(to), "%.200s" STORE_REFUSED, task->file);
    if (renameat(task->fd, task->file, task->fd, to) != 0)
        log_event(LOG_ERR, "state_not_moved", "file=%s error=%s", task->file, strerror(errno));
}

/* The stream is there, or why not. */
static void came_back(struct loop *loop, const struct task *task, const char *reason)
{
    char name[STORE_NAME_BYTES];
    struct evict_return *back;

    loop->evict.coming--;
    if (task->model && task->model->evicted > 0)
        task->model->evicted--;
    if (reason) {
        image_refuse(loop, task, reason);
    } else {
        loop->counters.evictions_returned++;
        if (unlinkat(task->fd, task->file, 0) != 0)
            log_event(LOG_ERR, "evict_not_removed", "file=%s error=%s", task->file, strerror(errno));
    }
    TAILQ_FOREACH(back, &loop->evict.returns, link) {
        store_name(back->id, back->id_size, STORE_SUFFIX, name);
        if (back->is_begun && strcmp(name, task->file) == 0)
            break;
    }
    if (back)
        return_end(loop, back, reason ? task->code : SSMD__CODE__OK, reason);
    returns_begin(loop);
}

static void read_run(struct work *work)
{
    struct task *task = (struct task *)work;
    const char *reason = store_image_read(task->image, task->file_fd);

    task->status = reason ? SSM_IO : SSM_OK;
    snprintf(task->error.text, sizeof(task->error.text), "%s", reason ? reason : "");
}

static void read_finished(struct loop *loop, struct task *task)
{
    if (task->status == SSM_OK) {
        restore_begin(loop, task, NULL);
        return;
    }
    task->code = SSMD__CODE__INTERNAL;
    came_back(loop, task, task->error.text);
    task_free(loop, task);
}

static void return_begin(struct loop *loop, struct evict_return *back)
{
    const char *reason = "the daemon is out of memory";
    struct task *task = task_new(loop, NULL, 0, TASK_RESTORE);

    back->is_begun = true;
    if (task) {
        store_name(back->id, back->id_size, STORE_SUFFIX, task->file);
        task->fd = loop->evict.fd;
        task->outcome = came_back;
        task->image = store_image_open(loop, task->fd, task->file, &task->file_fd, &reason);
    }
    if (!task || !task->image) {
        if (task)
            task_free(loop, task);
        return_end(loop, back, SSMD__CODE__INTERNAL, reason);
        return;
    }
    loop->evict.coming++;
    task_submit(loop, task, read_run, read_finished);
}

/* Those asked for first, as many as may be under way. */
static void returns_begin(struct loop *loop)
{
    struct evict_return *back;

    while (!loop->is_over && loop->evict.coming < EVICT_COMING) {
        TAILQ_FOREACH(back, &loop->evict.returns, link)
            if (!back->is_begun)
                break;
        if (!back)
            return;
        return_begin(loop, back);
    }
}

void evict_return(struct loop *loop, const uint8_t *id, size_t id_size, struct evict_wait *wait)
{
    struct evict_return *back = return_find(loop, id, id_size);

    if (back) {
        wait_add(&back->waits, wait);
        return;
    }
    back = calloc(1, sizeof(*back));
    if (!back) {
        wait->done(loop, wait, SSMD__CODE__LIMIT, "the daemon is out of memory");
        return;
    }
    TAILQ_INIT(&back->waits);
    back->id_size = (uint8_t)id_size;
    memcpy(back->id, id, id_size);
    TAILQ_INSERT_TAIL(&loop->evict.returns, back, link);
    wait_add(&back->waits, wait);
    returns_begin(loop);
}
