/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line of ssmrun, by argp.
 */
#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clients/run/options.h"

#define CHUNK_MAX  (1l << 24)
#define CHUNK_STEP 256
#define CHUNK_SCAN 4096 /* and of conv: whole wide tiles */

enum option_key {
    KEY_MODEL = 'm',
    KEY_INPUT = 'i',
    KEY_OUTPUT = 'o',
    KEY_MODE = 256,
    KEY_CHUNK,
    KEY_BACKEND,
    KEY_DEVICE,
    KEY_THREADS,
    KEY_FORMAT,
    KEY_OUTPUT_FORMAT,
    KEY_RATE,
    KEY_CHANNELS,
};

const char *const run_modes[] = {[SSM_STEP] = "step", [SSM_SCAN] = "scan", [SSM_CONV] = "conv"};

const char *argp_program_version = "ssmrun " SSMD_VERSION;

static const struct argp_option OPTIONS[] = {
    {"model", KEY_MODEL, "DIR|NAME", 0, "a model directory, or a built-in model such as forecast:order=32", 1},
    {"input", KEY_INPUT, "FILE", 0, ".f32, .i32 (tokens), .s16, .s32, .f64, a sound file, or - (raw, standard input)",
     1},
    {"output", KEY_OUTPUT, "FILE", 0, ".f32, .wav, .flac and others by suffix, or - (raw, standard output)", 1},
    {"mode", KEY_MODE, "step|scan|conv", 0, "frame by frame (the default), in blocks, or by convolution", 2},
    {"chunk", KEY_CHUNK, "FRAMES", 0,
     "frames per advance; shows in the speed only, and in conv in the last bits (256; 4096 in scan and conv, rounded "
     "up to a multiple of 16, on a device of 64)",
     2},
    {"backend", KEY_BACKEND, "cpu|cuda|auto", 0,
     "where to compute: the processor (the default), a device, or a device if one is there", 2},
    {"device", KEY_DEVICE, "N", 0, "number of the device (0)", 2},
    {"threads", KEY_THREADS, "N", 0, "threads of the engine (1)", 2},
    {"format", KEY_FORMAT, "f32|f64|s16|s32|i32", 0, "the input is raw, of this format, whatever its name", 3},
    {"rate", KEY_RATE, "HZ", 0, "the rate of raw input, when it is not the model's", 3},
    {"channels", KEY_CHANNELS, "N", 0, "the channels of raw input, for built-in models", 3},
    {"output-format", KEY_OUTPUT_FORMAT, "f32|f64|s16|s32", 0, "write raw, of this format, whatever its name", 3},
    {0},
};

static long whole(struct argp_state *state, const char *text, const char *option, long min, long max)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < min || value > max)
        argp_error(state, "--%s must be a whole number from %ld to %ld, not '%s'", option, min, max, text);
    return value;
}

static double rate(struct argp_state *state, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value > 0 && value <= 1e9))
        argp_error(state, "--rate must be a number of Hz, not '%s'", text);
    return value;
}

static enum signal_format format(struct argp_state *state, const char *text)
{
    enum signal_format found = signal_format_find(text);
    if (found == SIGNAL_AUTO)
        argp_error(state, "a format is one of f32 f64 s16 s32 i32, not '%s'", text);
    return found;
}

static enum ssm_view mode(struct argp_state *state, const char *text)
{
    for (int view = SSM_STEP; view <= SSM_CONV; view++)
        if (strcmp(text, run_modes[view]) == 0)
            return (enum ssm_view)view;
    argp_error(state, "--mode is step, scan or conv, not '%s'", text);
    return SSM_STEP;
}

static void check_complete(struct argp_state *state, const struct run_options *o)
{
    if (!o->model || !o->input || !o->output)
        argp_error(state, "--%s is missing", !o->model ? "model" : !o->input ? "input" : "output");
    if (o->has_device && (!o->engine.backend || strcmp(o->engine.backend, "cpu") == 0))
        argp_error(state, "--device is for --backend cuda or auto");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct run_options *o = state->input;
    switch (key) {
    case KEY_MODEL:
        o->model = arg;
        break;
    case KEY_INPUT:
        o->input = arg;
        break;
    case KEY_OUTPUT:
        o->output = arg;
        break;
    case KEY_MODE:
        o->view = mode(state, arg);
        break;
    case KEY_CHUNK:
        o->chunk = (uint32_t)whole(state, arg, "chunk", 1, CHUNK_MAX);
        break;
    case KEY_BACKEND:
        o->engine.backend = arg;
        break;
    case KEY_DEVICE:
        o->engine.device = (uint32_t)whole(state, arg, "device", 0, 255);
        o->has_device = true;
        break;
    case KEY_THREADS:
        o->engine.threads = (uint32_t)whole(state, arg, "threads", 1, 1024);
        break;
    case KEY_FORMAT:
        o->raw_in.format = format(state, arg);
        break;
    case KEY_OUTPUT_FORMAT:
        o->format_out = format(state, arg);
        break;
    case KEY_RATE:
        o->raw_in.rate = rate(state, arg);
        break;
    case KEY_CHANNELS:
        o->raw_in.channels = (uint32_t)whole(state, arg, "channels", 1, 1l << 20);
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option", arg);
        break;
    case ARGP_KEY_END:
        check_complete(state, o);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void run_options_load(struct run_options *out, int argc, char **argv)
{
    static const struct argp ARGP = {
        .options = OPTIONS,
        .parser = parse,
        .doc = "Run a state-space model over a file, without a daemon.\v"
               "Prints hop, lookahead, bytes of state per stream and the real-time factor. "
               "Chunk boundaries never show in the output, but for the last bits in conv.",
    };
    memset(out, 0, sizeof(*out));
    out->view = SSM_STEP;
    argp_parse(&ARGP, argc, argv, 0, NULL, out);
    if (!out->chunk)
        out->chunk = out->view == SSM_STEP ? CHUNK_STEP : CHUNK_SCAN;
}
