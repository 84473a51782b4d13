/* SPDX-License-Identifier: Apache-2.0
 * rnn (the tanh cell), gru and lstm: torch's cells with torch's gate orders; the output is h_t. They differ in how many
 * gates and how many vectors of state they have; what a cell does with its gates is in ssm/cpu/recurrent.c. */
#include <stdlib.h>

#include "ssm/layers/projection.h"
#include "ssm/layers/recurrent.h"

/* `vectors` of H channels are the state. */
static int recurrent_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys, uint32_t gates,
                          uint32_t vectors)
{
    struct ssm_recurrent *p = l->params = calloc(1, sizeof(*p));
    uint32_t in, H;
    int status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "in", &in, 1, SSM_CHANNELS_MAX)) || (status = ssm_expect_in(b, l, in)) ||
        (status = ssm_key_count(b, l, keys, "hidden", &H, 1, SSM_HIDDEN_MAX)))
        return status;
    p->gates = gates;
    l->out = H;
    l->state_bytes = vectors * H * (uint32_t)sizeof(float);
    l->scratch_floats = SSM_TILE_FRAMES * (2 * gates + 1) * H; /* SSM_HIDDEN_MAX keeps it below 2^24 */
    if ((status = ssm_part_add(b, l, &(struct ssm_part){.rows = vectors, .columns = H})) ||
        (status = ssm_projection_take(b, l, "weight_ih", "bias_ih", gates * H, in, &p->input)))
        return status;
    return ssm_projection_take(b, l, "weight_hh", "bias_hh", gates * H, H, &p->hidden);
}

static int rnn_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    return recurrent_init(b, l, keys, 1, 1);
}

static int gru_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    return recurrent_init(b, l, keys, 3, 1);
}

static int lstm_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    return recurrent_init(b, l, keys, 4, 2);
}

static void fini(struct ssm_layer *l)
{
    struct ssm_recurrent *p = l->params;

    if (p) {
        ssm_projection_fini(&p->input);
        ssm_projection_fini(&p->hidden);
    }
}

static const char *const recurrent_keys[] = {"in", "hidden", NULL};

const struct ssm_kind ssm_kind_rnn = {
    .id = SSM_KIND_rnn, .type = "rnn", .keys = recurrent_keys, .init = rnn_init, .fini = fini};
const struct ssm_kind ssm_kind_gru = {
    .id = SSM_KIND_gru, .type = "gru", .keys = recurrent_keys, .init = gru_init, .fini = fini};
const struct ssm_kind ssm_kind_lstm = {
    .id = SSM_KIND_lstm, .type = "lstm", .keys = recurrent_keys, .init = lstm_init, .fini = fini};
