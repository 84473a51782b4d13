/* SPDX-License-Identifier: Apache-2.0
 *
 * `ssmctl watch`: what the tap publishes. Its own SUB socket, its own bounds; a watcher that is too slow misses
 * messages, and sees it by the index.
 */
#include "clients/c/ctl/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <zmq.h>

#include "proto/codec.h"

enum { QUEUE_MESSAGES = 10000, MESSAGE_MAX = 16 << 20, WAIT_MS = 200 };

struct watching {
    struct ctl *ctl;
    const char *prefix, *tap;
    bool is_exact, is_csv, is_raw;
    uint64_t count;
    void *zmq, *socket;
    struct proto_arena arena;
};

static int parse(const struct ctl *ctl, int argc, char **argv, struct watching *w)
{
    static const struct option options[] = {
        {"exact", no_argument, NULL, 'x'},       {"csv", no_argument, NULL, 'c'},       {"raw", no_argument, NULL, 'r'},
        {"count", required_argument, NULL, 'n'}, {"tap", required_argument, NULL, 'T'}, {NULL, 0, NULL, 0},
    };
    int o;
    while ((o = getopt_long(argc, argv, "xn:", options, NULL)) != -1) {
        if (o == 'n' && !ctl_parse_u64(optarg, 1, INT64_MAX, &w->count))
            return ctl_usage(ctl, "--count is a number of messages");
        if (o == '?')
            return ctl_usage(ctl, "unknown option, or a value is missing: %s", argv[optind - 1]);
        w->is_exact |= o == 'x';
        w->is_csv |= o == 'c';
        w->is_raw |= o == 'r';
        if (o == 'T')
            w->tap = optarg;
    }
    if (optind + 1 < argc)
        return ctl_usage(ctl, "unexpected argument \"%s\"", argv[optind + 1]);
    w->prefix = optind < argc ? argv[optind] : "";
    if (strlen(w->prefix) > PROTO_ID_MAX || (w->is_exact && !*w->prefix))
        return ctl_usage(ctl, "an id has 1 to 64 bytes");
    if (w->is_csv + w->is_raw + ctl->is_json > 1)
        return ctl_usage(ctl, "--csv, --raw and --json are three ways to print: choose one");
    return 0;
}

static int subscribe(struct watching *w)
{
    static const struct {
        int option, value;
    } options[] = {
        {ZMQ_LINGER, 0},
        {ZMQ_RCVHWM, QUEUE_MESSAGES},
        {ZMQ_SNDHWM, 0},
        {ZMQ_HEARTBEAT_IVL, 1000},
        {ZMQ_RECONNECT_IVL, 100},
        {ZMQ_RECONNECT_IVL_MAX, 5000},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_HEARTBEAT_TIMEOUT, 3000},
        {ZMQ_IPV6, 1},
        {ZMQ_HANDSHAKE_IVL, 5000},
        {ZMQ_IMMEDIATE, 1},
        {ZMQ_HEARTBEAT_TTL, 4000},
    };
    const int64_t message_max = MESSAGE_MAX;
    w->zmq = zmq_ctx_new();
    w->socket = w->zmq ? zmq_socket(w->zmq, ZMQ_SUB) : NULL;
    if (!w->socket)
        return -1;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (zmq_setsockopt(w->socket, options[i].option, &options[i].value, sizeof(int)) != 0)
            return -1;
    if (zmq_setsockopt(w->socket, ZMQ_MAXMSGSIZE, &message_max, sizeof message_max) != 0)
        return -1;
    /* topic = id + NUL: with the NUL only this id */
    size_t size = strlen(w->prefix) + (w->is_exact ? 1 : 0);
    if (zmq_setsockopt(w->socket, ZMQ_SUBSCRIBE, w->prefix, size) != 0)
        return -1;
    return zmq_connect(w->socket, w->tap);
}

/* Topic, header, payload. 1, 0 when there is none now, -1 when it is not a message of the tap. */
static int receive(struct watching *w, zmq_msg_t parts[3])
{
    int n = 0, more = 1;
    zmq_msg_t waste; /* of a fourth part and further ones */
    for (int i = 0; i < 3; i++)
        zmq_msg_init(&parts[i]);
    zmq_msg_init(&waste);
    while (more) {
        zmq_msg_t *part = n < 3 ? &parts[n] : &waste;
        if (zmq_msg_recv(part, w->socket, ZMQ_DONTWAIT) < 0)
            return n == 0 ? 0 : -1;
        more = zmq_msg_more(part);
        n++;
    }
    zmq_msg_close(&waste);
    return n == 3 ? 1 : -1;
}

static const char *event_name(int kind)
{
    switch (kind) {
    case SSMD__EVENT__KIND__TAKEN_OVER:
        return "taken over";
    case SSMD__EVENT__KIND__ENDED:
        return "ended";
    case SSMD__EVENT__KIND__READING:
        return "begun";
    case SSMD__EVENT__KIND__LOST:
        return "lost";
    case SSMD__EVENT__KIND__EPOCH:
        return "new epoch";
    case SSMD__EVENT__KIND__GAP_FILLED:
        return "gap filled";
    case SSMD__EVENT__KIND__GAP_RESET:
        return "reset at a gap";
    case SSMD__EVENT__KIND__GAP_REFUSED:
        return "refused behind a gap";
    case SSMD__EVENT__KIND__SOURCE_REFUSED:
        return "publisher refused";
    case SSMD__EVENT__KIND__PUBLISH_REFUSED:
        return "frames refused";
    case SSMD__EVENT__KIND__EVICTED:
        return "evicted";
    default:
        return "event";
    }
}

/* Value i of the payload; of pairs the token, then its log-probability. */
static double value_of(const Ssmd__TapHeader *h, const uint8_t *payload, size_t i)
{
    float value;
    int32_t token;
    if (h->pairs && i % 2 == 0) {
        memcpy(&token, payload + i * sizeof token, sizeof token);
        return token;
    }
    memcpy(&value, payload + i * sizeof value, sizeof value);
    return (double)value;
}

static int print_data_json(const Ssmd__TapHeader *h, const char *id, const uint8_t *payload, size_t frames)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < frames; i++) {
        json_t *row = json_array();
        for (uint32_t c = 0; c < h->channels; c++) {
            double value = value_of(h, payload, i * h->channels + c);
            json_array_append_new(row, h->pairs && c % 2 == 0 ? json_integer((json_int_t)value)
                                       : isfinite(value)      ? json_real(value)
                                                              : json_null());
        }
        json_array_append_new(rows, row);
    }
    return ctl_print_json(json_pack("{s:o,s:I,s:I,s:s,s:o}", "id", ctl_json_bytes(id, h->id.len), "epoch",
                                    (json_int_t)h->epoch, "index", (json_int_t)h->index, "kind", "data", "results",
                                    rows));
}

static int print_data(const struct watching *w, const Ssmd__TapHeader *h, const char *id, const zmq_msg_t *payload)
{
    const uint8_t *bytes = zmq_msg_data((zmq_msg_t *)payload);
    size_t size = zmq_msg_size(payload), frame = (size_t)h->channels * sizeof(float);
    if (h->channels == 0 || size % frame != 0)
        return EX_PROTOCOL;
    if (w->is_raw)
        return fwrite(bytes, 1, size, stdout) == size ? ctl_finish() : EX_IOERR;
    if (w->ctl->is_json)
        return print_data_json(h, id, bytes, size / frame);
    const char between = w->is_csv ? ',' : ' ';
    for (size_t i = 0; i < size / frame; i++) {
        printf("%s%c", id, between);
        if (w->is_csv)
            printf("%" PRIu64 ",", h->epoch);
        printf("%" PRIu64, h->index + i);
        for (uint32_t c = 0; c < h->channels; c++)
            printf("%c%.9g", between, value_of(h, bytes, i * h->channels + c));
        putchar('\n');
    }
    return ctl_finish();
}

static int print_event(struct watching *w, uint64_t epoch, uint64_t index, const char *id, size_t id_size,
                       const zmq_msg_t *payload)
{
    Ssmd__Event *event;
    char text[400] = "", frames[64] = "";
    int rc = proto_event_decode(&w->arena, zmq_msg_data((zmq_msg_t *)payload), zmq_msg_size(payload), &event);
    if (rc == PROTO_UNKNOWN)
        return 0; /* of a later daemon: passed over */
    if (rc != PROTO_OK)
        return EX_PROTOCOL;
    if (w->ctl->is_json) {
        json_t *o = json_pack("{s:o,s:I,s:I,s:s,s:s}", "id", ctl_json_bytes(id, id_size), "epoch", (json_int_t)epoch,
                              "index", (json_int_t)index, "kind", "event", "event", event_name((int)event->kind));
        if (event->has_next)
            json_object_update_new(
                o, json_pack("{s:I,s:I}", "first", (json_int_t)event->first, "next", (json_int_t)event->next));
        if (event->text)
            json_object_set_new(o, "text", ctl_json_bytes(event->text, strlen(event->text)));
        return ctl_print_json(o);
    }
    if (event->text)
        snprintf(text, sizeof text, ": %s", event->text);
    if (event->has_next)
        snprintf(frames, sizeof frames, ", frames %" PRIu64 " to %" PRIu64, event->first, event->next - 1);
    fprintf(w->is_raw || w->is_csv ? stderr : stdout, "%s: %s (epoch %" PRIu64 "%s)%s\n", id,
            event_name((int)event->kind), epoch, frames, text);
    return ctl_finish();
}

static int print_message(struct watching *w, zmq_msg_t parts[3])
{
    Ssmd__TapHeader *h;
    char id[PROTO_ID_MAX + 1] = {0};
    int rc = proto_tap_header_decode(&w->arena, zmq_msg_data(&parts[1]), zmq_msg_size(&parts[1]), &h);
    if (rc != PROTO_OK || h->id.len > PROTO_ID_MAX) {
        ctl_say("%s: %s", w->tap, proto_status_text(rc));
        return EX_PROTOCOL;
    }
    if (h->id.len > 0)
        memcpy(id, h->id.data, h->id.len);
    if (h->kind == SSMD__TAP_HEADER__KIND__EVENT)
        rc = print_event(w, h->epoch, h->index, id, h->id.len, &parts[2]);
    else
        rc = print_data(w, h, id, &parts[2]);
    if (rc == EX_PROTOCOL)
        ctl_say("%s: a message of the tap that cannot be understood", w->tap);
    return rc;
}

static int watch(struct watching *w)
{
    zmq_msg_t parts[3];
    uint64_t seen = 0;
    int code = 0;
    while (code == 0 && !ctl_is_interrupted && (w->count == 0 || seen < w->count)) {
        int rc = receive(w, parts);
        if (rc == 1)
            code = print_message(w, parts);
        seen += rc == 1;
        for (int i = 0; i < 3; i++)
            zmq_msg_close(&parts[i]);
        if (rc != 0)
            continue;
        zmq_pollitem_t item = {.socket = w->socket, .events = ZMQ_POLLIN};
        if (zmq_poll(&item, 1, WAIT_MS) < 0 && errno != EINTR)
            code = EX_UNAVAILABLE;
    }
    return code;
}

int ctl_watch(struct ctl *ctl, int argc, char **argv)
{
    struct watching w = {.ctl = ctl};
    struct ssmc_daemon_info daemon;
    int rc = parse(ctl, argc, argv, &w);
    if (rc != 0)
        return rc;
    if (!w.tap) {
        if ((rc = ctl_connect(ctl)) != 0)
            return rc;
        ssmc_daemon_info(ctl->c, &daemon);
        w.tap = daemon.tap;
    }
    if (!*w.tap) {
        ctl_say("the daemon has no tap: its configuration says tap = off");
        return EX_UNAVAILABLE;
    }
    proto_arena_init(&w.arena);
    if (subscribe(&w) == 0) {
        rc = watch(&w);
    } else {
        ctl_say("%s: %s", w.tap, zmq_strerror(errno));
        rc = EX_UNAVAILABLE;
    }
    if (w.socket)
        zmq_close(w.socket);
    if (w.zmq)
        zmq_ctx_term(w.zmq);
    proto_arena_fini(&w.arena);
    return rc;
}
