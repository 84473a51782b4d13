/* SPDX-License-Identifier: Apache-2.0
 * Questions of policy; see limits.h. */
#include "daemon/limits.h"

const char *limits_stream(struct loop *loop)
{
    if (loop->streams.n < loop->conf.max_streams)
        return NULL;
    loop->counters.limit_streams++;
    return "there are max_streams streams: close some";
}

const char *limits_writer(struct loop *loop, const struct conn *conn)
{
    if (conn->writes < loop->conf.connection_streams)
        return NULL;
    loop->counters.limit_connection_streams++;
    return "this connection writes connection_streams streams: close some, or use another connection";
}

const char *limits_reader(struct loop *loop, const struct conn *conn)
{
    if (loop->readers / LIMITS_READERS >= loop->conf.max_streams) {
        loop->counters.limit_readers++;
        return "too many streams are being read: there are 4 readers for each of max_streams";
    }
    if (conn->reads < loop->conf.connection_readers)
        return NULL;
    loop->counters.limit_connection_readers++;
    return "this connection reads connection_readers streams: close some, or use another connection";
}

bool limits_handle_acquire(struct loop *loop, struct conn *conn, uint32_t *out)
{
    bool has_free = conn->handles_free != UINT32_MAX; /* else all others are in use or dead */

    if ((has_free || conn->handles_n - conn->writes - conn->reads < LIMITS_DEAD) && conn_handle_acquire(conn, out))
        return true;
    loop->counters.limit_handles++;
    return false;
}

const char *limits_slot_acquire(struct loop *loop, struct site *site, struct ssm_slot *out)
{
    uint64_t bytes = site ? site->model->info.state_bytes : 0;

    if (!site)
        return "the device that has this model has failed";
    if (bytes > loop->conf.state_memory || loop->states.state_bytes > loop->conf.state_memory - bytes) {
        loop->counters.limit_state_memory++;
        return "state_memory has no room for the state of one more stream of this model: close some";
    }
    if (ssm_slot_acquire(site->program, out) != SSM_OK)
        return "no memory for the state of one more stream";
    site->slots++;
    loop->states.state_bytes += bytes;
    return NULL;
}

void limits_slot_release(struct loop *loop, struct site *site, struct ssm_slot slot)
{
    if (slot.index < 0)
        return;
    ssm_slot_release(site->program, slot);
    site->slots--;
    loop->states.state_bytes -= site->model->info.state_bytes;
}
