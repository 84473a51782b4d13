/* SPDX-License-Identifier: Apache-2.0
 *
 * `ssmctl generate`: a prompt of tokens in, drawn tokens out, one line each, as they come. Text is not its matter: that
 * needs the model's tokenizer, which the Python client reads.
 */
#include "clients/c/ctl/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "clients/audio/signal.h"
#include "clients/c/ctl/attach.h"

enum { WAIT_MS = 100, LIST_MAX = 65536 };
enum { STOP = 256, TEMPERATURE, TOP_K, TOP_P, MIN_P, PENALTY, WINDOW, SEED, LOGPROBS, KEEP, RESUME, TAKE_OVER };

struct generating {
    struct ctl *ctl;
    const char *model, *id, *prompt_word;
    int32_t *prompt, *stop;
    struct ssmc_generate_options options;
    bool has_logprobs, keeps_open, wants_resume, wants_take_over;
    struct ssmc_stream *stream;
    bool is_cancelled;
    char own_id[32];
};

/* ---- lists of tokens --------------------------------------------------------------------------------------------- */

/* "1,2,3" into a new array; false when it is none. */
static bool parse_list(const char *word, int32_t **out, size_t *n)
{
    char *copy = strdup(word), *rest = copy, *item;
    bool is_good = copy != NULL && *word;
    *out = calloc(strlen(word) / 2 + 1, sizeof **out);
    *n = 0;
    while (is_good && *out && (item = strsep(&rest, ",")) != NULL) {
        uint64_t token;
        is_good = *n < LIST_MAX && ctl_parse_u64(item, 0, INT32_MAX, &token);
        if (is_good)
            (*out)[(*n)++] = (int32_t)token;
    }
    free(copy);
    return is_good && *out;
}

/* A whole file of int32; 0, or an exit code. */
static int read_tokens(const char *path, int32_t **out, size_t *n)
{
    const struct signal_spec spec = {.format = SIGNAL_TOKENS, .channels = 1};
    struct signal_reader *reader;
    struct signal_error err;
    size_t got = 1, capacity = 0;
    int rc = signal_reader_open(&reader, path, &spec, &err);
    if (rc != 0) {
        ctl_say("%s", err.text);
        return rc == SIGNAL_NOINPUT ? EX_NOINPUT : EX_DATAERR;
    }
    *n = 0;
    while (rc == 0 && got > 0) {
        if (*n == capacity) {
            capacity = capacity ? 2 * capacity : 4096;
            int32_t *larger = realloc(*out, capacity * sizeof *larger);
            if (!larger) {
                rc = signal_error_set(&err, SIGNAL_NOMEM, "out of memory");
                break;
            }
            *out = larger;
        }
        rc = signal_reader_read(reader, *out + *n, capacity - *n, &got, &err);
        *n += rc == 0 ? got : 0;
    }
    signal_reader_close(reader);
    if (rc == 0)
        return 0;
    ctl_say("%s", err.text);
    return rc == SIGNAL_NOMEM ? EX_OSERR : EX_DATAERR;
}

/* A list where the word is only digits and commas, otherwise a file. */
static int take_prompt(struct generating *g)
{
    struct ssmc_generate_options *o = &g->options;
    int rc = 0;
    if (g->prompt_word && strspn(g->prompt_word, "0123456789,") < strlen(g->prompt_word))
        rc = read_tokens(g->prompt_word, &g->prompt, &o->prompt_n);
    else if (g->prompt_word && !parse_list(g->prompt_word, &g->prompt, &o->prompt_n))
        return ctl_usage(g->ctl, "--prompt-tokens is a list such as 1,2,3 or a file of int32");
    o->prompt = g->prompt;
    return rc;
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

static int take_number(struct generating *g, int option, const char *word)
{
    struct ssmc_sampling *s = &g->options.sampling;
    const struct {
        int option;
        const char *name;
        float *value;
        double min, max;
    } reals[] = {{TEMPERATURE, "temperature", &s->temperature, 0, 1e6},
                 {TOP_P, "top-p", &s->top_p, 1e-30, 1},
                 {MIN_P, "min-p", &s->min_p, 0, 1},
                 {PENALTY, "repetition-penalty", &s->repetition_penalty, 1e-6, 1e6}};
    uint64_t n;
    double value;
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        if (reals[i].option != option)
            continue;
        if (!ctl_parse_double(word, reals[i].min, reals[i].max, &value))
            return ctl_usage(g->ctl, "--%s is a number from %g to %g", reals[i].name, reals[i].min, reals[i].max);
        *reals[i].value = (float)value;
        return 0;
    }
    if (!ctl_parse_u64(word, option == 'n', option == SEED ? UINT64_MAX : option == WINDOW ? 1024 : UINT32_MAX, &n))
        return ctl_usage(g->ctl, "--%s is a whole number in its range",
                         option == 'n'      ? "maximum (at least 1)"
                         : option == SEED   ? "seed"
                         : option == WINDOW ? "repetition-window (at most 1024)"
                                            : "top-k");
    if (option == 'n')
        g->options.maximum = n;
    else if (option == SEED)
        s->seed = n;
    else if (option == WINDOW)
        s->repetition_window = (uint32_t)n;
    else
        s->top_k = (uint32_t)n;
    return 0;
}

static int take_option(struct generating *g, int option, char **argv)
{
    switch (option) {
    case 'm':
        g->model = optarg;
        return 0;
    case 's':
        g->id = optarg;
        return 0;
    case 'p':
        g->prompt_word = optarg;
        return 0;
    case STOP:
        free(g->stop);
        if (!parse_list(optarg, &g->stop, &g->options.stop_n))
            return ctl_usage(g->ctl, "--stop is a list of tokens such as 1,2,3");
        g->options.stop = g->stop;
        return 0;
    case LOGPROBS:
        g->has_logprobs = true;
        return 0;
    case KEEP:
        g->keeps_open = true;
        return 0;
    case RESUME:
        g->wants_resume = true;
        return 0;
    case TAKE_OVER:
        g->wants_take_over = true;
        return 0;
    case '?':
        return ctl_usage(g->ctl, "unknown option, or a value is missing: %s", argv[optind - 1]);
    default:
        return take_number(g, option, optarg);
    }
}

static int parse(struct generating *g, int argc, char **argv)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},
        {"stream", required_argument, NULL, 's'},
        {"prompt-tokens", required_argument, NULL, 'p'},
        {"maximum", required_argument, NULL, 'n'},
        {"stop", required_argument, NULL, STOP},
        {"temperature", required_argument, NULL, TEMPERATURE},
        {"top-k", required_argument, NULL, TOP_K},
        {"top-p", required_argument, NULL, TOP_P},
        {"min-p", required_argument, NULL, MIN_P},
        {"repetition-penalty", required_argument, NULL, PENALTY},
        {"repetition-window", required_argument, NULL, WINDOW},
        {"seed", required_argument, NULL, SEED},
        {"logprobs", no_argument, NULL, LOGPROBS},
        {"keep", no_argument, NULL, KEEP},
        {"resume", no_argument, NULL, RESUME},
        {"take-over", no_argument, NULL, TAKE_OVER},
        {NULL, 0, NULL, 0},
    };
    int o, rc;
    ssmc_sampling_init(&g->options.sampling);
    g->options.maximum = 256;
    while ((o = getopt_long(argc, argv, "m:s:p:n:", options, NULL)) != -1)
        if ((rc = take_option(g, o, argv)) != 0)
            return rc;
    if (optind < argc)
        return ctl_usage(g->ctl, "unexpected argument \"%s\"", argv[optind]);
    if (!g->model)
        return ctl_usage(g->ctl, "--model is missing: 'ssmctl models' lists them");
    if (!g->prompt_word && !g->wants_resume)
        return ctl_usage(g->ctl, "--prompt-tokens is missing: a list such as 1,2,3 or a file of int32");
    if (!g->id && (g->wants_resume || g->keeps_open))
        return ctl_usage(g->ctl, "--stream is missing: --keep and --resume need the stream's name");
    if (!g->id) {
        snprintf(g->own_id, sizeof g->own_id, "generate-%ld", (long)getpid());
        g->id = g->own_id;
    }
    return take_prompt(g);
}

/* ---- the run ----------------------------------------------------------------------------------------------------- */

static int print_token(const struct generating *g, const struct ssmc_token *token)
{
    if (g->ctl->is_json)
        return ctl_print_json(json_pack("{s:I,s:i,s:f}", "index", (json_int_t)token->index, "token", (int)token->token,
                                        "logprob", (double)token->logprob));
    if (g->has_logprobs)
        printf("%" PRIu64 " %" PRId32 " %.9g\n", token->index, token->token, (double)token->logprob);
    else
        printf("%" PRId32 "\n", token->token);
    return ctl_finish();
}

static int print_end(const struct generating *g, uint64_t tokens)
{
    static const char *const endings[] = {"stop", "maximum", "cancelled", "closed", "failed"};
    int ending = ssmc_ending(g->stream);
    const char *word = ending >= 0 && ending < (int)(sizeof endings / sizeof *endings) ? endings[ending] : "unknown";
    if (ending == SSMC_FAILED) {
        ctl_say("%s: the model's logits are not finite", g->id);
        return EX_DATAERR;
    }
    return g->ctl->is_json ? ctl_print_json(json_pack("{s:s,s:I}", "ending", word, "tokens", (json_int_t)tokens)) : 0;
}

/* Prints tokens until the end; after Ctrl-C those that were on their way. */
static int take_tokens(struct generating *g)
{
    struct ssmc_token token;
    uint64_t n = 0;
    for (;;) {
        int rc = ssmc_next_token(g->stream, &token);
        if (rc == 1) {
            n++;
            if ((rc = print_token(g, &token)) != 0)
                return rc;
            continue;
        }
        if (rc == SSMC_ENDED)
            return print_end(g, n);
        if (rc == 0 && ctl_is_interrupted && !g->is_cancelled) {
            g->is_cancelled = true;
            rc = ssmc_cancel(g->stream, g->ctl->timeout_ms);
        } else if (rc == 0) {
            rc = ssmc_poll(g->ctl->c, WAIT_MS);
        }
        if (rc < 0 && rc != SSMC_INTERRUPTED && rc != SSMC_PROTOCOL)
            return ctl_fail(g->ctl, rc, g->id);
    }
}

static int open_stream(struct generating *g)
{
    struct ssmc_open_options open = {
        .id = g->id,
        .model = g->model,
        .mode = g->wants_resume ? SSMC_RESUME : SSMC_CREATE,
        .take_over = g->wants_take_over,
        .results = 1,
        .results_from = SSMC_OLDEST,
        .generates = 1,
    };
    int rc = attach_open(g->ctl, &g->stream, &open);
    return rc == 0 ? 0 : ctl_fail(g->ctl, rc, g->id);
}

int ctl_generate(struct ctl *ctl, int argc, char **argv)
{
    struct generating g = {.ctl = ctl};
    int rc = parse(&g, argc, argv);
    if (rc == 0 && (rc = ctl_connect(ctl)) == 0 && (rc = open_stream(&g)) == 0) {
        int status = ssmc_generate(g.stream, &g.options, ctl->timeout_ms);
        rc = status == 0 ? take_tokens(&g) : ctl_fail(ctl, status, g.id);
        if (!g.keeps_open && ssmc_close(g.stream, ctl->timeout_ms) != 0 && rc == 0)
            ctl_say("%s: left open: %s", g.id, ssmc_error_text(ctl->c));
        if (rc == 0 && g.is_cancelled)
            rc = EXIT_INTERRUPTED;
    }
    ssmc_stream_free(g.stream);
    free(g.prompt);
    free(g.stop);
    return rc;
}
