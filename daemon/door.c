/* SPDX-License-Identifier: Apache-2.0
 *
 * State of its own, under one lock that is taken once for a connection; nothing else in the daemon has globals that
 * change.
 */
#include "daemon/door.h"
#include "daemon/clock.h"
#include "daemon/port.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOK_MS   20 /* between looks at a full house */
#define PATIENCE  8  /* how often a port lets others go first */
#define SHARE_MIN 2  /* connections more than the mean that nobody minds */

typedef int accept_fn(int fd, struct sockaddr *address, socklen_t *size, int flags);

struct listener {
    int fd;
    uint32_t port;
};

static struct {
    pthread_mutex_t lock;
    accept_fn *next; /* libc's, or a sanitizer's */
    struct listener listener[DOOR_LISTENERS];
    uint32_t listeners_n, ports_n;
    uint32_t load[PORTS_MAX], waived[PORTS_MAX];
    uint64_t limit, room; /* room: descriptors that may be taken before the next look */
    uint64_t look_ns;     /* not before, when there was no room */
    uint64_t refused;
} door = {.lock = PTHREAD_MUTEX_INITIALIZER, .limit = UINT64_MAX};

bool door_add(int fd, uint32_t port)
{
    bool is_added = false;

    pthread_mutex_lock(&door.lock);
    if (door.listeners_n < DOOR_LISTENERS) {
        door.listener[door.listeners_n++] = (struct listener){fd, port};
        if (port != DOOR_NO_PORT && port >= door.ports_n)
            door.ports_n = port + 1;
        is_added = true;
    }
    pthread_mutex_unlock(&door.lock);
    return is_added;
}

void door_clear(void)
{
    pthread_mutex_lock(&door.lock);
    door.listeners_n = door.ports_n = 0;
    pthread_mutex_unlock(&door.lock);
}

void door_set_limit(uint64_t descriptors)
{
    pthread_mutex_lock(&door.lock);
    door.limit = descriptors;
    door.room = door.look_ns = 0;
    pthread_mutex_unlock(&door.lock);
}

void door_set_load(uint32_t port, uint32_t connections)
{
    pthread_mutex_lock(&door.lock);
    door.load[port] = connections;
    pthread_mutex_unlock(&door.lock);
}

uint64_t door_refused(void)
{
    uint64_t refused;

    pthread_mutex_lock(&door.lock);
    refused = door.refused;
    pthread_mutex_unlock(&door.lock);
    return refused;
}

int64_t door_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int64_t n = -3; /* ".", ".." and the directory's own */

    if (!directory)
        return -1;
    while (readdir(directory))
        n++;
    closedir(directory);
    return n;
}

/* ---- one connection, under the lock ------------------------------------------------------------------------------ */

/* NULL: not on the list. */
static const struct listener *listener_find(int fd)
{
    for (uint32_t i = 0; i < door.listeners_n; i++)
        if (door.listener[i].fd == fd)
            return &door.listener[i];
    return NULL;
}

/* Whether it has its share and another may go first. Not for ever: the other may be busy. */
static bool is_waived(uint32_t port)
{
    uint32_t all = 0, share;

    if (port == DOOR_NO_PORT || door.ports_n == 1)
        return false;
    for (uint32_t i = 0; i < door.ports_n; i++)
        all += door.load[i];
    share = all / door.ports_n;
    if (door.load[port] <= share + SHARE_MIN || door.waived[port] >= PATIENCE) {
        door.waived[port] = 0;
        return false;
    }
    door.waived[port]++;
    return true;
}

/* For the one that was just accepted, whose descriptor counts. */
static bool has_room(void)
{
    uint64_t now_ns;
    int64_t used;

    if (door.room > 0) {
        door.room--;
        return true;
    }
    now_ns = clock_now_ns();
    if (door.look_ns > now_ns)
        return false;
    used = door_descriptors();
    if (used >= 0 && (uint64_t)used > door.limit) {
        door.look_ns = now_ns + LOOK_MS * CLOCK_MS;
        return false;
    }
    door.room = used < 0 ? UINT64_MAX : (door.limit - (uint64_t)used) / 2;
    return true;
}

/* What the descriptor limit means to libzmq is told in door.h: it gets an error that it knows to be harmless. */
static int door_accept(int fd, struct sockaddr *address, socklen_t *size, int flags, uint32_t port)
{
    int peer = door.next(fd, address, size, flags);

    if (peer < 0 && (errno == EMFILE || errno == ENFILE))
        errno = ECONNABORTED;
    if (peer < 0)
        return -1;
    if (has_room()) {
        if (port != DOOR_NO_PORT)
            door.load[port]++;
        return peer;
    }
    door.refused++;
    close(peer);
    errno = ECONNABORTED;
    return -1;
}

/* Declared with another name, since libc's declaration has a parameter of a type that is libc's own. */
__attribute__((visibility("default"))) accept_fn accept_here __asm__("accept4");

int accept_here(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    const struct listener *listener;
    bool is_listed, is_late = false;
    int peer = -1;

    pthread_mutex_lock(&door.lock);
    if (!door.next)
        door.next = (accept_fn *)dlsym(RTLD_NEXT, "accept4");
    listener = listener_find(fd);
    is_listed = listener != NULL;
    if (is_listed) {
        is_late = is_waived(listener->port);
        peer = is_late ? -1 : door_accept(fd, address, size, flags, listener->port);
    }
    pthread_mutex_unlock(&door.lock);
    if (!is_listed)
        return door.next(fd, address, size, flags);
    if (is_late) {
        sched_yield();
        errno = EAGAIN;
    }
    return peer;
}
