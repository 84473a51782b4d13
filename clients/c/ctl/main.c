/* SPDX-License-Identifier: Apache-2.0
 *
 * ssmctl: the command line of ssmd. Global options, the table of commands and their help; what a command does is in its
 * own file.
 */
#include "clients/c/ctl/ctl.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

volatile sig_atomic_t ctl_is_interrupted;

static const char HELP[] =
    "Usage: ssmctl [OPTION...] COMMAND [ARGUMENT...]\n"
    "Streams signals through the models of an ssmd daemon, and asks it about them.\n"
    "\n"
    "Commands (ssmctl COMMAND --help tells more):\n"
    "%s"
    "\n"
    "Options, before or after the command:\n"
    "  -e, --endpoint=ENDPOINT  where the daemon is (ipc:///path or tcp://host:port);\n"
    "                           default: %s\n"
    "  -j, --json               print what is found as JSON\n"
    "  -t, --timeout=SECONDS    wait so long for an answer (default 5)\n"
    "  -V, --version            print the version\n"
    "  -h, --help               print this\n"
    "\n"
    "The default endpoint is $SSMD_ENDPOINT, or the user's own daemon in $XDG_RUNTIME_DIR/ssmd,\n"
    "or the system's in /run/ssmd.\n"
    "Exit codes are those of sysexits.h: 64 usage, 65 data, 66 no input, 69 no daemon or refused,\n"
    "73 cannot create, 74 input or output, 76 protocol, 77 not permitted; 130 after Ctrl-C.\n";

static const struct command {
    const char *name, *arguments, *summary;
    ctl_command_fn *run;
    const char *help;
} commands[] = {
    {"stream", "FILE|- --model M --stream ID --out FILE", "send a recording, write the results", ctl_stream,
     "Sends a recording (or standard input: -) through a model, and writes every result.\n"
     "The output is complete or the command fails. A broken connection is taken up again\n"
     "at the index that the daemon names.\n"
     "\n"
     "  -m, --model=M          model directory of the daemon, or a template such as forecast or\n"
     "                         forecast:order=32,horizon=0.05\n"
     "  -s, --stream=ID        name of the stream, 1 to 64 bytes\n"
     "  -o, --out=FILE         results: .wav .flac .aiff ..., raw .f32 .f64 .s16 .s32; - is standard output (f32)\n"
     "      --realtime         at the recording's own pace; otherwise as fast as the daemon goes\n"
     "      --chunk-ms=N       length of one chunk in milliseconds (default 10)\n"
     "      --format=F         raw input is f32 f64 s16 s32, or i32 for tokens (default: by suffix; f32)\n"
     "      --rate=HZ          rate of raw input (default: the model's)\n"
     "      --channels=N       channels of raw input (default 1)\n"
     "      --native-rate      do not resample: discretise the model anew for the recording's rate, which\n"
     "                         works for models of continuous-time layers, and fail when it cannot be\n"
     "      --backfill         this is old data: use the chunk form of the model (scan)\n"
     "      --resume           the id may exist: go on where the daemon stands. An output file that\n"
     "                         exists is continued. Standard input is taken as what comes next.\n"
     "      --take-over        also when another client is connected to it\n"
     "      --keep             leave the stream open at the end; otherwise it is closed, which brings\n"
     "                         out its tail\n"
     "      --give-up=SECONDS  fail when the daemon is away for so long (default 60)\n"
     "      --class=NAME       when results are due: a class of the daemon's configuration\n"
     "      --top-k=K          tokens: the K most probable instead of all logits; the output has two\n"
     "                         channels for each, the token as a number and its log-probability\n"
     "  -q, --quiet            no progress bar\n"
     "\n"
     "A recording whose rate is not the model's is resampled, and that is said. When the daemon\n"
     "was restarted and lost the state (durability none), a file is sent again from its beginning\n"
     "and the output rewritten; standard input cannot be, so the command fails.\n"
     "Ctrl-C leaves the stream open for --resume.\n"
     "At the end: samples; latency, the algorithm's own (how far the model looks ahead) and that of\n"
     "processing (a chunk, from sending it to its result: p50, p99); and the real-time factor\n"
     "(seconds of signal for a second of time).\n"},
    {"publish", "FILE|- --stream ID", "send a recording, and hear nothing", ctl_publish,
     "Publishes a recording (or standard input: -) as one run of a publisher. Whether and how the id\n"
     "becomes a stream is the daemon's configuration (its lines `publish`); what is lost on the way is a\n"
     "gap there. Results: ssmctl read, ssmctl watch.\n"
     "\n"
     "  -s, --stream=ID    name of the stream, 1 to 64 bytes\n"
     "      --to=ENDPOINT  where the daemon takes what is published (default: $SSMD_PUBLISH, or\n"
     "                     ssmd-publish.sock beside the daemon's socket)\n"
     "      --first=N      index of the first frame (default 0)\n"
     "      --chunk-ms=N   length of one chunk in milliseconds (default 10)\n"
     "      --format=F     raw input is f32 f64 s16 s32, or i32 for tokens (default: by suffix; f32)\n"
     "      --rate=HZ      rate of raw input\n"
     "      --channels=N   channels of raw input (default 1)\n"
     "      --backfill     this is old data: use the chunk form of the model (scan)\n"
     "      --fast         as fast as it can be read; otherwise at the recording's own pace\n"},
    {"generate", "--model M --prompt-tokens LIST|FILE", "let a language model go on, token by token", ctl_generate,
     "Gives the prompt to a model of tokens, and prints the tokens that the daemon draws, as they come.\n"
     "The same seed draws the same tokens.\n"
     "\n"
     "  -m, --model=M          model directory of the daemon\n"
     "  -s, --stream=ID        name of the stream (default: made from the process id)\n"
     "  -p, --prompt-tokens=P  tokens (1,2,3), or a file of int32 (.i32)\n"
     "  -n, --maximum=N        tokens to draw (default 256)\n"
     "      --stop=LIST        end when one of these is drawn; it is printed too\n"
     "      --temperature=T    default 1; 0: always the most probable\n"
     "      --top-k=K --top-p=P --min-p=P\n"
     "                         draw from the K most probable, from the fewest that together reach P, from those\n"
     "                         of at least P times the most probable's (default: all)\n"
     "      --repetition-penalty=R --repetition-window=N\n"
     "                         divide the logits of the last N tokens by R (default: 1, 64)\n"
     "      --seed=N           default 0\n"
     "      --logprobs         index, token and its log-probability in each line\n"
     "      --keep             leave the stream open; --resume goes on with it\n"
     "      --resume           go on with the stream of an earlier run; without --prompt-tokens from its last token\n"
     "      --take-over        also when another client is connected to it\n"
     "\n"
     "Options apply in the order penalty, temperature, top-k, top-p, min-p. Ctrl-C cancels.\n"
     "--json prints one object for each token, and one for the end.\n"},
    {"read", "ID|PREFIX [--from N] [--prefix]", "results of streams that others write, reliably", ctl_read,
     "Prints the results of a stream, or of every stream whose id begins with PREFIX. A reader that\n"
     "is too slow is told what it lost (on standard error) and never stops the stream.\n"
     "\n"
     "      --from=N       begin at output index N (default: the oldest kept; with --prefix the next)\n"
     "  -p, --prefix       the argument is a prefix: also streams that are opened later\n"
     "  -n, --count=N      stop after N results; 0 when what is there now was read\n"
     "  -o, --out=FILE     write one stream's results to a sound file or raw file; it then must not lose any\n"
     "      --csv          lines of id,index,value,...; default: id index value ...\n"
     "\n"
     "Ends when the stream is closed, or at Ctrl-C. --json prints one object for each chunk.\n"},
    {"watch", "[PREFIX]", "what the tap publishes (lossy)", ctl_watch,
     "Prints results and events of every stream whose id begins with PREFIX, as the tap publishes\n"
     "them. Lossy: who watches too slowly misses some; use read to miss none.\n"
     "\n"
     "  -x, --exact        the argument is a whole id\n"
     "      --csv          lines of id,epoch,index,value,...\n"
     "      --raw          samples only, float32 little-endian\n"
     "  -n, --count=N      stop after N messages\n"
     "      --tap=ENDPOINT where the tap is (default: as the daemon says)\n"
     "\n"
     "--json prints one object for each message.\n"},
    {"open", "ID --model M", "make a stream, or see that it is there", ctl_open,
     "Opens a stream and leaves it at the daemon.\n"
     "\n"
     "  -m, --model=M      model directory of the daemon, or a template\n"
     "      --rate=HZ      rate of the stream (default: the model's)\n"
     "      --native-rate  when that is not the model's, discretise the model anew for it\n"
     "      --class=NAME   when results are due: a class of the daemon's configuration\n"
     "      --channels=N   channels (default: the model's)\n"
     "      --create       fail when the id exists\n"
     "      --resume       fail when it does not\n"
     "      --take-over    take it from the client that holds it\n"
     "      --history=I:D  keep a checkpoint every I frames, so that the last D can be taken back\n"},
    {"close", "ID", "end a stream", ctl_close,
     "Ends a stream: its tail is computed, and it is gone when its results were received.\n"
     "Results that nobody received are thrown away.\n"
     "\n"
     "Closing needs the stream's handle, so the stream is opened first. One that a connected client\n"
     "writes is left alone unless --take-over is given.\n"
     "\n"
     "      --take-over    take it from the client that holds it\n"},
    {"reset", "ID", "start a stream again at index 0", ctl_reset,
     "Clears the state of a stream: it goes on at index 0, in a new epoch, with the newest version of\n"
     "its model if that has the same shapes.\n"
     "\n"
     "Resetting needs the stream's handle, so the stream is opened first. One that a connected client\n"
     "writes is left alone unless --take-over is given.\n"
     "\n"
     "      --take-over    take it from the client that holds it\n"},
    {"move", "ID", "take a stream to the newest version of its model", ctl_move,
     "Waits until every result has been sent, then begins again with the newest version of the model:\n"
     "a fresh state at index 0, in a new epoch. Without a newer version it goes on as it is, though in\n"
     "another epoch when it was taken over for this, as close and reset do with what nobody holds.\n"
     "\n"
     "      --take-over    take it from the client that holds it\n"},
    {"reload", "[MODEL]", "read model directories again", ctl_reload,
     "Reads one directory of models again, or all that are in memory. What differs becomes the next\n"
     "version: new streams get it, those that are there keep theirs until reset, move or close.\n"
     "Fails when a directory does not load; its version in memory stays.\n"},
    {"snapshot", "ID FILE", "a stream's state into a file", ctl_snapshot,
     "Writes the image of a stream: its state after every frame that the daemon has accepted, and the\n"
     "results that its writer has not received. The stream goes on, whoever writes it.\n"},
    {"restore", "FILE [ID]", "a file's state into a new stream", ctl_restore,
     "Makes a stream of an image, in this daemon or another one that has the same model, under the id\n"
     "given or the image's own. Go on with: ssmctl stream --resume.\n"},
    {"fork", "ID NEW", "a new stream from the state of another", ctl_fork,
     "Makes the stream NEW, which begins where ID is now: same model, same state, same index. One\n"
     "prompt can be forked as often as it has continuations.\n"},
    {"rollback", "ID INDEX", "take frames of a stream back", ctl_rollback,
     "Takes a stream back: frames from INDEX on never were. The stream must have been opened with a\n"
     "history (ssmctl open --history) that reaches so far; ssmctl info says how far that is.\n"
     "\n"
     "      --take-over    take it from the client that holds it\n"},
    {"list", "[PREFIX]", "the streams there are", ctl_list,
     "Lists the streams whose ids begin with PREFIX, in byte order.\n"},
    {"info", "ID", "everything about one stream", ctl_info, "Prints what the daemon knows about a stream.\n"},
    {"stats", "", "the daemon's counters and latencies", ctl_stats,
     "Prints every counter of the daemon and of each model, and how long things take.\n\n  -v, --verbose      with "
     "what each counts\n"},
    {"models", "", "the models there are", ctl_models,
     "Lists model directories and templates, and what is known of those in use.\n"},
    {"ping", "", "is the daemon there, and how fast", ctl_ping,
     "Measures the time to the daemon and back.\n\n  -n, --count=N      so many times (default 5)\n"},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void print_help(void)
{
    char list[2048];
    size_t used = 0;
    list[0] = '\0';
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "  %-8s %s\n", commands[i].name, commands[i].summary);
    printf(HELP, list, ssmc_default_endpoint());
}

static void on_signal(int number)
{
    (void)number;
    ctl_is_interrupted = 1;
}

/* A call that waits returns at once, so that the command can stop in order; a second Ctrl-C ends it. */
static void catch_signals(void)
{
    struct sigaction stop = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

static const struct option global_options[] = {
    {"endpoint", required_argument, NULL, 'e'}, {"json", no_argument, NULL, 'j'},
    {"timeout", required_argument, NULL, 't'},  {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
};

/* Takes the global options out of argv wherever they stand before "--"; what they mean is the same for every
 * command. */
static int take_globals(struct ctl *ctl, int *argc, char **argv, bool *wants_help, bool *wants_version)
{
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        const struct option *o = global_options;
        const char *word = argv[i], *value = NULL;
        if (strcmp(word, "--") == 0) {
            while (i < *argc)
                argv[kept++] = argv[i++];
            break;
        }
        for (; o->name; o++) {
            size_t n = strlen(o->name);
            if (word[0] == '-' && word[1] == o->val && word[2] == '\0')
                break;
            if (strncmp(word, "--", 2) == 0 && strncmp(word + 2, o->name, n) == 0 &&
                (word[2 + n] == '\0' || (word[2 + n] == '=' && o->has_arg))) {
                value = word[2 + n] == '=' ? word + 3 + n : NULL;
                break;
            }
        }
        if (!o->name) {
            argv[kept++] = argv[i];
            continue;
        }
        if (o->has_arg && !value && !(value = ++i < *argc ? argv[i] : NULL))
            return ctl_usage(ctl, "--%s needs a value", o->name);
        double seconds;
        switch (o->val) {
        case 'e':
            ctl->endpoint = value;
            break;
        case 'j':
            ctl->is_json = true;
            break;
        case 't':
            if (!ctl_parse_double(value, 0.001, 86400, &seconds))
                return ctl_usage(ctl, "--timeout is a number of seconds, 0.001 to 86400");
            ctl->timeout_ms = (int)(seconds * 1000);
            break;
        case 'V':
            *wants_version = true;
            break;
        default:
            *wants_help = true;
            break;
        }
    }
    *argc = kept;
    argv[kept] = NULL;
    return 0;
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.timeout_ms = 5000};
    bool wants_help = false, wants_version = false;
    int rc = take_globals(&ctl, &argc, argv, &wants_help, &wants_version);
    if (rc != 0)
        return rc;
    if (wants_version) {
        printf("ssmctl %s\n", SSMD_VERSION);
        return ctl_finish();
    }
    if (argc < 2 && wants_help) {
        print_help();
        return ctl_finish();
    }
    if (argc < 2)
        return ctl_usage(&ctl, "a command is missing");
    const struct command *command = find_command(argv[1]);
    if (!command)
        return ctl_usage(&ctl, "there is no command \"%s\"", argv[1]);
    ctl.command = command->name;
    if (wants_help) {
        printf("Usage: ssmctl %s %s\n%s", command->name, command->arguments, command->help);
        return ctl_finish();
    }
    catch_signals();
    opterr = 0;
    optind = 1;
    rc = command->run(&ctl, argc - 1, argv + 1);
    ssmc_free(ctl.c);
    return rc;
}
