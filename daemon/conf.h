/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration of ssmd: one table, CONF_KEYS below, drives everything that knows a key: the members of struct
 * conf, the parser, its messages, --check-config, --print-config, --help, daemon/ssmd.conf and the man page
 * ssmd.conf(5). A new key is one row here, and its use where it is read.
 *
 * The file holds one `key = value` per line and comments from '#' to the end of the line; there are no sections.
 * Unknown keys, keys given twice (but for rules) and values out of range are errors that name file, line, key, value and range: a
 * daemon that starts has understood every line of its configuration.
 *
 * Threads: a struct conf is plain data without pointers; copy it freely. Functions are reentrant, but conf_load
 * (libinih keeps its settings in globals): one thread at a time.
 */
#ifndef DAEMON_CONF_H
#define DAEMON_CONF_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONF_TEXT_SIZE 256 /* of every text value, its NUL included */
#define CONF_LIST_MAX  8   /* entries of a list */
#define CONF_RULES_MAX 32  /* lines of one kind of rule */

/* What a line `publish` is (daemon/mapping.h). */
#define CONF_PUBLISH_FORM                                                                                              \
    "PREFIX model=SPEC [rate=HZ] [channels=N] [gap=reset|hold|zero|refuse] [max_fill=FRAMES] [source_ms=MS] "          \
    "[evict_ms=MS]"

struct conf_list {
    uint32_t n;
    char item[CONF_LIST_MAX][CONF_TEXT_SIZE];
};

/* Lines of one key, each taken apart by who uses it (daemon/conf_rule.h). */
struct conf_rules {
    uint32_t n;
    char item[CONF_RULES_MAX][CONF_TEXT_SIZE];
};

/* type     member's C type            written as
 * COUNT    uint32_t                   a decimal number
 * BYTES    uint64_t                   a decimal number, with K, M or G for powers of 1024
 * MILLIS   uint32_t                   a decimal number of milliseconds
 * MODE     uint32_t                   an octal number
 * SWITCH   uint32_t (0 or 1)          yes or no
 * CHOICE   char[CONF_TEXT_SIZE]       one of the words in `range`, separated by '|'
 * TEXT     char[CONF_TEXT_SIZE]       anything, also nothing
 * LIST     struct conf_list           entries separated by blanks or commas
 * RULES    struct conf_rules          SUBJECT key=value ...; the line may be given many times. `range` is its form
 *
 * Help and defaults are what the operator reads; RELOAD says whether SIGHUP applies a change (live) or a restart does.
 *
 *  member, type, range ("min..max" or "a|b|c", "" for free text), default, reload, help */
#define CONF_KEYS(X)                                                                                                   \
    X(endpoint, LIST, "", "auto", restart,                                                                             \
      "Where clients connect: ZeroMQ endpoints, ipc://PATH or tcp://ADDRESS:PORT. auto is ssmd.sock in "               \
      "$RUNTIME_DIRECTORY, else in $XDG_RUNTIME_DIR/ssmd, else in /run/ssmd.")                                         \
    X(tap, TEXT, "", "auto", restart,                                                                                  \
      "Where results are published for whoever watches (lossy), or off. auto is ssmd-tap.sock beside the first ipc "   \
      "endpoint, and off when there is none. For trusted peers, on ipc or loopback: a flood of subscriptions costs "   \
      "memory before any is looked at.")                                                                               \
    X(metrics, TEXT, "", "off", restart,                                                                               \
      "Where HTTP answers /metrics (Prometheus), /livez and /readyz: tcp://ADDRESS:PORT, or ipc://PATH of a unix "     \
      "socket. Or off.")                                                                                               \
    X(publish_endpoint, LIST, "", "auto", restart,                                                                     \
      "Where publishers connect, who send frames and hear nothing, or off. auto is ssmd-publish.sock beside the "      \
      "first ipc endpoint when there are `publish` lines at the start, else off.")                                     \
    X(publish, RULES, CONF_PUBLISH_FORM, "", live,                                                                     \
      "Published ids with this prefix (* is every id; the longest counts) become streams of this model. gap is "       \
      "what is done about frames that never came: reset the stream (the default), hold the last frame or put "         \
      "zeros (for at most max_fill frames, default 16384; else reset), or refuse what follows. Another publisher "     \
      "may go on when the first was silent for source_ms (default 3000). evict_ms: as the key, for these streams.")    \
    X(publish_memory, BYTES, "64K..256G", "16M", live,                                                                 \
      "Published data that waits for its model, its stream's reset or its image; beyond it is dropped and counted.")   \
    X(socket_mode, MODE, "0600..0777", "0660", restart, "Permissions of the sockets of ipc endpoints.")                \
    X(allow_unauthenticated, SWITCH, "yes|no", "no", restart,                                                          \
      "Allow tcp endpoints beyond loopback. Whoever reaches them may open, read and close every stream.")              \
    X(models, TEXT, "", "", live,                                                                                      \
      "Directory of model directories; the name of a model is the name of its directory. Empty: only the built-in "    \
      "templates.")                                                                                                    \
    X(threads, COUNT, "0..256", "0", restart,                                                                          \
      "Threads that advance models. 0: one for each processor that the daemon may use.")                               \
    X(io_threads, COUNT, "1..32", "1", restart,                                                                        \
      "Threads that move messages, each with connections of its own. Meant for machines with processors to spare and " \
      "clients that send many messages; on two processors more than 1 gains nothing.")                                 \
    X(backend, CHOICE, "auto|cpu|cuda", "auto", restart,                                                               \
      "Where models are advanced. cuda is devices, and without one the daemon does not start; auto is devices if "     \
      "there "                                                                                                         \
      "are any, with the processor for models that none of them takes, else the processor.")                           \
    X(device, LIST, "", "all", restart,                                                                                \
      "Numbers of the devices to use, or all (at most 8). Streams go to the one with the least to do, and stay "       \
      "there.")                                                                                                        \
    X(device_streams, COUNT, "0..1000000", "0", restart,                                                               \
      "States of one model that a device holds at a time; others wait in host memory for their next samples. 0: as "   \
      "many as there is room for.")                                                                                    \
    X(device_batch_frames, COUNT, "1..16777216", "1048576", restart,                                                   \
      "Most frames of one batch on a device, all streams together.")                                                   \
    X(cuda_library, TEXT, "", "", restart,                                                                             \
      "Path of the plugin for devices. Empty: $SSMD_CUDA_LIBRARY, else libssm-cuda.so where the loader looks.")        \
    X(isa, CHOICE, "auto|ref|avx2|avx512", "auto", restart,                                                            \
      "Instruction set of the kernels. auto is the best that the processor has; results are the same bits on one "     \
      "instruction set.")                                                                                              \
    X(max_streams, COUNT, "1..1000000", "20000", live, "Streams that may exist at a time; open is refused beyond.")    \
    X(max_connections, COUNT, "1..100000", "1000", live,                                                               \
      "Client connections known at a time; hello is refused beyond.")                                                  \
    X(connection_streams, COUNT, "1..1000000", "20000", live,                                                          \
      "Streams that one connection may write; open is refused beyond.")                                                \
    X(connection_readers, COUNT, "1..4000000", "20000", live,                                                          \
      "Streams that one connection may read; read is refused beyond.")                                                 \
    X(connection_messages, COUNT, "2..10000", "256", restart,                                                          \
      "Messages that ZeroMQ may hold for one connection, each way. With max_message the most that a connection "       \
      "costs.")                                                                                                        \
    X(max_message, BYTES, "4K..64M", "1M", restart, "Largest message taken from a client.")                            \
    X(chunk_frames, COUNT, "1..16777216", "65536", live, "Most frames of one chunk (one stream's part of a message).") \
    X(stream_window, BYTES, "4K..256M", "1M", live, "Samples that a client may have on the way for one stream.")       \
    X(connection_window, BYTES, "4K..1G", "16M", live, "The same for all streams of one connection together.")         \
    X(input_memory, BYTES, "1M..256G", "256M", live, "Samples queued for all streams together.")                       \
    X(result_ring, BYTES, "4K..256M", "256K", live,                                                                    \
      "Results kept for each stream until they are received. A full ring stops that stream's input and no other's.")   \
    X(ring_memory, BYTES, "1M..256G", "512M", live,                                                                    \
      "Results kept for all streams together; when it is used up rings keep no more than what was not received.")      \
    X(max_row_frames, COUNT, "1..65536", "4096", restart, "Most frames by which one stream advances in one batch.")    \
    X(batch_frames, COUNT, "1..4194304", "65536", restart, "Most frames of one batch, all streams together.")          \
    X(class, RULES, "NAME deadline=MS", "", restart,                                                                   \
      "A class of live streams whose results are due so many milliseconds after their input came. A stream is of the " \
      "class that its open names, or of its model's; without one a result is due one chunk's duration after it.")      \
    X(serve, RULES, "MODEL [priority=N] [queue=BYTES] [class=NAME]", "", live,                                         \
      "What counts for one model (of a template, the name before the colon): its share of the engine when there is "   \
      "not enough (1 to 1000, relative to the others'; 10 where nothing is said); the input that all its streams "     \
      "may have queued; its streams' class.")                                                                          \
    X(admission, CHOICE, "off|warn|refuse", "warn", live,                                                              \
      "What to do when an open would bring the engine's time that live streams need, by their rates and the measured " \
      "cost of their models, beyond admission_load.")                                                                  \
    X(admission_load, COUNT, "1..1000", "90", live, "Per cent of the engine's time that live streams may need.")       \
    X(state_memory, BYTES, "64K..4096G", "4G", live, "States of all streams together; streams are refused beyond.")    \
    X(image_memory, BYTES, "64K..256G", "256M", live,                                                                  \
      "Images of streams on their way to and from clients, all together; snapshot and restore are refused beyond.")    \
    X(max_images, COUNT, "1..100000", "256", live,                                                                     \
      "Such images at a time, and as many snapshots, forks and restores that wait for their turn.")                    \
    X(history_memory, BYTES, "0..256G", "256M", live,                                                                  \
      "Checkpoints and kept input of streams that were opened with a history, all together.")                          \
    X(tap_subscriptions, COUNT, "1..1000000", "10000", live,                                                           \
      "Prefixes that the tap may be subscribed to at a time, all watchers together; further ones are not taken.")      \
    X(model_memory, BYTES, "4K..1024G", "16G", live,                                                                   \
      "Weights of all loaded models together; those that no stream uses go first, then open is refused.")              \
    X(model_rates, COUNT, "0..64", "8", live,                                                                          \
      "Rates beside its own for which one model is discretised anew at a time; open is refused beyond.")               \
    X(model_versions, COUNT, "1..64", "4", live,                                                                       \
      "Versions of one model in memory at a time; a reload that would add another is refused.")                        \
    X(state_dir, TEXT, "", "", restart,                                                                                \
      "Directory for the images of open streams: written at SIGTERM, taken up at the next start. Empty: streams end "  \
      "with the daemon.")                                                                                              \
    X(evict_ms, MILLIS, "0..4294967295", "0", live,                                                                    \
      "A stream without input for so long, that no connection writes, leaves memory: its image goes to state_dir, "    \
      "and "                                                                                                           \
      "comes back when data or an open name it. 0: never.")                                                            \
    X(evict_when_full, SWITCH, "yes|no", "no", live,                                                                   \
      "At max_streams the stream longest idle that no connection writes leaves so, instead of a refusal.")             \
    X(idle_ms, MILLIS, "1000..86400000", "30000", live,                                                                \
      "A connection silent for so long is forgotten; its streams are not.")                                            \
    X(linger_ms, MILLIS, "0..86400000", "60000", live,                                                                 \
      "A closed stream is kept for so long when its results were not received.")                                       \
    X(drain_ms, MILLIS, "0..3600000", "10000", live, "Time that SIGTERM leaves to finish what was accepted.")          \
    X(log_level, CHOICE, "err|warning|notice|info|debug", "info", live, "Least important event that is logged.")

#define CONF_C_COUNT(member)  uint32_t member
#define CONF_C_BYTES(member)  uint64_t member
#define CONF_C_MILLIS(member) uint32_t member
#define CONF_C_MODE(member)   uint32_t member
#define CONF_C_SWITCH(member) uint32_t member
#define CONF_C_CHOICE(member) char member[CONF_TEXT_SIZE]
#define CONF_C_TEXT(member)   char member[CONF_TEXT_SIZE]
#define CONF_C_LIST(member)   struct conf_list member
#define CONF_C_RULES(member)  struct conf_rules member

/* After conf_init or conf_load no value is "auto" but backend and isa, tap is "off" or an endpoint,
 * and so is publish_endpoint. */
struct conf {
#define X(member, type, range, standard, reload, help) CONF_C_##type(member);
    CONF_KEYS(X)
#undef X
};

/* Sentences, one per line: what is wrong (conf_load), or what changed (conf_reload). */
struct conf_report {
    char text[4096];
    uint32_t lines; /* also of those that did not fit */
};

/* The built-in configuration, endpoints resolved from the environment. Never fails. */
void conf_init(struct conf *conf);

/* The built-in configuration with the file's values over it. Returns 0, or -1 and every error found in *report; *conf
 * is then undefined. path NULL gives the built-in configuration. */
int conf_load(struct conf *conf, const char *path, struct conf_report *report);

/* Compares `next` (a loaded configuration) with `conf` (the running one) and copies what can change while running.
 * *applied gets one line `key=KEY from=OLD to=NEW` for each value taken, *refused one for each that needs a restart. */
void conf_reload(struct conf *conf, const struct conf *next, struct conf_report *applied, struct conf_report *refused);

/* `key = value` for every key: a file that conf_load reads back to the same values. */
void conf_print(const struct conf *conf, FILE *out);
/* daemon/ssmd.conf: every key explained and commented out with its default. */
void conf_print_example(FILE *out);
/* The keys as roff for ssmd.conf(5), and as text for --help. */
void conf_print_man(FILE *out);
void conf_print_help(FILE *out);

/* ipc endpoints: the path after ipc://, or NULL. tcp endpoints: whether only this machine can reach them. */
const char *conf_ipc_path(const char *endpoint);
/* Whether there is a publish_endpoint. */
int conf_has_publish(const struct conf *conf);
int conf_is_loopback(const char *endpoint);

#endif
