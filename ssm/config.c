/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads config.json: the whole file, the words of Python quoted, then jansson.
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ssm/config.h"
#include "ssm/model.h"

/* The length of the bare word at text[i] if it stands where a value may, else 0. */
static size_t python_word(const char *text, size_t size, size_t i)
{
    static const char *const WORDS[] = {"-Infinity", "Infinity", "NaN"};
    for (size_t w = 0; w < sizeof(WORDS) / sizeof(WORDS[0]); w++) {
        size_t n = strlen(WORDS[w]), after = i + n;
        if (n > size - i || memcmp(text + i, WORDS[w], n) != 0)
            continue;
        while (after < size && isspace((unsigned char)text[after]))
            after++;
        if (after < size && (text[after] == ',' || text[after] == ']' || text[after] == '}'))
            return n;
    }
    return 0;
}

/* `text` with every such word quoted, into out, which has room for twice the text. */
static size_t quote_python_words(const char *text, size_t size, char *out)
{
    size_t n = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        size_t word = in_string ? 0 : python_word(text, size, i);
        if (word) {
            out[n++] = '"';
            memcpy(out + n, text + i, word);
            n += word;
            out[n++] = '"';
            i += word - 1;
            continue;
        }
        out[n++] = text[i];
        if (in_string && text[i] == '\\' && i + 1 < size)
            out[n++] = text[++i];
        else if (text[i] == '"')
            in_string = !in_string;
    }
    return n;
}

int ssm_config_parse(json_t **out, const char *text, size_t size, const char *file, struct ssm_error *err)
{
    *out = NULL;
    if (size > SSM_CONFIG_BYTES_MAX)
        return ssm_error_set(err, SSM_CONFIG, "%s: %zu bytes; at most %zu are read", file, size, SSM_CONFIG_BYTES_MAX);
    char *strict = malloc(2 * size + 1);
    if (!strict)
        return ssm_error_set(err, SSM_NOMEM, "%s: out of memory", file);
    json_error_t where;
    json_t *value = json_loadb(strict, quote_python_words(text, size, strict), JSON_REJECT_DUPLICATES, &where);
    free(strict);
    if (!value)
        return ssm_error_set(err, SSM_CONFIG, "%s:%d: not JSON: %s", file, where.line, where.text);
    if (!json_is_object(value)) {
        json_decref(value);
        return ssm_error_set(err, SSM_CONFIG, "%s: not a JSON object", file);
    }
    *out = value;
    return SSM_OK;
}

/* Reads exactly `size` bytes, or fewer when the file shrank meanwhile; -1 on error. */
static ssize_t read_whole(int fd, char *text, size_t size)
{
    size_t n = 0;
    while (n < size) {
        ssize_t got = read(fd, text + n, size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

int ssm_config_load(json_t **out, const char *path, struct ssm_error *err)
{
    int rc;
    char *text = NULL;
    struct stat st;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not make us wait */
    if (fd < 0 || fstat(fd, &st) < 0) {
        rc = ssm_error_set(err, errno == ENOENT || errno == ENOTDIR ? SSM_NOENT : SSM_IO, "%s: %s", path,
                           strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = ssm_error_set(err, SSM_CONFIG, "%s: not a regular file", path);
        goto out;
    }
    if ((uint64_t)st.st_size > SSM_CONFIG_BYTES_MAX) {
        rc = ssm_error_set(err, SSM_CONFIG, "%s: %lld bytes; at most %zu are read", path, (long long)st.st_size,
                           SSM_CONFIG_BYTES_MAX);
        goto out;
    }
    text = malloc((size_t)st.st_size + 1);
    if (!text) {
        rc = ssm_error_set(err, SSM_NOMEM, "%s: out of memory", path);
        goto out;
    }
    ssize_t n = read_whole(fd, text, (size_t)st.st_size);
    rc = n < 0 ? ssm_error_set(err, SSM_IO, "%s: %s", path, strerror(errno))
               : ssm_config_parse(out, text, (size_t)n, path, err);
out:
    free(text);
    if (fd >= 0)
        close(fd);
    return rc;
}
