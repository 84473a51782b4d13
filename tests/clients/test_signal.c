/* SPDX-License-Identifier: Apache-2.0
 *
 * Signal files: what is written is read back, at any block size, and every failure says which file and why.
 */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/audio/signal.h"
#include "tests/ssm/model_dir.h"

#define FRAMES   1009
#define CHANNELS 3

static struct model_dir dir;
static float samples[FRAMES * CHANNELS];

static const char *at(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir.path, name);
    return path;
}

static int setup(void **state)
{
    (void)state;
    model_dir_init(&dir);
    for (int i = 0; i < FRAMES * CHANNELS; i++)
        samples[i] = sinf((float)i * 0.37f) * 0.9f;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    model_dir_fini(&dir);
    return 0;
}

static void write_samples(const char *path, enum signal_format format)
{
    struct signal_writer *w;
    struct signal_spec spec = {format, CHANNELS, 16000};
    struct signal_error err = {{0}};
    assert_int_equal(signal_writer_open(&w, path, &spec, &err), SIGNAL_OK);
    for (size_t i = 0, n; i < FRAMES; i += n) {
        n = FRAMES - i < 101 ? FRAMES - i : 101;
        assert_int_equal(signal_writer_write(w, samples + i * CHANNELS, n, &err), SIGNAL_OK);
    }
    assert_int_equal(signal_writer_frames(w), FRAMES);
    assert_int_equal(signal_writer_close(w, &err), SIGNAL_OK);
}

static void check_samples(const char *path, enum signal_format format, size_t block, float tolerance)
{
    struct signal_reader *r;
    struct signal_spec spec = {format, CHANNELS, 16000};
    struct signal_error err = {{0}};
    float out[FRAMES * CHANNELS];
    size_t got, total = 0;
    assert_int_equal(signal_reader_open(&r, path, &spec, &err), SIGNAL_OK);
    assert_int_equal(signal_reader_spec(r)->channels, CHANNELS);
    assert_true(signal_reader_spec(r)->rate == 16000);
    assert_int_equal(signal_reader_frames(r), FRAMES);
    do {
        size_t room = FRAMES - total < block ? FRAMES - total : block;
        float beyond[CHANNELS];
        assert_int_equal(signal_reader_read(r, room ? out + total * CHANNELS : beyond, room ? room : 1, &got, &err), 0);
        total += got;
    } while (got);
    assert_int_equal(total, FRAMES);
    for (size_t i = 0; i < FRAMES * CHANNELS; i++)
        assert_true(fabsf(out[i] - samples[i]) <= tolerance);
    assert_int_equal(signal_reader_seek(r, 1000, &err), SIGNAL_OK);
    assert_int_equal(signal_reader_read(r, out, FRAMES, &got, &err), SIGNAL_OK);
    assert_int_equal(got, FRAMES - 1000);
    assert_true(fabsf(out[0] - samples[1000 * CHANNELS]) <= tolerance);
    signal_reader_close(r);
}

static void signal__written_file__is_read_back(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        float tolerance;
    } KINDS[] = {{"a.f32", 0},  {"a.f64", 0}, {"a.s16", 0x1p-16f}, {"a.s32", 0x1p-24f},
                 {"a.wav", 0},  {"a.w64", 0}, {"a.rf64", 0},       {"a.caf", 0},
                 {"a.aiff", 0}, {"a.au", 0},  {"A.WAV", 0},        {"a.flac", 0x1p-22f}};
    for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++) {
        write_samples(at(KINDS[i].name), SIGNAL_AUTO);
        check_samples(at(KINDS[i].name), SIGNAL_AUTO, FRAMES, KINDS[i].tolerance);
        check_samples(at(KINDS[i].name), SIGNAL_AUTO, 1, KINDS[i].tolerance);
        check_samples(at(KINDS[i].name), SIGNAL_AUTO, 97, KINDS[i].tolerance);
    }
}

static void signal__format_given__wins_over_the_suffix(void **state)
{
    (void)state;
    write_samples(at("b.wav"), SIGNAL_S16);
    struct stat st;
    assert_int_equal(stat(at("b.wav"), &st), 0);
    assert_int_equal(st.st_size, FRAMES * CHANNELS * 2);
    check_samples(at("b.wav"), SIGNAL_S16, 64, 0x1p-16f);
}

static void reader__integers__are_scaled_as_the_protocol_says(void **state)
{
    (void)state;
    const int16_t s16[3] = {-32768, 16384, 32767};
    const int32_t s32[3] = {INT32_MIN, 1 << 30, 1};
    struct signal_spec spec = {SIGNAL_AUTO, 1, 0};
    struct signal_reader *r;
    float out[3];
    size_t got;
    model_dir_write(&dir, "c.s16", s16, sizeof(s16));
    model_dir_write(&dir, "c.s32", s32, sizeof(s32));
    assert_int_equal(signal_reader_open(&r, at("c.s16"), &spec, NULL), SIGNAL_OK);
    assert_int_equal(signal_reader_read(r, out, 3, &got, NULL), SIGNAL_OK);
    assert_true(out[0] == -1 && out[1] == 0.5f && out[2] == 32767 / 32768.0f);
    signal_reader_close(r);
    assert_int_equal(signal_reader_open(&r, at("c.s32"), &spec, NULL), SIGNAL_OK);
    assert_int_equal(signal_reader_read(r, out, 3, &got, NULL), SIGNAL_OK);
    assert_true(out[0] == -1 && out[1] == 0.5f && out[2] == 0x1p-31f);
    signal_reader_close(r);
}

static void writer__integers__clip(void **state)
{
    (void)state;
    const float in[4] = {2, -2, 1, -1};
    int16_t out[4];
    struct signal_spec spec = {SIGNAL_AUTO, 1, 0};
    struct signal_writer *w;
    assert_int_equal(signal_writer_open(&w, at("d.s16"), &spec, NULL), SIGNAL_OK);
    assert_int_equal(signal_writer_write(w, in, 4, NULL), SIGNAL_OK);
    assert_int_equal(signal_writer_close(w, NULL), SIGNAL_OK);
    FILE *file = fopen(at("d.s16"), "rb");
    assert_non_null(file);
    assert_int_equal(fread(out, 2, 4, file), 4);
    fclose(file);
    assert_true(out[0] == 32767 && out[1] == -32768 && out[2] == 32767 && out[3] == -32768);
}

static void reader__tokens__are_int32(void **state)
{
    (void)state;
    const int32_t tokens[3] = {7, 0, 60000};
    int32_t out[3];
    size_t got;
    struct signal_spec spec = {SIGNAL_AUTO, 0, 0};
    struct signal_reader *r;
    model_dir_write(&dir, "e.i32", tokens, sizeof(tokens));
    assert_int_equal(signal_reader_open(&r, at("e.i32"), &spec, NULL), SIGNAL_OK);
    assert_int_equal(signal_reader_spec(r)->format, SIGNAL_TOKENS);
    assert_int_equal(signal_reader_read(r, out, 3, &got, NULL), SIGNAL_OK);
    assert_int_equal(got, 3);
    assert_memory_equal(out, tokens, sizeof(tokens));
    signal_reader_close(r);
}

static void check_reader_refusal(const char *name, uint32_t channels, int status, const char *says)
{
    struct signal_spec spec = {SIGNAL_AUTO, channels, 0};
    struct signal_reader *r;
    struct signal_error err = {{0}};
    assert_int_equal(signal_reader_open(&r, at(name), &spec, &err), status);
    assert_null(r);
    assert_non_null(strstr(err.text, name));
    assert_non_null(strstr(err.text, says));
}

static void reader__bad_file__is_refused_and_named(void **state)
{
    (void)state;
    model_dir_write_text(&dir, "odd.f32", "0123456789");
    model_dir_write_text(&dir, "text.wav", "this is no sound");
    check_reader_refusal("missing.f32", 1, SIGNAL_NOINPUT, "No such file");
    check_reader_refusal("missing.wav", 1, SIGNAL_NOINPUT, "No such file");
    check_reader_refusal("odd.f32", 1, SIGNAL_DATA, "whole number of frames");
    check_reader_refusal("odd.f32", 0, SIGNAL_USAGE, "how many channels");
    check_reader_refusal("text.wav", 1, SIGNAL_DATA, "not a sound file");
}

static void reader__pipe_that_ends_within_a_frame__is_an_error(void **state)
{
    (void)state;
    int ends[2];
    float out[8];
    size_t got;
    struct signal_spec spec = {SIGNAL_AUTO, 2, 0};
    struct signal_reader *r;
    struct signal_error err = {{0}};
    int saved = dup(STDIN_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], samples, 20), 20);
    close(ends[1]);
    assert_true(dup2(ends[0], STDIN_FILENO) >= 0);
    close(ends[0]);
    assert_int_equal(signal_reader_open(&r, "-", &spec, &err), SIGNAL_OK);
    assert_int_equal(signal_reader_frames(r), -1);
    assert_int_equal(signal_reader_seek(r, 0, &err), SIGNAL_USAGE);
    assert_int_equal(signal_reader_read(r, out, 2, &got, &err), SIGNAL_OK);
    assert_int_equal(got, 2);
    assert_int_equal(signal_reader_read(r, out, 2, &got, &err), SIGNAL_DATA);
    assert_non_null(strstr(err.text, "standard input: ends within frame 2"));
    signal_reader_close(r);
    dup2(saved, STDIN_FILENO);
    close(saved);
}

static void check_writer_refusal(const char *path, struct signal_spec spec, int status, const char *says)
{
    struct signal_writer *w;
    struct signal_error err = {{0}};
    assert_int_equal(signal_writer_open(&w, path, &spec, &err), status);
    assert_null(w);
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, says));
}

static void writer__what_cannot_be__is_refused_before_the_file_is_touched(void **state)
{
    (void)state;
    struct stat st;
    model_dir_write_text(&dir, "keep.flac", "precious");
    check_writer_refusal(at("keep.flac"), (struct signal_spec){SIGNAL_AUTO, 9, 16000}, SIGNAL_USAGE, "9 channels");
    check_writer_refusal(at("keep.flac"), (struct signal_spec){SIGNAL_AUTO, 1, 22.5}, SIGNAL_USAGE, "22.5 Hz");
    check_writer_refusal(at("keep.flac"), (struct signal_spec){SIGNAL_AUTO, 1, 0}, SIGNAL_USAGE, "0 Hz");
    check_writer_refusal(at("x.mp4"), (struct signal_spec){SIGNAL_AUTO, 1, 1}, SIGNAL_USAGE, "suffix");
    check_writer_refusal(at("x.i32"), (struct signal_spec){SIGNAL_AUTO, 1, 1}, SIGNAL_USAGE, "tokens");
    check_writer_refusal("/nowhere/x.f32", (struct signal_spec){SIGNAL_AUTO, 1, 1}, SIGNAL_CANTCREAT, "No such file");
    assert_int_equal(stat(at("keep.flac"), &st), 0);
    assert_int_equal(st.st_size, 8);
    assert_int_equal(access(at("x.mp4"), F_OK), -1);
}

static void writer__full_disk__is_an_error(void **state)
{
    (void)state;
    struct signal_writer *w;
    struct signal_spec spec = {SIGNAL_F32, CHANNELS, 0};
    struct signal_error err = {{0}};
    assert_int_equal(signal_writer_open(&w, "/dev/full", &spec, &err), SIGNAL_OK);
    assert_int_equal(signal_writer_write(w, samples, FRAMES, &err), SIGNAL_IO);
    assert_non_null(strstr(err.text, "/dev/full: writing failed after 0 frames: No space left"));
    signal_writer_abort(w);
    assert_int_equal(access("/dev/full", F_OK), 0);
}

static void writer__given_up__removes_the_file(void **state)
{
    (void)state;
    struct signal_writer *w;
    struct signal_spec spec = {SIGNAL_AUTO, CHANNELS, 8000};
    assert_int_equal(signal_writer_open(&w, at("gone.wav"), &spec, NULL), SIGNAL_OK);
    assert_int_equal(signal_writer_write(w, samples, FRAMES, NULL), SIGNAL_OK);
    signal_writer_abort(w);
    assert_int_equal(access(at("gone.wav"), F_OK), -1);
    signal_writer_abort(NULL);
}

static void writer__small_wav__is_plain_wav(void **state)
{
    (void)state;
    char head[4];
    write_samples(at("plain.wav"), SIGNAL_AUTO);
    FILE *file = fopen(at("plain.wav"), "rb");
    assert_non_null(file);
    assert_int_equal(fread(head, 1, 4, file), 4);
    fclose(file);
    assert_memory_equal(head, "RIFF", 4);
}

static void writer__of_a_sound_file__keeps_the_header_within_a_second(void **state)
{
    static const char *const names[] = {"live.wav", "live.aiff", "live.w64"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct signal_spec spec = {SIGNAL_AUTO, CHANNELS, 100}, none = {0};
        struct signal_writer *w;
        struct signal_reader *r;
        struct signal_error err;
        char path[128];
        int64_t there;

        snprintf(path, sizeof(path), "%s", at(names[i]));
        assert_int_equal(signal_writer_open(&w, path, &spec, &err), SIGNAL_OK);
        for (size_t t = 0; t < 1000; t += 50)
            assert_int_equal(signal_writer_write(w, samples + t * CHANNELS, 50, &err), SIGNAL_OK);
        assert_int_equal(signal_reader_open(&r, path, &none, &err), SIGNAL_OK);
        there = signal_reader_frames(r);
        if (there < 900 || there > 1000)
            fail_msg("%s: the header says %d frames of 1000", names[i], (int)there);
        signal_reader_close(r);
        assert_int_equal(signal_writer_close(w, &err), SIGNAL_OK);
    }
}

static void signal__same_file__is_seen_through_links(void **state)
{
    (void)state;
    char link[128];
    model_dir_write_text(&dir, "one.f32", "1234");
    snprintf(link, sizeof(link), "%s/link.f32", dir.path);
    assert_int_equal(symlink("one.f32", link), 0);
    assert_true(signal_is_same_file(at("one.f32"), link));
    assert_false(signal_is_same_file(at("other.f32"), link));
    assert_false(signal_is_same_file("-", "-"));
    assert_false(signal_is_same_file("/dev/null", "/dev/null"));
}

/* `size` in the header of a WAV of 1000 samples of 16 bits. */
static int wav_open(uint32_t size, struct signal_reader **out, struct signal_error *err)
{
    static const unsigned char head[40] = {'R',  'I',  'F', 'F', 0, 0, 0,  0, 'W', 'A', 'V', 'E', 'f', 'm',
                                           't',  ' ',  16,  0,   0, 0, 1,  0, 1,   0,   64,  31,  0,   0,
                                           0x80, 0x3e, 0,   0,   2, 0, 16, 0, 'd', 'a', 't', 'a'};
    static const int16_t values[1000];
    const struct signal_spec spec = {.format = SIGNAL_SOUND};
    FILE *file = fopen(at("cut.wav"), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(head, sizeof(head), 1, file), 1);
    assert_int_equal(fwrite(&size, sizeof(size), 1, file), 1);
    assert_int_equal(fwrite(values, sizeof(values), 1, file), 1);
    assert_int_equal(fclose(file), 0);
    return signal_reader_open(out, at("cut.wav"), &spec, err);
}

static void reader__wav_shorter_than_its_header_says__is_refused_with_both_lengths(void **state)
{
    static const uint32_t unknown[] = {2000, 0x7ffffff0, 0x80000000, 0xfffffff0, 0xffffffff};
    struct signal_reader *r;
    struct signal_error err;
    (void)state;
    assert_int_equal(wav_open(2002, &r, &err), SIGNAL_DATA);
    assert_non_null(strstr(err.text, "2002 bytes"));
    assert_non_null(strstr(err.text, "2000 are there"));
    for (size_t i = 0; i < sizeof(unknown) / sizeof(*unknown); i++) { /* whole, or of a recorder that did not know */
        assert_int_equal(wav_open(unknown[i], &r, &err), SIGNAL_OK);
        assert_int_equal(signal_reader_frames(r), 1000);
        signal_reader_close(r);
    }
}

static void reader__wav_that_was_not_closed__is_refused_and_an_empty_one_is_not(void **state)
{
    struct signal_reader *r;
    struct signal_error err;
    FILE *file;
    (void)state;
    assert_int_equal(wav_open(0, &r, &err), SIGNAL_OK); /* so little may be more header */
    assert_int_equal(signal_reader_frames(r), 0);
    signal_reader_close(r);
    file = fopen(at("cut.wav"), "ab");
    assert_non_null(file);
    assert_int_equal(fwrite(samples, 4, 1000, file), 1000);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(signal_reader_open(&r, at("cut.wav"), &(struct signal_spec){0}, &err), SIGNAL_DATA);
    assert_non_null(strstr(err.text, "has 6044 bytes"));
}

static void writer__of_a_file_that_is_being_written__is_refused_and_harms_nothing(void **state)
{
    const struct signal_spec spec = {SIGNAL_F32, 1, 16000};
    struct signal_writer *w, *other;
    struct signal_reader *r;
    struct signal_error err;
    (void)state;
    assert_int_equal(signal_writer_open(&w, at("mine.f32"), &spec, &err), SIGNAL_OK);
    assert_int_equal(signal_writer_write(w, samples, 10, &err), SIGNAL_OK);
    assert_true(signal_is_being_written(at("mine.f32")));
    assert_int_equal(signal_writer_open(&other, at("mine.f32"), &spec, &err), SIGNAL_CANTCREAT);
    assert_non_null(strstr(err.text, "another program"));
    assert_int_equal(signal_writer_close(w, &err), SIGNAL_OK);
    assert_false(signal_is_being_written(at("mine.f32")));
    assert_int_equal(signal_reader_open(&r, at("mine.f32"), &spec, &err), SIGNAL_OK);
    assert_int_equal(signal_reader_frames(r), 10);
    signal_reader_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader__wav_shorter_than_its_header_says__is_refused_with_both_lengths),
        cmocka_unit_test(reader__wav_that_was_not_closed__is_refused_and_an_empty_one_is_not),
        cmocka_unit_test(writer__of_a_file_that_is_being_written__is_refused_and_harms_nothing),
        cmocka_unit_test(signal__written_file__is_read_back),
        cmocka_unit_test(signal__format_given__wins_over_the_suffix),
        cmocka_unit_test(reader__integers__are_scaled_as_the_protocol_says),
        cmocka_unit_test(writer__integers__clip),
        cmocka_unit_test(reader__tokens__are_int32),
        cmocka_unit_test(reader__bad_file__is_refused_and_named),
        cmocka_unit_test(reader__pipe_that_ends_within_a_frame__is_an_error),
        cmocka_unit_test(writer__what_cannot_be__is_refused_before_the_file_is_touched),
        cmocka_unit_test(writer__full_disk__is_an_error),
        cmocka_unit_test(writer__given_up__removes_the_file),
        cmocka_unit_test(writer__small_wav__is_plain_wav),
        cmocka_unit_test(writer__of_a_sound_file__keeps_the_header_within_a_second),
        cmocka_unit_test(signal__same_file__is_seen_through_links),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
