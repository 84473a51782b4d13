/* SPDX-License-Identifier: Apache-2.0
 *
 * Statuses as sentences, and the text of an error.
 *
 * Names of layers, tensors and files come from outside and end up in terminals and logs, so control characters are
 * replaced here, once, for every message.
 */
#include <stdarg.h>
#include <stdio.h>

#include "ssm/model.h"

const char *ssm_status_text(int status)
{
    switch (status) {
#define X(name, value, text)                                                                                           \
    case (value):                                                                                                      \
        return text;
        SSM_STATUSES(X)
#undef X
    default:
        return "an unknown status";
    }
}

int ssm_error_set(struct ssm_error *err, int status, const char *format, ...)
{
    if (!err)
        return status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    for (char *c = err->text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    return status;
}
