/* SPDX-License-Identifier: Apache-2.0
 *
 * ssmrun as its users meet it: the program is started on golden cases and on WAV files; exit codes, messages and
 * outputs.
 */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/audio/signal.h"
#include "tests/ssm/making.h"
#include "tests/ssm/model_dir.h"

#define CASE       "tests/golden/s4d-stack"
#define CASE_INPUT "tests/golden/s4d-stack/input.f32"
#define TOKENS     "tests/golden/mixed-tokens"

static struct model_dir dir;
static char said[8192];       /* standard output of the last run */
static char complained[8192]; /* standard error */

/* A path in the scratch directory; good for the next fifteen calls. */
static const char *at(const char *name)
{
    static char paths[16][128];
    static unsigned turn;
    char *path = paths[turn++ % 16];
    snprintf(path, sizeof(paths[0]), "%s/%s", dir.path, name);
    return path;
}

static size_t slurp(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t n = fread(out, 1, size - 1, file);
    out[n] = '\0';
    fclose(file);
    return n;
}

static void redirect(int to, const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    if (fd < 0 || dup2(fd, to) < 0)
        _exit(99);
}

/* Runs ssmrun with these arguments (NULL at the end), standard input from `input`; its exit code, 128 + signal if
 * killed. */
static int run_from(const char *input, const char *const *arguments)
{
    const char *argv[32] = {"ssmrun"};
    char program[256];
    int n = 1, status;
    const char *build = getenv("BUILD");
    snprintf(program, sizeof(program), "%s/bin/ssmrun", build && *build ? build : "build");
    while (*arguments)
        argv[n++] = *arguments++;
    const char *out = at("stdout"), *err = at("stderr");
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        redirect(STDIN_FILENO, input, O_RDONLY);
        redirect(STDOUT_FILENO, out, O_WRONLY | O_CREAT | O_TRUNC);
        redirect(STDERR_FILENO, err, O_WRONLY | O_CREAT | O_TRUNC);
        execv(program, (char *const *)argv);
        _exit(98);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    slurp(out, said, sizeof(said));
    slurp(err, complained, sizeof(complained));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define RUN(...) run_from("/dev/null", (const char *const[]){__VA_ARGS__, NULL})

static void check_run(int code, int expected, const char *says)
{
    if (code != expected || !strstr(complained, says))
        print_error("exit %d (expected %d)\n%s%s(should say: %s)\n", code, expected, said, complained, says);
    assert_int_equal(code, expected);
    assert_non_null(strstr(complained, says));
}

static int setup(void **state)
{
    (void)state;
    model_dir_init(&dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    model_dir_fini(&dir);
    return 0;
}

static void write_wav(const char *path, uint32_t channels, double rate, uint32_t frames)
{
    struct signal_writer *w;
    struct signal_spec spec = {SIGNAL_AUTO, channels, rate};
    float *frame = calloc(channels, sizeof(float));
    assert_non_null(frame);
    assert_int_equal(signal_writer_open(&w, path, &spec, NULL), SIGNAL_OK);
    for (uint32_t i = 0; i < frames; i++) {
        frame[0] = sinf((float)i * 0.05f);
        assert_int_equal(signal_writer_write(w, frame, 1, NULL), SIGNAL_OK);
    }
    assert_int_equal(signal_writer_close(w, NULL), SIGNAL_OK);
    free(frame);
}

static void check_same_bytes(const char *a, const char *b)
{
    static char x[1 << 20], y[1 << 20];
    size_t n = slurp(a, x, sizeof(x));
    assert_true(n > 0);
    assert_int_equal(slurp(b, y, sizeof(y)), n);
    assert_memory_equal(x, y, n);
}

/* max|a - b| / max|b| */
static double distance(const char *a, const char *b)
{
    static float x[1 << 18], y[1 << 18];
    double worst = 0, scale = 0;
    size_t n = slurp(a, (char *)x, sizeof(x)) / sizeof(float);
    assert_true(n > 0);
    assert_int_equal(slurp(b, (char *)y, sizeof(y)) / sizeof(float), n);
    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(x[i]));
        worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
        scale = fmax(scale, fabs((double)y[i]));
    }
    return worst / scale;
}

/* ---- what works -------------------------------------------------------------------------------------------------- */

static void ssmrun__golden_case__gives_the_expected_output_and_figures(void **state)
{
    (void)state;
    check_run(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("o.f32")), EX_OK, "");
    assert_true(distance(at("o.f32"), CASE "/expected.f32") <= 1e-5);
    assert_non_null(strstr(said, "hop: 1 frames"));
    assert_non_null(strstr(said, "lookahead: 0 frames"));
    assert_non_null(strstr(said, "bytes per stream"));
    assert_non_null(strstr(said, "real-time factor: "));
    check_run(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("s.f32"), "--mode", "scan", "--threads", "2"),
              EX_OK, "");
    assert_true(distance(at("s.f32"), CASE "/expected.f32") <= 1e-5);
    check_run(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("c.f32"), "--mode", "conv"), EX_OK, "");
    assert_true(distance(at("c.f32"), CASE "/expected.f32") <= 1e-5);
    assert_non_null(strstr(said, "mode conv"));
}

/* In conv it shows in the last bits: chunks of 2000 are not where 4096 are cut. */
static void ssmrun__chunk_size_in_conv__shows_in_the_last_bits_only(void **state)
{
    (void)state;
    enum { FRAMES = 10000 };
    static float in[FRAMES];
    uint32_t seed = 5;

    for (int i = 0; i < FRAMES; i++)
        in[i] = making_noise(&seed);
    model_dir_write(&dir, "long.f32", in, sizeof(in));
    check_run(RUN("--model", CASE, "--input", at("long.f32"), "--output", at("step.f32")), EX_OK, "");
    static const char *const chunks[] = {"7", "2000", "4096", "100000"};
    for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
        check_run(RUN("--model", CASE, "--input", at("long.f32"), "--output", at("cut.f32"), "--mode", "conv",
                      "--chunk", chunks[c]),
                  EX_OK, "");
        assert_true(distance(at("cut.f32"), at("step.f32")) <= 1e-5);
    }
}

static void ssmrun__chunk_size__does_not_show(void **state)
{
    (void)state;
    static const char *const modes[] = {"step", "scan"};
    static const char *const chunks[] = {"1", "7", "501", "100000"};
    for (size_t m = 0; m < 2; m++) {
        check_run(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("default.f32"), "--mode", modes[m]), EX_OK,
                  "");
        for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
            check_run(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("cut.f32"), "--mode", modes[m],
                          "--chunk", chunks[c]),
                      EX_OK, "");
            check_same_bytes(at("cut.f32"), at("default.f32"));
        }
    }
}

static void ssmrun__tokens__are_read(void **state)
{
    (void)state;
    check_run(RUN("--model", TOKENS, "--input", TOKENS "/input.i32", "--output", at("t.f32")), EX_OK, "");
    assert_true(distance(at("t.f32"), TOKENS "/expected.f32") <= 1e-5);
    assert_non_null(strstr(said, "tokens per second"));
}

static void ssmrun__pipes__carry_raw_frames(void **state)
{
    (void)state;
    const char *const arguments[] = {"--model", CASE, "--input", "-", "--output", "-", NULL};
    check_run(run_from(CASE_INPUT, arguments), EX_OK, "real-time factor");
    assert_true(distance(at("stdout"), CASE "/expected.f32") <= 1e-5);
    const char *const tokens[] = {"--model", TOKENS, "--input", "-", "--output", "-", NULL};
    check_run(run_from(TOKENS "/input.i32", tokens), EX_OK, "tokens per second");
    assert_true(distance(at("stdout"), TOKENS "/expected.f32") <= 1e-5);
}

static void ssmrun__template__takes_the_files_rate_and_channels(void **state)
{
    (void)state;
    struct signal_reader *r;
    write_wav(at("ecg.wav"), 1, 250, 2000);
    check_run(RUN("--model", "forecast", "--input", at("ecg.wav"), "--output", at("f.wav")), EX_OK, "");
    assert_int_equal(signal_reader_open(&r, at("f.wav"), &(struct signal_spec){0}, NULL), SIGNAL_OK);
    assert_true(signal_reader_spec(r)->rate == 250);
    assert_int_equal(signal_reader_spec(r)->channels, 3);
    assert_int_equal(signal_reader_frames(r), 2000);
    signal_reader_close(r);
    check_run(RUN("--model", "forecast:rate=360", "--input", at("ecg.wav"), "--output", at("n.wav")), EX_CONFIG, "360");
    assert_non_null(strstr(complained, "250"));
}

static void ssmrun__empty_input__gives_empty_output(void **state)
{
    (void)state;
    struct stat st;
    model_dir_write_text(&dir, "empty.f32", "");
    check_run(RUN("--model", CASE, "--input", at("empty.f32"), "--output", at("z.f32")), EX_OK, "");
    assert_int_equal(stat(at("z.f32"), &st), 0);
    assert_int_equal(st.st_size, 0);
}

/* ---- what is refused: the output must not exist after ------------------------------------------------------------ */

static void check_refused(int code, int expected, const char *says)
{
    check_run(code, expected, says);
    assert_int_equal(access(at("no.f32"), F_OK), -1);
}

static void ssmrun__wrong_arguments__are_usage_errors(void **state)
{
    (void)state;
    check_refused(RUN("--model", CASE, "--input", CASE_INPUT), EX_USAGE, "--output is missing");
    check_refused(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("no.f32"), "--mode", "jump"), EX_USAGE,
                  "jump");
    check_refused(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("no.f32"), "--chunk", "0"), EX_USAGE,
                  "--chunk");
    check_refused(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("no.f32"), "extra"), EX_USAGE, "extra");
    check_refused(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("no.mp4")), EX_USAGE, "suffix");
    model_dir_write_text(&dir, "same.f32", "12345678");
    check_refused(RUN("--model", CASE, "--input", at("same.f32"), "--output", at("same.f32")), EX_USAGE,
                  "both input and output");
    struct stat st;
    assert_int_equal(stat(at("same.f32"), &st), 0);
    assert_int_equal(st.st_size, 8);
}

static void ssmrun__wrong_backend__is_named(void **state)
{
    (void)state;
    int code = RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("no.f32"), "--backend", "abacus");
    assert_int_not_equal(code, EX_OK);
    check_refused(code, code, "abacus");
}

static void ssmrun__no_device__is_said_and_auto_does_without(void **state)
{
    (void)state;
    assert_int_equal(setenv("SSMD_CUDA_LIBRARY", "/nowhere/libssm-cuda.so", 1), 0);
    check_refused(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("no.f32"), "--backend", "cuda"),
                  EX_UNAVAILABLE, "/nowhere/libssm-cuda.so");
    check_refused(RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("no.f32"), "--device", "0"), EX_USAGE,
                  "--backend");
    check_refused(
        RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("no.f32"), "--backend", "cuda", "--device", "first"),
        EX_USAGE, "--device");
    check_run(
        RUN("--model", CASE, "--input", CASE_INPUT, "--output", at("auto.f32"), "--backend", "auto", "--device", "1"),
        EX_OK, "");
    unsetenv("SSMD_CUDA_LIBRARY");
}

static void ssmrun__missing_files__are_no_input(void **state)
{
    (void)state;
    check_refused(RUN("--model", CASE, "--input", at("none.f32"), "--output", at("no.f32")), EX_NOINPUT, "none.f32");
    check_refused(RUN("--model", CASE, "--input", at("none.wav"), "--output", at("no.f32")), EX_NOINPUT, "none.wav");
    check_refused(RUN("--model", at("none"), "--input", CASE_INPUT, "--output", at("no.f32")), EX_NOINPUT,
                  "none/config.json");
}

static void ssmrun__wav_of_another_rate_or_width__is_refused_naming_both(void **state)
{
    (void)state;
    write_wav(at("rate.wav"), 4, 44100, 10);
    check_refused(RUN("--model", "tests/golden/gru", "--input", at("rate.wav"), "--output", at("no.f32")), EX_DATAERR,
                  "resample the stream to 100 Hz");
    assert_non_null(strstr(complained, "44100"));
    assert_non_null(strstr(complained, "rate.wav"));
    write_wav(at("wide.wav"), 2, 16000, 10);
    check_refused(RUN("--model", CASE, "--input", at("wide.wav"), "--output", at("no.f32")), EX_DATAERR, "1 channels");
    assert_non_null(strstr(complained, "has 2"));
}

static void ssmrun__model_of_continuous_layers__is_discretised_for_the_inputs_rate(void **state)
{
    (void)state;
    write_wav(at("slow.wav"), 1, 8000, 10);
    check_run(RUN("--model", CASE, "--input", at("slow.wav"), "--output", at("o.f32")), EX_OK, "");
    assert_non_null(strstr(said, "8000 Hz"));
    assert_non_null(strstr(said, "made for 16000 Hz"));
    check_run(RUN("--model", CASE, "--input", CASE_INPUT, "--rate", "8000", "--output", at("p.f32")), EX_OK, "");
    assert_non_null(strstr(said, "made for 16000 Hz"));
    assert_true(distance(at("p.f32"), CASE "/expected.f32") > 1e-3);
    check_run(RUN("--model", CASE, "--input", CASE_INPUT, "--rate", "16000", "--output", at("p.f32")), EX_OK, "");
    assert_null(strstr(said, "made for"));
}

static void ssmrun__bad_values__name_their_frame(void **state)
{
    (void)state;
    float in[600] = {0};
    in[577] = NAN;
    model_dir_write(&dir, "nan.f32", in, sizeof(in));
    check_refused(RUN("--model", CASE, "--input", at("nan.f32"), "--output", at("no.f32")), EX_DATAERR, "frame 577");
    const int32_t tokens[3] = {1, 2, 61};
    model_dir_write(&dir, "big.i32", tokens, sizeof(tokens));
    check_refused(RUN("--model", TOKENS, "--input", at("big.i32"), "--output", at("no.f32")), EX_DATAERR, "frame 2");
    check_refused(RUN("--model", TOKENS, "--input", CASE_INPUT, "--output", at("no.f32")), EX_DATAERR, "takes tokens");
    check_refused(RUN("--model", CASE, "--input", at("big.i32"), "--output", at("no.f32")), EX_DATAERR, "holds tokens");
    model_dir_write_text(&dir, "odd.f32", "12345");
    check_refused(RUN("--model", CASE, "--input", at("odd.f32"), "--output", at("no.f32")), EX_DATAERR, "whole number");
}

static void ssmrun__broken_model__is_named(void **state)
{
    (void)state;
    model_dir_write_text(&dir, "config.json", "{\"model_type\":\"ssmd\",\"format_version\":1,\"colour\":2}");
    check_refused(RUN("--model", dir.path, "--input", CASE_INPUT, "--output", at("no.f32")), EX_CONFIG,
                  "unknown key 'colour'");
}

static void ssmrun__full_disk__is_an_io_error(void **state)
{
    (void)state;
    check_run(RUN("--model", CASE, "--input", CASE_INPUT, "--output", "/dev/full", "--output-format", "f32"), EX_IOERR,
              "No space left");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ssmrun__golden_case__gives_the_expected_output_and_figures),
        cmocka_unit_test(ssmrun__chunk_size__does_not_show),
        cmocka_unit_test(ssmrun__chunk_size_in_conv__shows_in_the_last_bits_only),
        cmocka_unit_test(ssmrun__tokens__are_read),
        cmocka_unit_test(ssmrun__pipes__carry_raw_frames),
        cmocka_unit_test(ssmrun__template__takes_the_files_rate_and_channels),
        cmocka_unit_test(ssmrun__empty_input__gives_empty_output),
        cmocka_unit_test(ssmrun__wrong_arguments__are_usage_errors),
        cmocka_unit_test(ssmrun__wrong_backend__is_named),
        cmocka_unit_test(ssmrun__no_device__is_said_and_auto_does_without),
        cmocka_unit_test(ssmrun__missing_files__are_no_input),
        cmocka_unit_test(ssmrun__wav_of_another_rate_or_width__is_refused_naming_both),
        cmocka_unit_test(ssmrun__model_of_continuous_layers__is_discretised_for_the_inputs_rate),
        cmocka_unit_test(ssmrun__bad_values__name_their_frame),
        cmocka_unit_test(ssmrun__broken_model__is_named),
        cmocka_unit_test(ssmrun__full_disk__is_an_io_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
