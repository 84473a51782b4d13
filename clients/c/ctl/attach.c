/* SPDX-License-Identifier: Apache-2.0
 *
 * See attach.h.
 */
#include "clients/c/ctl/attach.h"

#include <string.h>

#include "proto/codec.h"

int attach_open(struct ctl *ctl, struct ssmc_stream **out, struct ssmc_open_options *options)
{
    struct ssmc_stream_info info;
    int rc = ssmc_open(ctl->c, out, options, ctl->timeout_ms);
    if (rc != SSMC_REFUSED || ssmc_error_code(ctl->c) != SSMD__CODE__OWNED || options->mode == SSMC_CREATE)
        return rc;
    int found = ssmc_info(ctl->c, options->id, options->id_size, &info, ctl->timeout_ms);
    if (found != 0)
        return found;
    if (info.attached) {
        ctl_say("a client is connected to stream %s; --take-over takes it from that client", options->id);
        return ssmc_open(ctl->c, out, options, ctl->timeout_ms); /* for the daemon's own words */
    }
    options->take_over = 1;
    rc = ssmc_open(ctl->c, out, options, ctl->timeout_ms);
    options->take_over = 0;
    return rc;
}

int attach_named(struct ctl *ctl, struct ssmc_stream **out, struct ssmc_open_options *options)
{
    struct ssmc_stream_info info;
    int rc = ctl_connect(ctl);
    if (rc != 0)
        return rc;
    rc = ssmc_info(ctl->c, options->id, 0, &info, ctl->timeout_ms);
    if (rc != 0)
        return ctl_fail(ctl, rc, options->id);
    options->model = info.model;
    rc = attach_open(ctl, out, options);
    options->model = NULL;
    return rc == 0 ? 0 : ctl_fail(ctl, rc, options->id);
}
