/* SPDX-License-Identifier: Apache-2.0
 *
 * See options.h.
 */
#include "bench/load/options.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_SPEED = 256,
    KEY_CHUNK_MS,
    KEY_GATHER,
    KEY_JITTER,
    KEY_BACKFILL,
    KEY_BACKFILL_CHUNK,
    KEY_BEHIND,
    KEY_DISCONNECT,
    KEY_SLOW,
    KEY_DEADLINE,
    KEY_JSON,
    KEY_NAME,
    KEY_SCALES
};

static const struct argp_option keys[] = {
    {"endpoint", 'e', "ENDPOINT", 0, "the daemon's; else $SSMD_ENDPOINT", 0},
    {"streams", 'n', "N", 0, "streams of all connections together (100)", 0},
    {"connections", 'c', "N", 0, "connections, as many clients would have (1)", 0},
    {"threads", 't', "N", 0, "threads of the generator; each has its share of the connections (1)", 0},
    {"model", 'm', "SPEC[:SHARE]", 0,
     "a model's name or template, and how many streams take it against the others' shares (1); may be repeated", 0},
    {"scales", KEY_SCALES, "FACTOR", 0,
     "the model named last multiplies by FACTOR: every value of its results is checked. Of other models' results "
     "order, number and finiteness are",
     0},
    {"rate", 'r', "HZ", 0, "the streams' rate; else the model's", 0},
    {"chunk", 'k', "FRAMES", 0, "frames of a chunk (160)", 0},
    {"chunk-ms", KEY_CHUNK_MS, "MS", 0, "the same as a time, for each stream at its own rate", 0},
    {"speed", KEY_SPEED, "X", 0, "times real time (1); 0: as fast as the windows allow", 0},
    {"gather", KEY_GATHER, "MS", 0,
     "a connection sends at most every so many milliseconds, what is due by then in one message (0)", 0},
    {"jitter", KEY_JITTER, "MS", 0, "each send is late by a random time up to this (0)", 0},
    {"backfill", KEY_BACKFILL, "SHARE", 0, "so large a part of the streams sends backfill as fast as it goes (0)", 0},
    {"backfill-chunk", KEY_BACKFILL_CHUNK, "FRAMES", 0, "frames of their chunks (4096)", 0},
    {"behind", KEY_BEHIND, "S", 0, "so many seconds of signal they have to send; 0: they go on to the end (0)", 0},
    {"disconnect", KEY_DISCONNECT, "PER_SECOND", 0,
     "connections that break without a word, and come back and send again what the daemon has not (0)", 0},
    {"slow", KEY_SLOW, "N", 0, "connections that again and again read nothing for two seconds of four (0)", 0},
    {"duration", 'd', "S", 0, "seconds of sending (10)", 0},
    {"deadline", KEY_DEADLINE, "MS", 0, "a later result is a miss; else one chunk's duration", 0},
    {"json", KEY_JSON, NULL, 0, "one line of JSON, as the benchmarks print it", 0},
    {"name", KEY_NAME, "NAME", 0, "the benchmark's name in it (ssm-load)", 0},
    {0},
};

static double number_read(struct argp_state *state, const char *what, const char *text, double least, double most)
{
    char *end;
    double x;

    errno = 0;
    x = strtod(text, &end);
    if (errno || end == text || *end || !(x >= least && x <= most))
        argp_error(state, "%s: `%s` is not a number from %g to %g", what, text, least, most);
    return x;
}

static void model_read(struct argp_state *state, struct load_options *o, char *text)
{
    struct load_model *model = &o->model[o->models];
    char *colon = strrchr(text, ':'), *end = text;
    double share = colon ? strtod(colon + 1, &end) : 0;

    if (o->models == LOAD_MODELS_MAX)
        argp_error(state, "--model: at most %d models", LOAD_MODELS_MAX);
    *model = (struct load_model){.spec = text, .share = 1, .factor = NAN};
    if (colon && colon[1] && *end == '\0') { /* else it belongs to a template's parameters */
        *colon = '\0';
        model->share = share;
    }
    if (!(model->share > 0 && model->share < 1e9))
        argp_error(state, "--model %s: a share is a number above 0", text);
    o->models++;
}

static error_t key_take(int key, char *arg, struct argp_state *state)
{
    struct load_options *o = state->input;

#define NUMBER(name, least, most) number_read(state, "--" name, arg, least, most)
    switch (key) {
    case 'e':
        o->endpoint = arg;
        break;
    case 'n':
        o->streams = (uint32_t)NUMBER("streams", 1, 1e6);
        break;
    case 'c':
        o->connections = (uint32_t)NUMBER("connections", 1, 1e5);
        break;
    case 't':
        o->threads = (uint32_t)NUMBER("threads", 1, 64);
        break;
    case 'm':
        model_read(state, o, arg);
        break;
    case KEY_SCALES:
        if (o->models == 0)
            argp_error(state, "--scales belongs behind a --model");
        else
            o->model[o->models - 1].factor = NUMBER("scales", -1e6, 1e6);
        break;
    case 'r':
        o->rate = NUMBER("rate", 1e-6, 1e9);
        break;
    case 'k':
        o->chunk = (uint32_t)NUMBER("chunk", 1, 65536);
        break;
    case KEY_CHUNK_MS:
        o->chunk_ms = NUMBER("chunk-ms", 1e-3, 1e7);
        break;
    case KEY_SPEED:
        o->speed = NUMBER("speed", 0, 1e6);
        break;
    case KEY_GATHER:
        o->gather_ms = NUMBER("gather", 0, 1e6);
        break;
    case KEY_JITTER:
        o->jitter_ms = NUMBER("jitter", 0, 1e6);
        break;
    case KEY_BACKFILL:
        o->backfill = NUMBER("backfill", 0, 1);
        break;
    case KEY_BACKFILL_CHUNK:
        o->backfill_chunk = (uint32_t)NUMBER("backfill-chunk", 1, 65536);
        break;
    case KEY_BEHIND:
        o->behind_s = NUMBER("behind", 0, 1e9);
        break;
    case KEY_DISCONNECT:
        o->disconnect = NUMBER("disconnect", 0, 1e4);
        break;
    case KEY_SLOW:
        o->slow = (uint32_t)NUMBER("slow", 0, 1e5);
        break;
    case 'd':
        o->duration_s = NUMBER("duration", 0.01, 1e7);
        break;
    case KEY_DEADLINE:
        o->deadline_ms = NUMBER("deadline", 1e-3, 1e7);
        break;
    case KEY_JSON:
        o->json = true;
        break;
    case KEY_NAME:
        o->name = arg;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "`%s` is not an option", arg);
        break;
    case ARGP_KEY_END:
        if (o->models == 0)
            argp_error(state, "--model says what the streams go through");
        if (!o->endpoint)
            argp_error(state, "--endpoint or SSMD_ENDPOINT says where the daemon is");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
#undef NUMBER
}

void load_options_read(struct load_options *out, int argc, char **argv)
{
    static const struct argp argp = {
        .options = keys,
        .parser = key_take,
        .doc =
            "Streams, paced or as fast as they go, to an ssmd daemon; every result is awaited and checked.\v"
            "Exits with 1 when a result was lost, came twice or was wrong. With SSMD_PID set it tells what processor "
            "time the daemon took. A result's latency is the time from the send of the chunk that completes it until "
            "it is here; that of a chunk sent again after a broken connection is told apart, as is how late the "
            "generator itself was.",
    };

    *out = (struct load_options){
        .endpoint = getenv("SSMD_ENDPOINT"),
        .name = "ssm-load",
        .streams = 100,
        .connections = 1,
        .threads = 1,
        .chunk = 160,
        .speed = 1,
        .backfill_chunk = 4096,
        .duration_s = 10,
    };
    argp_parse(&argp, argc, argv, 0, NULL, out);
    if (out->connections > out->streams)
        out->connections = out->streams;
    if (out->threads > out->connections)
        out->threads = out->connections;
}
