/* SPDX-License-Identifier: Apache-2.0
 * Packing of weights; see matrix.h. */
#include "ssm/matrix.h"

#include <math.h>
#include <stdlib.h>

#include "ssm/layer.h"

static size_t panel_place(uint32_t in, uint32_t o, uint32_t i)
{
    return ((size_t)(o / SSM_PANEL) * in + i) * SSM_PANEL + o % SSM_PANEL;
}

static int matrix_init(struct ssm_matrix *m, uint32_t out, uint32_t in)
{
    size_t panels = ((size_t)out + SSM_PANEL - 1) / SSM_PANEL;

    m->out = out;
    m->in = in;
    m->panels = ssm_floats_new(panels * in * SSM_PANEL);
    return m->panels ? SSM_OK : SSM_NOMEM;
}

int ssm_matrix_pack(struct ssm_matrix *m, const float *w, uint32_t out, uint32_t in)
{
    int status = matrix_init(m, out, in);

    for (uint32_t o = 0; status == SSM_OK && o < out; o++)
        for (uint32_t i = 0; i < in; i++)
            m->panels[panel_place(in, o, i)] = w[(size_t)o * in + i];
    return status;
}

int ssm_matrix_pack_f64(struct ssm_matrix *m, const double *w, uint32_t out, uint32_t in)
{
    int status = matrix_init(m, out, in);

    for (uint32_t o = 0; status == SSM_OK && o < out; o++)
        for (uint32_t i = 0; i < in; i++) {
            float rounded = (float)w[(size_t)o * in + i];

            m->panels[panel_place(in, o, i)] = rounded;
            status = isfinite(rounded) ? status : SSM_NONFINITE;
        }
    return status;
}

void ssm_matrix_fini(struct ssm_matrix *m)
{
    free(m->panels);
    m->panels = NULL;
}
