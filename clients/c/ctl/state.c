/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot, restore, fork and rollback: states of streams as files, and as other streams.
 *
 * An image file appears whole or not at all. Rollback needs the stream's handle, so it resumes the stream first, as
 * close and reset do.
 */
#include "clients/c/ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "clients/c/ctl/attach.h"

/* Between `least` and `most` words, and no options. */
static int words_check(const struct ctl *ctl, int argc, char **argv, int least, int most, const char *needs)
{
    static const struct option none[] = {{NULL, 0, NULL, 0}};
    if (getopt_long(argc, argv, "", none, NULL) != -1)
        return ctl_usage(ctl, "unknown option %s", argv[optind - 1]);
    if (argc - optind < least || argc - optind > most)
        return ctl_usage(ctl, "%s", needs);
    return 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        bytes += n;
        size -= (size_t)n;
    }
    return 0;
}

/* Under another name first, so that what was there stays until the new one is whole and on the disk. */
static int save(const char *path, const struct ssmc_image *image)
{
    char *half;
    if (asprintf(&half, "%s.XXXXXX", path) < 0)
        return EX_OSERR;
    int fd = mkstemp(half);
    int rc = fd < 0 ? EX_CANTCREAT : EX_OK;
    if (rc == EX_OK && (write_all(fd, image->bytes, image->size) != 0 || fsync(fd) != 0))
        rc = EX_IOERR;
    if (fd >= 0 && close(fd) != 0 && rc == EX_OK)
        rc = EX_IOERR;
    if (rc == EX_OK && rename(half, path) != 0)
        rc = EX_CANTCREAT;
    if (rc != EX_OK)
        ctl_say("%s: %s", path, strerror(errno));
    if (rc != EX_OK && fd >= 0)
        unlink(half);
    free(half);
    return rc;
}

static int load(const char *path, char **bytes, size_t *size)
{
    FILE *file = fopen(path, "rb"), *out = NULL;
    char part[1 << 16];
    size_t n;
    *bytes = NULL;
    if (file)
        out = open_memstream(bytes, size);
    while (out && (n = fread(part, 1, sizeof part, file)) > 0)
        if (fwrite(part, 1, n, out) != n)
            break;
    int rc = !file ? EX_NOINPUT : !out || ferror(out) ? EX_OSERR : ferror(file) ? EX_IOERR : EX_OK;
    if (rc != EX_OK)
        ctl_say("%s: %s", path, strerror(errno));
    if (out && fclose(out) != 0 && rc == EX_OK)
        rc = EX_OSERR;
    if (file)
        fclose(file);
    return rc;
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

static int print_stream(const struct ctl *ctl, const char *done, const struct ssmc_stream_info *info)
{
    if (ctl->is_json)
        return ctl_print_json(ctl_json_stream(info));
    printf("%s %s (%s, epoch %llu, next frame %llu)\n", info->id, done, info->model, (unsigned long long)info->epoch,
           (unsigned long long)info->next);
    return ctl_finish();
}

int ctl_snapshot(struct ctl *ctl, int argc, char **argv)
{
    struct ssmc_image image;
    int rc = words_check(ctl, argc, argv, 2, 2, "the id of a stream and the name of a file are needed");
    if (rc != 0 || (rc = ctl_connect(ctl)) != 0)
        return rc;
    const char *id = argv[optind], *path = argv[optind + 1];
    rc = ssmc_snapshot(ctl->c, id, 0, &image, ctl->timeout_ms);
    if (rc != 0)
        return ctl_fail(ctl, rc, id);
    rc = save(path, &image);
    free(image.bytes);
    if (rc != 0)
        return rc;
    if (ctl->is_json)
        return ctl_print_json(json_pack("{s:o,s:s,s:I,s:I,s:I}", "id", ctl_json_bytes(id, strlen(id)), "file", path,
                                        "bytes", (json_int_t)image.size, "epoch", (json_int_t)image.epoch, "index",
                                        (json_int_t)image.index));
    printf("%s: %s after frame %llu of epoch %llu, %zu bytes\n", path, id, (unsigned long long)image.index,
           (unsigned long long)image.epoch, image.size);
    return ctl_finish();
}

int ctl_restore(struct ctl *ctl, int argc, char **argv)
{
    struct ssmc_stream_info info;
    char *bytes = NULL;
    size_t size = 0;
    int rc = words_check(ctl, argc, argv, 1, 2, "the name of a file is needed, and perhaps an id");
    if (rc != 0)
        return rc;
    const char *path = argv[optind], *id = optind + 1 < argc ? argv[optind + 1] : NULL;
    rc = load(path, &bytes, &size);
    if (rc == 0)
        rc = ctl_connect(ctl);
    if (rc == 0) {
        rc = ssmc_restore(ctl->c, bytes, size, id, 0, &info, ctl->timeout_ms);
        rc = rc ? ctl_fail(ctl, rc, path) : print_stream(ctl, "is restored", &info);
    }
    free(bytes);
    return rc;
}

int ctl_fork(struct ctl *ctl, int argc, char **argv)
{
    struct ssmc_stream_info info;
    int rc = words_check(ctl, argc, argv, 2, 2, "the ids of a stream and of the new one are needed");
    if (rc != 0 || (rc = ctl_connect(ctl)) != 0)
        return rc;
    rc = ssmc_fork(ctl->c, argv[optind], 0, argv[optind + 1], 0, &info, ctl->timeout_ms);
    return rc ? ctl_fail(ctl, rc, argv[optind]) : print_stream(ctl, "is forked", &info);
}

int ctl_rollback(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {{"take-over", no_argument, NULL, 'T'}, {NULL, 0, NULL, 0}};
    struct ssmc_open_options open = {.mode = SSMC_RESUME};
    struct ssmc_stream_info info;
    struct ssmc_stream *stream;
    uint64_t index;
    int o;
    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (o != 'T')
            return ctl_usage(ctl, "unknown option %s", argv[optind - 1]);
        open.take_over = 1;
    }
    if (optind != argc - 2 || !ctl_parse_u64(argv[optind + 1], 0, INT64_MAX, &index))
        return ctl_usage(ctl, "the id of a stream and the index to go back to are needed");
    open.id = argv[optind];
    int rc = attach_named(ctl, &stream, &open);
    if (rc != 0)
        return rc;
    rc = ssmc_rollback(stream, index, ctl->timeout_ms);
    if (rc != 0)
        return ctl_fail(ctl, rc, open.id);
    ssmc_stream_info(stream, &info);
    return print_stream(ctl, "went back", &info);
}
