/* SPDX-License-Identifier: Apache-2.0
 * Models that must not load; see refusing.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/ssm/refusing.h"

void refusing_check(struct making *m, uint32_t in, uint32_t out, int status, ...)
{
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    const char *word;
    va_list words;
    int got = making_load(m, &model, in, out, &err);

    if (got != status)
        fail_msg("status %d instead of %d: %s", got, status, err.text);
    assert_null(model);
    va_start(words, status);
    while ((word = va_arg(words, const char *)))
        if (!strstr(err.text, word))
            fail_msg("no '%s' in: %s", word, err.text);
    va_end(words);
    making_fini(m);
}
