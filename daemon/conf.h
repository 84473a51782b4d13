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
      "endpoint, and off when there is none.")                                                                         \
    X(socket_mode, MODE, "0600..0777", "0660", restart, "Permissions of the sockets of ipc endpoints.")                \
    X(allow_unauthenticated, SWITCH, "yes|no", "no", restart,                                                          \
      "Allow tcp endpoints beyond loopback. Whoever reaches them may open, read and close every stream.")              \
    X(models, TEXT, "", "", live,                                                                                      \
      "Directory of model directories; the name of a model is the name of its directory. Empty: only the built-in "    \
      "templates.")                                                                                                    \
    X(threads, COUNT, "0..256", "0", restart,                                                                          \
      "Threads that advance models. 0: one for each processor that the daemon may use.")                               \
    X(io_threads, COUNT, "1..32", "1", restart,                                                                        \
      "Threads that move messages, each with connections of its own. More than 1 is for machines with processors to "  \
      "spare and clients that send many messages.")                                                                    \
    X(isa, CHOICE, "auto|ref|avx2|avx512", "auto", restart,                                                            \
      "Instruction set of the kernels. auto is the best that the processor has; results are the same bits on one "     \
      "instruction set.")                                                                                              \
    X(max_streams, COUNT, "1..1000000", "20000", live, "Streams that may exist at a time; open is refused beyond.")    \
    X(max_connections, COUNT, "1..100000", "1000", live,                                                               \
      "Client connections known at a time; hello is refused beyond.")                                                  \
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
    X(image_memory, BYTES, "64K..256G", "256M", live,                                                                  \
      "Images of streams on their way to and from clients, all together; snapshot and restore are refused beyond.")    \
    X(max_images, COUNT, "1..100000", "256", live,                                                                     \
      "Such images at a time, and as many snapshots, forks and restores that wait for their turn.")                    \
    X(history_memory, BYTES, "0..256G", "256M", live,                                                                  \
      "Checkpoints and kept input of streams that were opened with a history, all together.")                          \
    X(state_dir, TEXT, "", "", restart,                                                                                \
      "Directory for the images of open streams: written at SIGTERM, taken up at the next start. Empty: streams end "  \
      "with the daemon.")                                                                                              \
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

/* After conf_init or conf_load no value is "auto" but isa, and tap is "off" or an endpoint. */
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

/* The most memory in bytes that input, result rings, images, histories and message buffers can take; states and weights come on top. */
uint64_t conf_memory_bytes(const struct conf *conf);

/* `key = value` for every key: a file that conf_load reads back to the same values. */
void conf_print(const struct conf *conf, FILE *out);
/* daemon/ssmd.conf: every key explained and commented out with its default. */
void conf_print_example(FILE *out);
/* The keys as roff for ssmd.conf(5), and as text for --help. */
void conf_print_man(FILE *out);
void conf_print_help(FILE *out);

/* ipc endpoints: the path after ipc://, or NULL. tcp endpoints: whether only this machine can reach them. */
const char *conf_ipc_path(const char *endpoint);
int conf_is_loopback(const char *endpoint);

#endif
