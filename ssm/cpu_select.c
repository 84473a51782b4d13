/* SPDX-License-Identifier: Apache-2.0
 *
 * Which of the compiled instruction sets runs, what a graph needs of scratch, and the floating-point mode of a
 * thread. */
#include <string.h>

#include "ssm/cpu/ops.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static bool runs_here(const struct ssm_cpu *cpu)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (cpu == &ssm_cpu_table_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma");
    if (cpu == &ssm_cpu_table_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return cpu == &ssm_cpu_table_ref;
}

const struct ssm_cpu *ssm_cpu_select(const char *isa)
{
    static const struct ssm_cpu *const best_first[] = {
#if defined(__x86_64__)
        &ssm_cpu_table_avx512,
        &ssm_cpu_table_avx2,
#endif
        &ssm_cpu_table_ref,
    };

    for (size_t i = 0; i < sizeof(best_first) / sizeof(*best_first); i++)
        if ((!isa || strcmp(isa, best_first[i]->isa) == 0) && runs_here(best_first[i]))
            return best_first[i];
    return NULL;
}

/* Of a layer: its own scratch, and below it a branch and the buffer that the branch ends in. */
static size_t layer_floats(const struct ssm_layer *layer, const uint32_t *room)
{
    size_t most = 0;

    for (uint32_t b = 0; b < layer->branches; b++) {
        const struct ssm_sequence *branch = &layer->branch[b];
        size_t floats = (size_t)room[branch->out_clock] * branch->out + ssm_cpu_scratch_floats(branch, room);

        most = floats > most ? floats : most;
    }
    return layer->scratch_floats + most;
}

/* What ssm/cpu/graph.c takes: two buffers of the largest inner output, and below them the most that any layer needs. */
size_t ssm_cpu_scratch_floats(const struct ssm_sequence *graph, const uint32_t *room)
{
    size_t largest = 0, most = 0;

    for (uint32_t i = 0; i < graph->count; i++) {
        const struct ssm_layer *layer = &graph->layers[i];
        size_t floats = (size_t)room[layer->out_clock] * layer->out, need = layer_floats(layer, room);

        if (i + 1 < graph->count && floats > largest)
            largest = floats;
        most = need > most ? need : most;
    }
    return 2 * largest + most;
}

/* Decaying states would crawl through denormals. MXCSR: bit 15 flush to zero, bit 6 denormals are zero. */
unsigned ssm_cpu_floats_flush(void)
{
#if defined(__x86_64__)
    unsigned saved = _mm_getcsr();

    _mm_setcsr(saved | 0x8040u);
    return saved;
#elif defined(__aarch64__)
    uint64_t saved;

    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved | (1u << 24)));
    return (unsigned)saved;
#else
    return 0;
#endif
}

void ssm_cpu_floats_restore(unsigned saved)
{
#if defined(__x86_64__)
    _mm_setcsr(saved);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)saved));
#else
    (void)saved;
#endif
}
