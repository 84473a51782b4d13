/* SPDX-License-Identifier: Apache-2.0
 *
 * Send what the loop gave, receive what it has room for, sleep when there is neither. Both are done in bursts, so that
 * neither direction waits for the other's flood.
 */
#include "daemon/port_thread.h"
#include "daemon/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BURST 256 /* messages of one direction before the other has its turn */

struct kept {
    STAILQ_ENTRY(kept) link;
    struct port_out out;
};

struct pipe {
    atomic_uint refs;      /* of the connection, of every message, and of the list of those that wait */
    atomic_size_t bytes;   /* of the messages */
    atomic_bool is_gone;   /* the peer */
    atomic_bool is_closed; /* the connection */
    /* The thread's. */
    STAILQ_HEAD(, kept) kept; /* refused by the peer's queue, in order */
    TAILQ_ENTRY(pipe) of_waiting;
};

/* ---- pipes ------------------------------------------------------------------------------------------------------- */

int pipe_open(const struct port *port, struct pipe **out)
{
    *out = NULL;
    if (!port->thread)
        return 0;
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return -1;
    atomic_init(&(*out)->refs, 1);
    STAILQ_INIT(&(*out)->kept);
    return 0;
}

static void pipe_release(struct pipe *pipe)
{
    if (atomic_fetch_sub(&pipe->refs, 1) == 1)
        free(pipe);
}

void pipe_close(struct pipe *pipe)
{
    if (!pipe)
        return;
    atomic_store(&pipe->is_closed, true);
    pipe_release(pipe);
}

bool pipe_is_idle(const struct pipe *pipe)
{
    return !pipe || atomic_load(&pipe->refs) == 1 || atomic_load(&pipe->is_gone);
}

/* ---- the thread: out --------------------------------------------------------------------------------------------- */

/* The message is over, sent or not. */
static void out_end(struct port_out *out)
{
    zmq_msg_close(&out->id);
    for (int i = 0; i < out->n; i++)
        zmq_msg_close(&out->part[i]);
    if (!out->pipe)
        return;
    atomic_fetch_sub(&out->pipe->bytes, out->bytes);
    pipe_release(out->pipe);
}

/* False when the peer's queue is full and the message must wait. */
static bool out_send(struct port_thread *thread, struct port_out *out)
{
    int sent = router_send(thread->router, zmq_msg_data(&out->id), zmq_msg_size(&out->id), out->part, out->n);

    if (sent < 0 && out->pipe)
        atomic_store(&out->pipe->is_gone, true);
    return sent != 0;
}

static void out_keep(struct port_thread *thread, struct port_out *out)
{
    struct pipe *pipe = out->pipe;
    struct kept *kept = pipe ? malloc(sizeof(*kept)) : NULL;

    if (!kept) {
        if (pipe) /* a hole in what it gets is worse than no connection */
            atomic_store(&pipe->is_gone, true);
        out_end(out);
        return;
    }
    kept->out = (struct port_out){.n = out->n, .bytes = out->bytes, .pipe = pipe};
    zmq_msg_init(&kept->out.id);
    zmq_msg_move(&kept->out.id, &out->id);
    for (int i = 0; i < out->n; i++) {
        zmq_msg_init(&kept->out.part[i]);
        zmq_msg_move(&kept->out.part[i], &out->part[i]);
    }
    if (STAILQ_EMPTY(&pipe->kept)) {
        atomic_fetch_add(&pipe->refs, 1);
        TAILQ_INSERT_TAIL(&thread->waiting, pipe, of_waiting);
    }
    STAILQ_INSERT_TAIL(&pipe->kept, kept, link);
}

/* Sends what the pipe kept, as far as the peer takes it; or drops it. */
static void pipe_retry(struct port_thread *thread, struct pipe *pipe, bool drop)
{
    struct kept *kept;

    while ((kept = STAILQ_FIRST(&pipe->kept)) != NULL) {
        if (!drop && !atomic_load(&pipe->is_gone) && !out_send(thread, &kept->out))
            return;
        STAILQ_REMOVE_HEAD(&pipe->kept, link);
        out_end(&kept->out);
        free(kept);
    }
    TAILQ_REMOVE(&thread->waiting, pipe, of_waiting);
    pipe_release(pipe);
}

static void pipes_retry(struct port_thread *thread, bool drop)
{
    struct pipe *pipe, *next;

    for (pipe = TAILQ_FIRST(&thread->waiting); pipe; pipe = next) {
        next = TAILQ_NEXT(pipe, of_waiting);
        pipe_retry(thread, pipe, drop || atomic_load(&pipe->is_closed));
    }
}

/* True when there may be more. */
static bool out_take(struct port_thread *thread)
{
    for (int i = 0; i < BURST; i++) {
        struct port_out *out = spsc_front(&thread->out);
        struct pipe *pipe;

        if (!out)
            return false;
        pipe = out->pipe;
        if (pipe && atomic_load(&pipe->is_gone))
            out_end(out);
        else if ((pipe && !STAILQ_EMPTY(&pipe->kept)) || !out_send(thread, out))
            out_keep(thread, out);
        else
            out_end(out);
        spsc_front_done(&thread->out);
    }
    return true;
}

/* ---- the thread: in ---------------------------------------------------------------------------------------------- */

static bool has_room(struct port_thread *thread)
{
    return atomic_load(&thread->in_bytes) < PORT_IN_BYTES && spsc_back(&thread->in);
}

/* True when there may be more, and room for it. */
static bool in_take(struct port_thread *thread)
{
    for (int i = 0; i < BURST; i++) {
        struct port_in *in;

        if (!has_room(thread))
            return false;
        in = spsc_back(&thread->in);
        in->bytes = 0;
        in->n = router_receive(thread->router, in->part, &in->bytes);
        if (in->n == 0)
            return false;
        atomic_fetch_add(&thread->in_bytes, in->bytes);
        spsc_back_done(&thread->in);
    }
    return true;
}

static void wait(struct port_thread *thread)
{
    zmq_pollitem_t items[2] = {{thread->router, 0, ZMQ_POLLIN, 0}, {NULL, thread->out.fd, ZMQ_POLLIN, 0}};
    bool asleep = spsc_sleep(&thread->out);
    long timeout_ms = TAILQ_EMPTY(&thread->waiting) ? -1 : LANE_RETRY_MS;

    if (!has_room(thread)) {
        atomic_store(&thread->wants_room, true);
        if (has_room(thread)) /* since then: the loop may not have seen the wish */
            atomic_store(&thread->wants_room, false);
        else
            items[0].events = 0;
    }
    (void)!zmq_poll(items, 2, asleep ? timeout_ms : 0);
    spsc_awake(&thread->out, items[1].revents != 0);
}

static void *thread_run(void *context)
{
    struct port_thread *thread = context;
    uint64_t retried_ns = 0;

    for (;;) {
        bool is_ending = atomic_load(&thread->is_ending); /* before the ring: what was given before is sent */
        bool more = out_take(thread);

        if (!TAILQ_EMPTY(&thread->waiting) && clock_now_ns() - retried_ns >= LANE_RETRY_MS * CLOCK_MS) {
            retried_ns = clock_now_ns();
            pipes_retry(thread, false);
        }
        if (is_ending && !more)
            break;
        more = in_take(thread) || more;
        if (!more)
            wait(thread);
    }
    pipes_retry(thread, true);
    return NULL;
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void thread_free(struct port_thread *thread)
{
    spsc_fini(&thread->in);
    spsc_fini(&thread->out);
    free(thread);
}

struct port_thread *port_thread_start(const struct port *port)
{
    struct port_thread *thread = aligned_alloc(_Alignof(struct port_thread), sizeof(*thread));

    if (!thread)
        return NULL;
    memset(thread, 0, sizeof(*thread));
    thread->router = port->router;
    TAILQ_INIT(&thread->waiting);
    if (spsc_init_items(&thread->in, PORT_SLOTS, sizeof(struct port_in)) == 0 &&
        spsc_init_items(&thread->out, PORT_SLOTS, sizeof(struct port_out)) == 0) {
        errno = pthread_create(&thread->thread, NULL, thread_run, thread);
        if (errno == 0)
            return thread;
    }
    thread_free(thread);
    return NULL;
}

void port_thread_stop(struct port_thread *thread)
{
    zmq_msg_t parts[PORT_PARTS];
    size_t bytes = 0;
    int n;

    if (!thread)
        return;
    atomic_store(&thread->is_ending, true);
    spsc_wake(&thread->out);
    pthread_join(thread->thread, NULL);
    while ((n = port_thread_receive(thread, parts, &bytes)) > 0)
        for (int i = 0; i < n && i < PORT_PARTS; i++)
            zmq_msg_close(&parts[i]);
    thread_free(thread);
}

int port_thread_receive(struct port_thread *thread, zmq_msg_t parts[PORT_PARTS], size_t *bytes)
{
    struct port_in *in = spsc_front(&thread->in);
    size_t size;
    int n;

    if (!in) {
        if (atomic_load(&thread->wants_room) && atomic_exchange(&thread->wants_room, false)) /* room for many by now */
            spsc_wake(&thread->out);
        return 0;
    }
    n = in->n;
    size = in->bytes;
    for (int i = 0; i < n && i < PORT_PARTS; i++) {
        zmq_msg_init(&parts[i]);
        zmq_msg_move(&parts[i], &in->part[i]);
    }
    spsc_front_done(&thread->in);
    atomic_fetch_sub(&thread->in_bytes, size);
    *bytes += size;
    return n;
}

int port_thread_send(struct port_thread *thread, struct pipe *pipe, const uint8_t *id, size_t size, zmq_msg_t *parts,
                     int n)
{
    struct port_out *out;

    if (pipe && atomic_load(&pipe->is_gone))
        return -1;
    if (pipe && (atomic_load(&pipe->refs) > PIPE_MESSAGES || atomic_load(&pipe->bytes) >= PIPE_BYTES))
        return 0;
    out = spsc_back(&thread->out);
    if (!out || zmq_msg_init_size(&out->id, size) != 0)
        return 0;
    memcpy(zmq_msg_data(&out->id), id, size);
    out->n = n;
    out->bytes = 0;
    out->pipe = pipe;
    for (int i = 0; i < n; i++) {
        out->bytes += zmq_msg_size(&parts[i]);
        zmq_msg_init(&out->part[i]);
        zmq_msg_move(&out->part[i], &parts[i]);
    }
    if (pipe) {
        atomic_fetch_add(&pipe->refs, 1);
        atomic_fetch_add(&pipe->bytes, out->bytes);
    }
    spsc_back_done(&thread->out);
    return 1;
}
