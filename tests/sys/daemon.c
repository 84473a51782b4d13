/* SPDX-License-Identifier: Apache-2.0
 *
 * fork, exec, and a notification socket (as systemd's) that says when the daemon is ready.
 */
#include "tests/sys/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_MS 20000 /* sanitizers are slow */
#define PATHS    128

struct sys_daemon {
    pid_t pid;
    char directory[64];
    char conf[PATHS], log[PATHS], notify[PATHS], endpoint[PATHS], tap[PATHS];
    char *text; /* of the log */
};

static long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void program_path(char *out, size_t size)
{
    const char *build = getenv("BUILD");

    snprintf(out, size, "%s/bin/ssmd", build && *build ? build : "build");
}

/* Whether a line begins so. */
static int has_line(const char *lines, const char *begin)
{
    const char *at = lines;

    while (at && (at = strstr(at, begin)) != NULL && at > lines && at[-1] != '\n')
        at++;
    return at != NULL;
}

static int conf_write(const struct sys_daemon *d, const char *lines)
{
    const char *more = getenv("SSMD_TEST_LINE");
    FILE *file = fopen(d->conf, "w");

    if (!file)
        return -1;
    if (!has_line(lines, "endpoint ="))
        fprintf(file, "endpoint = %s\n", d->endpoint);
    if (!has_line(lines, "tap ="))
        fprintf(file, "tap = %s\n", d->tap);
    for (; lines && *lines; lines++) {
        if (*lines == '@')
            fputs(d->directory, file);
        else
            putc(*lines, file);
    }
    fprintf(file, "\n%s\n", more ? more : "");
    return fclose(file);
}

static int notify_open(const struct sys_daemon *d)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    unlink(d->notify);
    snprintf(at.sun_path, sizeof(at.sun_path), "%.*s", (int)sizeof(at.sun_path) - 1, d->notify);
    if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void child_run(const struct sys_daemon *d)
{
    const char *descriptors = getenv("SSMD_TEST_DESCRIPTORS");
    char program[256];
    int log = open(d->log, O_WRONLY | O_CREAT | O_APPEND, 0600);

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails must not leave it running */
    program_path(program, sizeof(program));
    if (descriptors) {
        struct rlimit limit = {strtoul(descriptors, NULL, 10), strtoul(descriptors, NULL, 10)};

        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            _exit(125);
    }
    if (log < 0 || dup2(log, STDERR_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0)
        _exit(126);
    setenv("NOTIFY_SOCKET", d->notify, 1);
    unsetenv("JOURNAL_STREAM");
    execl(program, "ssmd", "--config", d->conf, (char *)NULL);
    _exit(127);
}

/* 0 when READY=1 came, -1 when the daemon ended or the time did. */
static int ready_wait(struct sys_daemon *d, int fd)
{
    long until = now_ms() + READY_MS;
    char text[256];

    while (now_ms() < until) {
        struct pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
        ssize_t n;

        if (poll(&wait, 1, 20) <= 0) {
            if (sys_daemon_wait(d, 0) != -1)
                return -1;
            continue;
        }
        n = recv(fd, text, sizeof(text) - 1, 0);
        if (n < 0)
            return -1;
        text[n] = '\0';
        if (strstr(text, "READY=1"))
            return 0;
    }
    return -1;
}

int sys_daemon_restart(struct sys_daemon *daemon)
{
    int fd = notify_open(daemon), status = -1;

    if (fd < 0)
        return -1;
    daemon->pid = fork();
    if (daemon->pid == 0)
        child_run(daemon);
    if (daemon->pid > 0)
        status = ready_wait(daemon, fd);
    close(fd);
    if (status != 0)
        fprintf(stderr, "ssmd did not become ready; its log:\n%s\n", sys_daemon_log(daemon));
    return status;
}

int sys_daemon_start(struct sys_daemon **out, const char *lines)
{
    struct sys_daemon *d = calloc(1, sizeof(*d));

    *out = NULL;
    if (!d)
        return -1;
    snprintf(d->directory, sizeof(d->directory), "/tmp/ssmd-test-XXXXXX");
    if (!mkdtemp(d->directory)) {
        free(d);
        return -1;
    }
    snprintf(d->conf, sizeof(d->conf), "%s/ssmd.conf", d->directory);
    snprintf(d->log, sizeof(d->log), "%s/log", d->directory);
    snprintf(d->notify, sizeof(d->notify), "%s/notify", d->directory);
    snprintf(d->endpoint, sizeof(d->endpoint), "ipc://%s/ssmd.sock", d->directory);
    snprintf(d->tap, sizeof(d->tap), "ipc://%s/tap.sock", d->directory);
    if (conf_write(d, lines) != 0 || sys_daemon_restart(d) != 0) {
        sys_daemon_free(d);
        return -1;
    }
    *out = d;
    return 0;
}

int sys_daemon_run(const char *const *args)
{
    const char *argv[16] = {"ssmd"};
    char program[256];
    int status, n = 1;
    pid_t pid;

    for (; args && *args && n < 15; args++)
        argv[n++] = *args;
    program_path(program, sizeof(program));
    pid = fork();
    if (pid == 0) {
        execv(program, (char *const *)argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

const char *sys_daemon_endpoint(const struct sys_daemon *daemon)
{
    return daemon->endpoint;
}

const char *sys_daemon_tap(const struct sys_daemon *daemon)
{
    return daemon->tap;
}

const char *sys_daemon_directory(const struct sys_daemon *daemon)
{
    return daemon->directory;
}

const char *sys_daemon_conf(const struct sys_daemon *daemon)
{
    return daemon->conf;
}

pid_t sys_daemon_pid(const struct sys_daemon *daemon)
{
    return daemon->pid;
}

const char *sys_daemon_log(struct sys_daemon *daemon)
{
    FILE *file = fopen(daemon->log, "r"), *out;
    size_t size = 0;
    int c;

    free(daemon->text);
    daemon->text = NULL;
    out = open_memstream(&daemon->text, &size);
    while (out && file && (c = getc(file)) != EOF)
        putc(c, out);
    if (file)
        fclose(file);
    return out && fclose(out) == 0 ? daemon->text : "";
}

void sys_daemon_signal(const struct sys_daemon *daemon, int signal)
{
    if (daemon->pid > 0)
        kill(daemon->pid, signal);
}

int sys_daemon_wait(struct sys_daemon *daemon, int timeout_ms)
{
    long until = now_ms() + timeout_ms;
    int status;
    pid_t ended;

    if (daemon->pid <= 0)
        return -1;
    while ((ended = waitpid(daemon->pid, &status, WNOHANG)) == 0 && now_ms() < until)
        usleep(2000);
    if (ended != daemon->pid)
        return -1;
    daemon->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int sys_daemon_stop(struct sys_daemon *daemon, int timeout_ms)
{
    int status;

    sys_daemon_signal(daemon, SIGTERM);
    status = sys_daemon_wait(daemon, timeout_ms);
    if (status == -1 && daemon->pid > 0) {
        sys_daemon_signal(daemon, SIGKILL);
        (void)sys_daemon_wait(daemon, 5000);
    }
    return status;
}

static int entry_remove(const char *path, const struct stat *found, int kind, struct FTW *walk)
{
    (void)found;
    (void)kind;
    (void)walk;
    return remove(path);
}

void sys_daemon_free(struct sys_daemon *daemon)
{
    if (!daemon)
        return;
    if (daemon->pid > 0) {
        sys_daemon_signal(daemon, SIGKILL);
        (void)sys_daemon_wait(daemon, 5000);
    }
    nftw(daemon->directory, entry_remove, 8, FTW_DEPTH | FTW_PHYS);
    free(daemon->text);
    free(daemon);
}
