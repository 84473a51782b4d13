/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections by routing id and their handles, the lock beside a socket, the memory of input, the ring between threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/conn.h"
#include "daemon/lock.h"
#include "daemon/spsc.h"

static struct port port; /* without a thread */

static void conns__many_ids__are_found_until_removed(void **state)
{
    enum { N = 2000 };
    static struct conn *conn[N];
    struct conns conns;

    (void)state;
    assert_int_equal(conns_init(&conns), 0);
    for (uint32_t i = 0; i < N; i++) {
        assert_null(conns_find(&conns, &(struct peer){&port, (const uint8_t *)&i, sizeof(i)}));
        conn[i] = conns_insert(&conns, &(struct peer){&port, (const uint8_t *)&i, sizeof(i)});
        assert_non_null(conn[i]);
    }
    for (uint32_t i = 0; i < N; i++)
        assert_ptr_equal(conns_find(&conns, &(struct peer){&port, (const uint8_t *)&i, sizeof(i)}), conn[i]);
    for (uint32_t i = 0; i < N; i++) {
        conn_touch(&conns, conn[i]);
        conns_remove(&conns, conn[i]);
        assert_null(conns_find(&conns, &(struct peer){&port, (const uint8_t *)&i, sizeof(i)}));
    }
    assert_true(TAILQ_EMPTY(&conns.dirty));
    assert_int_equal(conns.n, 0);
    conns_fini(&conns);
}

static void handles__that_ended__are_not_found_and_dead_ones_keep_their_channels(void **state)
{
    struct conns conns;
    struct conn *conn;
    uint32_t a, b;

    (void)state;
    assert_int_equal(conns_init(&conns), 0);
    conn = conns_insert(&conns, &(struct peer){&port, (const uint8_t *)"x", 1});
    assert_non_null(conn);
    assert_true(conn_handle_acquire(conn, &a) && conn_handle_acquire(conn, &b));
    conn->handles[a].state = conn->handles[b].state = HANDLE_WRITES;
    conn->handles[b].channels = 3;
    assert_null(conn_handle_find(conn, b + 1));
    assert_null(conn_handle_find(conn, UINT32_MAX));
    conn_handle_release(conn, a, true);
    conn_handle_release(conn, b, false);
    assert_null(conn_handle_find(conn, a));
    assert_int_equal(conn_handle_find(conn, b)->state, HANDLE_DEAD);
    assert_int_equal(conn_handle_find(conn, b)->channels, 3);
    conns_remove(&conns, conn);
    conns_fini(&conns);
}

static void handles__opened_and_closed_for_ever__stay_bounded(void **state)
{
    struct conns conns;
    struct conn *conn;
    uint32_t handle, last = UINT32_MAX;

    (void)state;
    assert_int_equal(conns_init(&conns), 0);
    conn = conns_insert(&conns, &(struct peer){&port, (const uint8_t *)"x", 1});
    assert_non_null(conn);
    for (int i = 0; i < 100000; i++) {
        assert_true(conn_handle_acquire(conn, &handle));
        if (i < 4096)
            assert_int_not_equal(handle, last); /* a number that just ended is not given at once */
        conn->handles[handle].state = HANDLE_WRITES;
        conn_handle_release(conn, handle, true);
        last = handle;
    }
    assert_true(conn->handles_capacity <= 8192);
    conns_remove(&conns, conn);
    conns_fini(&conns);
}

static void lock__held_by_another_process__is_refused(void **state)
{
    char directory[] = "/tmp/ssmd-lock-XXXXXX", path[64], name[80];
    int fd, other, status;
    pid_t pid;

    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/s.sock", directory);
    snprintf(name, sizeof(name), "%s.lock", path);
    assert_int_equal(lock_acquire(&fd, path), LOCK_OK);
    pid = fork();
    if (pid == 0)
        _exit(lock_acquire(&other, path) == LOCK_HELD ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    lock_release(fd);
    assert_int_equal(lock_acquire(&fd, path), LOCK_OK);
    lock_release(fd);
    unlink(name);
    rmdir(directory);
}

static void lock__path_that_is_no_socket__is_refused_and_left_alone(void **state)
{
    char directory[] = "/tmp/ssmd-lock-XXXXXX", path[64], name[80];
    struct stat found;
    FILE *file;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/precious", directory);
    snprintf(name, sizeof(name), "%s.lock", path);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("data", file);
    fclose(file);
    assert_int_equal(lock_acquire(&fd, path), LOCK_NOT_SOCKET);
    assert_int_equal(fd, -1);
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_size, 4);
    unlink(path);
    unlink(name);
    rmdir(directory);
}

static void input__limit__is_never_exceeded_and_sizes_do_not_hoard(void **state)
{
    struct input input;
    struct chunk *held[64];
    unsigned seed = 5;

    (void)state;
    input_init(&input, 1u << 16);
    for (int round = 0; round < 200; round++) {
        size_t size = (size_t)1 << (rand_r(&seed) % 15);
        int n = 0;

        while (n < 64 && (held[n] = input_acquire(&input, size)) != NULL) {
            memset(held[n]->samples, 1, size);
            n++;
        }
        assert_true(n > 0); /* what other sizes held came back */
        assert_true(input.bytes <= input.limit);
        while (n > 0)
            input_release(&input, held[--n]);
    }
    assert_null(input_acquire(&input, 1u << 16));
    assert_null(input_acquire(&input, SIZE_MAX / 2));
    input_fini(&input);
    assert_int_equal(input.bytes, 0);
}

/* ---- between threads --------------------------------------------------------------------------------------------- */

#define ITEMS 200000

static void *items_push(void *context)
{
    struct spsc *queue = context;

    for (uintptr_t i = 1; i <= ITEMS; i++)
        while (!spsc_push(queue, (void *)i)) /* NOLINT: a number stands for an item */
            sched_yield();
    return NULL;
}

static void spsc__two_threads__lose_nothing_and_never_sleep_over_an_item(void **state)
{
    struct spsc queue;
    pthread_t thread;
    uintptr_t expected = 1;

    (void)state;
    assert_int_equal(spsc_init(&queue), 0);
    assert_int_equal(pthread_create(&thread, NULL, items_push, &queue), 0);
    while (expected <= ITEMS) {
        void *item = spsc_pop(&queue);
        struct pollfd wait = {.fd = queue.fd, .events = POLLIN, .revents = 0};

        if (item) {
            assert_int_equal((uintptr_t)item, expected);
            expected++;
            continue;
        }
        if (spsc_sleep(&queue))
            assert_int_equal(poll(&wait, 1, 20000), 1);
        spsc_awake(&queue, wait.revents != 0);
    }
    pthread_join(thread, NULL);
    assert_null(spsc_pop(&queue));
    spsc_fini(&queue);
}

static void spsc__full__refuses(void **state)
{
    struct spsc queue;
    int item;

    (void)state;
    assert_int_equal(spsc_init(&queue), 0);
    for (int i = 0; i < SPSC_SLOTS; i++)
        assert_true(spsc_push(&queue, &item));
    assert_false(spsc_push(&queue, &item));
    assert_ptr_equal(spsc_pop(&queue), &item);
    assert_true(spsc_push(&queue, &item));
    spsc_fini(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conns__many_ids__are_found_until_removed),
        cmocka_unit_test(handles__that_ended__are_not_found_and_dead_ones_keep_their_channels),
        cmocka_unit_test(handles__opened_and_closed_for_ever__stay_bounded),
        cmocka_unit_test(lock__held_by_another_process__is_refused),
        cmocka_unit_test(lock__path_that_is_no_socket__is_refused_and_left_alone),
        cmocka_unit_test(input__limit__is_never_exceeded_and_sizes_do_not_hoard),
        cmocka_unit_test(spsc__two_threads__lose_nothing_and_never_sleep_over_an_item),
        cmocka_unit_test(spsc__full__refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
