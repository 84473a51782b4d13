/* SPDX-License-Identifier: Apache-2.0
 *
 * The door: this program's accept4 is the daemon's. Sockets that are not on its list are accepted as ever; those on it as
 * long as there is room, and never with an error that libzmq takes for impossible.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/clock.h"
#include "daemon/door.h"

static struct sockaddr_un at;

static int listener_open(void **state)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    static int listener;

    at.sun_family = AF_UNIX;
    snprintf(at.sun_path + 1, sizeof(at.sun_path) - 1, "ssmd-test-door-%d", (int)getpid()); /* abstract: no file */
    listener = fd;
    *state = &listener;
    return fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof(at)) != 0 || listen(fd, 64) != 0;
}

static int listener_close(void **state)
{
    close(*(int *)*state);
    door_clear();
    door_set_limit(UINT64_MAX);
    return 0;
}

static int visitor_connect(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

static int visitor_accept(int listener)
{
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

static bool is_closed(int visitor)
{
    char byte;

    return recv(visitor, &byte, 1, MSG_DONTWAIT) == 0;
}

static void socket__that_is_not_listed__is_accepted_whatever_the_limit(void **state)
{
    int listener = *(int *)*state, visitor, peer;

    door_set_limit(0);
    visitor = visitor_connect();
    peer = visitor_accept(listener);
    assert_true(peer >= 0);
    assert_int_equal(door_refused(), 0);
    assert_int_equal(visitor_accept(listener), -1);
    assert_int_equal(errno, EAGAIN);
    close(peer);
    close(visitor);
}

static void visitors__beyond_the_limit__are_sent_away_until_others_go(void **state)
{
    enum { ROOM = 5, VISITORS = 12 };
    int listener = *(int *)*state, visitor[VISITORS], peer[VISITORS], in = 0;
    uint64_t refused = door_refused(), until_ns = clock_now_ns() + UINT64_C(20000000000);

    assert_true(door_add(listener, 0));
    for (int i = 0; i < VISITORS; i++)
        visitor[i] = visitor_connect();
    door_set_limit((uint64_t)door_descriptors() + ROOM);
    for (int i = 0; i < VISITORS; i++) {
        peer[i] = visitor_accept(listener);
        if (peer[i] < 0)
            assert_int_equal(errno, ECONNABORTED);
        in += peer[i] >= 0;
        assert_int_equal(is_closed(visitor[i]), peer[i] < 0);
    }
    assert_int_equal(in, ROOM);
    assert_int_equal(door_refused() - refused, VISITORS - ROOM);
    close(peer[0]);
    do { /* it looks again now and then */
        assert_true(clock_now_ns() < until_ns);
        close(visitor[0]);
        visitor[0] = visitor_connect();
        peer[0] = visitor_accept(listener);
    } while (peer[0] < 0);
    for (int i = 0; i < VISITORS; i++) {
        close(visitor[i]);
        if (peer[i] >= 0)
            close(peer[i]);
    }
}

static void accept__without_any_descriptor__is_an_error_that_libzmq_survives(void **state)
{
    int listener = *(int *)*state, visitor = visitor_connect();
    struct rlimit limit, none;

    assert_true(door_add(listener, 0));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(visitor_accept(listener), -1);
    assert_int_equal(errno, ECONNABORTED);
    door_clear();
    assert_int_equal(visitor_accept(listener), -1);
    assert_int_equal(errno, EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    close(visitor);
}

static void port__with_more_than_its_share__lets_others_go_first_but_not_for_ever(void **state)
{
    int listener = *(int *)*state, other = fcntl(listener, F_DUPFD_CLOEXEC, 0), visitor[2], peer;
    int tries = 0;

    assert_true(door_add(listener, 0));
    assert_true(door_add(other, 1));
    door_set_load(0, 20);
    door_set_load(1, 0);
    visitor[0] = visitor_connect();
    assert_int_equal(visitor_accept(listener), -1);
    assert_int_equal(errno, EAGAIN);
    peer = visitor_accept(other);
    assert_true(peer >= 0);
    close(peer);
    visitor[1] = visitor_connect();
    while ((peer = visitor_accept(listener)) < 0)
        assert_true(++tries < 100);
    assert_true(tries > 0);
    close(peer);
    close(other);
    close(visitor[0]);
    close(visitor[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(socket__that_is_not_listed__is_accepted_whatever_the_limit, listener_open,
                                        listener_close),
        cmocka_unit_test_setup_teardown(visitors__beyond_the_limit__are_sent_away_until_others_go, listener_open,
                                        listener_close),
        cmocka_unit_test_setup_teardown(accept__without_any_descriptor__is_an_error_that_libzmq_survives, listener_open,
                                        listener_close),
        cmocka_unit_test_setup_teardown(port__with_more_than_its_share__lets_others_go_first_but_not_for_ever,
                                        listener_open, listener_close),
    };

    return cmocka_run_group_tests_name("door", tests, NULL, NULL);
}
