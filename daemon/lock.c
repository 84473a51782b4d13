/* SPDX-License-Identifier: Apache-2.0
 *
 * flock(2) on PATH.lock: the kernel drops it with the process, however that ends.
 */
#include "daemon/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int lock_acquire(int *out, const char *path)
{
    char name[PATH_MAX];
    struct stat found;
    int fd;

    *out = -1;
    if (snprintf(name, sizeof(name), "%s.lock", path) >= (int)sizeof(name)) {
        errno = ENAMETOOLONG;
        return LOCK_IO;
    }
    if (lstat(path, &found) == 0 && !S_ISSOCK(found.st_mode))
        return LOCK_NOT_SOCKET;
    fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return LOCK_IO;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int status = errno == EWOULDBLOCK ? LOCK_HELD : LOCK_IO;

        close(fd);
        return status;
    }
    *out = fd;
    return LOCK_OK;
}

void lock_release(int fd)
{
    if (fd >= 0)
        close(fd);
}
