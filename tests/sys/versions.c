/* SPDX-License-Identifier: Apache-2.0
 *
 * See versions.h.
 */
#include "tests/sys/versions.h"

#include "tests/ssm/making.h"
#include "tests/ssm/running.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

void versions_open(struct versions_site *site, const char *lines)
{
    char all[512];

    model_dir_init(&site->dir);
    versions_write_wave(site, "wave", 1, 1);
    snprintf(all, sizeof(all), "models = %s\n%s", site->dir.path, lines);
    assert_int_equal(sys_daemon_start(&site->daemon, all), 0);
    site->wire = versions_wire(site, "one");
}

void versions_close(struct versions_site *site)
{
    wire_free(site->wire);
    assert_int_equal(sys_daemon_stop(site->daemon, WIRE_MS), 0);
    sys_daemon_free(site->daemon);
    model_dir_fini(&site->dir);
}

struct wire *versions_wire(const struct versions_site *site, const char *writer)
{
    struct wire *w = wire_connect(sys_daemon_endpoint(site->daemon), writer);

    w->feature = "rates versions images";
    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    assert_int_equal(w->reply->hello->n_features, 3);
    return w;
}

/* ---- models ------------------------------------------------------------------------------------------------------ */

static void wave_make(struct making *m, double gain)
{
    making_init(m, 5);
    making_tensor(m, 0, "l.log_dt", 1, 1)[0] = logf(0.01f);
    memcpy(making_tensor(m, 0, "l.log_A_real", 2, 1, 2), (float[]){1, 1}, 2 * sizeof(float));
    memcpy(making_tensor(m, 0, "l.A_imag", 2, 1, 2), (float[]){80, 200}, 2 * sizeof(float));
    memcpy(making_tensor(m, 0, "l.C", 3, 1, 2, 2), (float[]){1, 2, 3, 4}, 4 * sizeof(float));
    (void)making_tensor(m, 1, "l.D", 1, 1);
    making_layers(
        m, "{'type':'s4d','name':'l','channels':1,'state':4,'discretization':'zoh'},{'type':'scale','value':%g}", gain);
}

static void write_model(const struct versions_site *site, const char *name, struct making *m, unsigned out)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", site->dir.path, name);
    (void)mkdir(path, 0755);
    making_write(m, path, 1, out);
    making_fini(m);
}

void versions_write_wave(const struct versions_site *site, const char *name, double gain, unsigned channels)
{
    struct making m;

    wave_make(&m, gain);
    if (channels > 1) {
        float *w = making_tensor(&m, 0, "w.weight", 2, channels, 1);

        for (unsigned i = 0; i < channels; i++)
            w[i] = 1;
        making_layers(&m, "{'type':'linear','name':'w','in':1,'out':%u,'bias':false}", channels);
    }
    write_model(site, name, &m, channels);
}

void versions_write_heavy(const struct versions_site *site, const char *name, double gain)
{
    struct making m;

    wave_make(&m, gain);
    (void)making_tensor(&m, 1, "up.weight", 2, 65536, 1);
    (void)making_tensor(&m, 1, "down.weight", 2, 1, 65536);
    making_layers(&m, "{'type':'linear','name':'up','in':1,'out':65536,'bias':false},"
                      "{'type':'linear','name':'down','in':65536,'out':1,'bias':false}");
    write_model(site, name, &m, 1);
}

void versions_write_fixed(const struct versions_site *site, const char *name)
{
    struct making m;

    wave_make(&m, 1);
    (void)making_tensor(&m, 1, "k.weight", 3, 1, 1, 2);
    making_layers(&m, "{'type':'conv1d','name':'k','in':1,'out':1,'kernel':2,'padding':'causal','bias':false}");
    write_model(site, name, &m, 1);
}

void versions_write_broken(const struct versions_site *site, const char *name)
{
    char file[128];

    snprintf(file, sizeof(file), "%s/config.json", name);
    model_dir_write_text(&site->dir, file, "{\"model_type\":");
}

/* ---- the signal -------------------------------------------------------------------------------------------------- */

static float sample(uint64_t t)
{
    return (float)sin(0.3 * (double)t) + 0.25f * (float)(t * 7 % 11);
}

void versions_push(struct wire *w, struct wire_stream *s, uint32_t frames)
{
    float *x = malloc(frames * sizeof(*x));

    assert_non_null(x);
    for (uint32_t t = 0; t < frames; t++)
        x[t] = sample(s->sent + t);
    wire_push(w, s, x, frames, 0);
    free(x);
}

void versions_check(const struct wire_stream *s, uint64_t from, uint64_t first, uint32_t frames, double gain,
                    double rate)
{
    uint32_t all = (uint32_t)first + frames;
    float *x = malloc(all * sizeof(*x)), *y = malloc(all * sizeof(*y));
    struct making m;
    struct model_dir dir;
    struct ssm_model *model;
    struct running r;

    assert_true(x && y && s->results >= from + frames);
    for (uint32_t t = 0; t < all; t++)
        x[t] = sample(t);
    wave_make(&m, gain);
    model_dir_init(&dir);
    making_write(&m, dir.path, 1, 1);
    making_fini(&m);
    assert_int_equal(ssm_model_load(&model, dir.path, &(struct ssm_model_hint){.rate = rate}, NULL), SSM_OK);
    model_dir_fini(&dir);
    running_open(&r, model, NULL, 1, 1);
    running_pass(&r, SSM_STEP, x, all, y, NULL, all, 1);
    running_close(&r);
    ssm_model_free(model);
    assert_memory_equal(s->out + from, y + first, frames * sizeof(*y));
    free(x);
    free(y);
}
