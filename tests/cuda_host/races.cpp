/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds threads of a kernel that touch the same memory with nothing between them, at least one of them writing: on a
 * device the result would depend on who comes first. `make check-races` runs the suites so.
 *
 * The compiler's thread sanitizer puts a call before each load and store of the kernels (-fsanitize=thread); these are
 * those calls, in place of its library, which knows nothing of blocks and warps. For each four bytes the last write is
 * remembered and two reads, with the thread, how many barriers the block had passed, and how many __syncwarp its warp.
 *
 *     same thread                                              in order
 *     same block, a __syncthreads between them                 in order
 *     same warp, a __syncwarp between them                     in order; shuffles and votes order no memory
 *     other blocks of the launch, memory of the device         in order if the first has fenced (__threadfence) and then
 *                                                              done an atomic operation, and the second one since
 *
 * all else is a race, and ends the process. Atomic operations themselves are not looked at. What is remembered is lost
 * when another address takes its place in the table: a race may be missed, none is invented.
 */
#ifdef CUDA_HOST_RACES
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda_host/block.h"
#include "tests/cuda_host/cuda_runtime.h"
#include "tests/cuda_host/fiber.h"
#include "tests/cuda_host/inside.h"

#define CELLS    (1u << 19)
#define RELEASED 4096u
#define READS    2

struct access {
    uint32_t launch; /* 0: none */
    uint32_t block;
    uint16_t thread;
    uint8_t bytes; /* of the four, a mask */
    uint32_t barriers, warp_barriers, stamp;
    const void *pc;
};

struct cell {
    uintptr_t word; /* address / 4 */
    struct access write, read[READS];
};

static struct cell *cells;
static uintptr_t data_low, data_high; /* the static variables of this program or library: __shared__ is among them */

/* Time goes on with each fence; when blocks have fenced and then done an atomic operation. */
static uint32_t stamp, fenced;
static bool acquired;
static struct {
    uint32_t launch, block, stamp;
} released[RELEASED];
static uint32_t now_launch, now_block;

/* ---- fences ------------------------------------------------------------------------------------------------------ */

static void this_block(void)
{
    if (now_launch == block_now.launch && now_block == block_now.block)
        return;
    now_launch = block_now.launch;
    now_block = block_now.block;
    fenced = 0;
    acquired = false;
}

void cuda_host_fence(void)
{
    this_block();
    fenced = ++stamp;
}

void cuda_host_atomic(void)
{
    this_block();
    acquired = true;
    if (fenced == 0)
        return;
    released[now_block % RELEASED].launch = now_launch;
    released[now_block % RELEASED].block = now_block;
    released[now_block % RELEASED].stamp = fenced;
}

/* Whether this block knows what that one did before. Of one whose place another took, that is assumed. */
static bool handed_over(const struct access *a)
{
    uint32_t i = a->block % RELEASED;

    this_block();
    if (released[i].launch != a->launch)
        return false;
    return acquired && (released[i].block != a->block || released[i].stamp > a->stamp);
}

/* ---- what was there ---------------------------------------------------------------------------------------------- */

static int find_data(struct dl_phdr_info *info, size_t, void *)
{
    uintptr_t here = reinterpret_cast<uintptr_t>(&cells);
    int i;

    for (i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t low = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, high = low + info->dlpi_phdr[i].p_memsz;

        if (info->dlpi_phdr[i].p_type == PT_LOAD && here >= low && here < high) {
            data_low = low;
            data_high = high;
            return 1;
        }
    }
    return 0;
}

/* Of one block alone. */
static bool is_shared(uintptr_t address)
{
    uintptr_t dynamic = reinterpret_cast<uintptr_t>(cuda_host_here.shared);

    return (address >= data_low && address < data_high) ||
           (dynamic && address >= dynamic && address - dynamic < block_now.shared);
}

/* What the thread that runs did since the last barrier, or before. */
static inline bool is_own(const struct access *a)
{
    return a->thread == block_now.thread && a->block == block_now.block && a->launch == block_now.launch;
}

static bool in_order(const struct access *a, uintptr_t address)
{
    if (a->launch != block_now.launch || is_own(a))
        return true;
    if (a->block != block_now.block)
        return is_shared(address) || handed_over(a);
    return a->barriers != block_now.barriers ||
           (a->thread / 32 == block_now.thread / 32 && a->warp_barriers != block_now.warp_barriers[a->thread / 32]);
}

static void say_where(const void *pc)
{
    Dl_info info;
    char command[600];

    if (!dladdr(pc, &info) || !info.dli_fname)
        return;
    snprintf(command, sizeof command, "addr2line -Cfpie '%s' 0x%lx | sed 's/^/cuda_host:       /' >&2", info.dli_fname,
             (unsigned long)(static_cast<const char *>(pc) - static_cast<const char *>(info.dli_fbase) - 1));
    fflush(stderr);
    if (system(command))
        fprintf(stderr, "cuda_host:       %s\n", info.dli_fname);
}

__attribute__((noreturn)) static void race(const struct access *a, bool wrote, uintptr_t address, bool writes,
                                           const void *pc)
{
    const struct allocation *m = memory_find(reinterpret_cast<const void *>(address));

    fprintf(stderr, "cuda_host: race in kernel %s, on ", block_now.name);
    if (m)
        fprintf(stderr, "byte %zu of %zu of the device's or pinned\n",
                (size_t)(address - reinterpret_cast<uintptr_t>(m->memory)), m->bytes);
    else
        fprintf(stderr, "%s memory\n", is_shared(address) ? "shared" : "other");
    fprintf(stderr, "cuda_host:   thread %u of block %u %s\n", a->thread, a->block, wrote ? "wrote" : "read");
    say_where(a->pc);
    fprintf(stderr, "cuda_host:   thread %u of block %u %s, with nothing between them\n", block_now.thread,
            block_now.block, writes ? "writes" : "reads");
    say_where(pc);
    abort();
}

static void remember_read(struct cell *c, const struct access *a, uintptr_t address)
{
    int i;

    if (is_own(&c->read[0]) && c->read[0].bytes == a->bytes && c->read[0].barriers == a->barriers &&
        c->read[0].warp_barriers == a->warp_barriers)
        return;
    for (i = 0; i < READS; i++)
        if (in_order(&c->read[i], address)) /* nothing to be feared of it that the new one does not show */
            break;
    c->read[i < READS ? i : READS - 1] = *a;
}

static void touch_word(uintptr_t address, uint8_t bytes, bool writes, const void *pc)
{
    struct cell *c = &cells[(address / 4) % CELLS];
    const struct access a = {block_now.launch,
                             block_now.block,
                             (uint16_t)block_now.thread,
                             bytes,
                             block_now.barriers,
                             block_now.warp_barriers[block_now.thread / 32],
                             stamp,
                             pc};
    int i;

    if (c->word != address / 4) {
        memset(c, 0, sizeof *c);
        c->word = address / 4;
    }
    if (c->write.bytes & bytes && !in_order(&c->write, address))
        race(&c->write, true, address, writes, pc);
    if (!writes) {
        remember_read(c, &a, address);
        return;
    }
    for (i = 0; i < READS; i++)
        if (c->read[i].bytes & bytes && !in_order(&c->read[i], address))
            race(&c->read[i], false, address, writes, pc);
    c->write = a;
}

static inline bool is_on_stack(const void *address)
{
    const unsigned char *bottom = static_cast<unsigned char *>(block_now.fiber->bottom);

    return address >= bottom && address < bottom + block_now.fiber->bytes;
}

static void touch(const void *p, size_t n, bool writes, const void *pc)
{
    uintptr_t address = reinterpret_cast<uintptr_t>(p), end = address + n;

    if (!block_now.runs || is_on_stack(p) || (p >= &cuda_host_here && p < &cuda_host_here + 1))
        return;
    if (!cells) {
        cells = static_cast<struct cell *>(calloc(CELLS, sizeof *cells));
        if (!cells)
            abort();
        dl_iterate_phdr(find_data, NULL);
    }
    while (address < end) {
        uintptr_t next = address / 4 * 4 + 4, stop = next < end ? next : end;

        touch_word(address, (uint8_t)((1u << (stop - address)) - 1) << address % 4, writes, pc);
        address = stop;
    }
}

/* ---- what the compiler calls ------------------------------------------------------------------------------------- */

extern "C" {

void __tsan_init(void)
{
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void)
{
}

#define ACCESS(n)                                                                                                      \
    void __tsan_read##n(void *p)                                                                                       \
    {                                                                                                                  \
        touch(p, n, false, __builtin_return_address(0));                                                               \
    }                                                                                                                  \
    void __tsan_write##n(void *p)                                                                                      \
    {                                                                                                                  \
        touch(p, n, true, __builtin_return_address(0));                                                                \
    }
#define UNALIGNED(n)                                                                                                   \
    void __tsan_unaligned_read##n(void *p)                                                                             \
    {                                                                                                                  \
        touch(p, n, false, __builtin_return_address(0));                                                               \
    }                                                                                                                  \
    void __tsan_unaligned_write##n(void *p)                                                                            \
    {                                                                                                                  \
        touch(p, n, true, __builtin_return_address(0));                                                                \
    }

ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
UNALIGNED(2)
UNALIGNED(4)
UNALIGNED(8)
UNALIGNED(16)

/* Of the host, for kernels have others; done in the strictest order. */
#define ATOMIC_DOES(bits, name, does)                                                                                  \
    uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *p, uint##bits##_t v, int)                     \
    {                                                                                                                  \
        return does(p, v, __ATOMIC_SEQ_CST);                                                                           \
    }
#define ATOMIC_SWAPS(bits, name)                                                                                       \
    int __tsan_atomic##bits##_##name(volatile uint##bits##_t *p, uint##bits##_t *old, uint##bits##_t v, int, int)      \
    {                                                                                                                  \
        return __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                      \
    }
#define ATOMIC(bits)                                                                                                   \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p, int)                                   \
    {                                                                                                                  \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                   \
    }                                                                                                                  \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *p, uint##bits##_t v, int)                                \
    {                                                                                                                  \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                                      \
    }                                                                                                                  \
    ATOMIC_DOES(bits, exchange, __atomic_exchange_n)                                                                   \
    ATOMIC_DOES(bits, fetch_add, __atomic_fetch_add)                                                                   \
    ATOMIC_DOES(bits, fetch_sub, __atomic_fetch_sub)                                                                   \
    ATOMIC_DOES(bits, fetch_and, __atomic_fetch_and)                                                                   \
    ATOMIC_DOES(bits, fetch_or, __atomic_fetch_or)                                                                     \
    ATOMIC_SWAPS(bits, compare_exchange_strong)                                                                        \
    ATOMIC_SWAPS(bits, compare_exchange_weak)

ATOMIC(8)
ATOMIC(32)
ATOMIC(64)

void __tsan_read_range(void *p, size_t n)
{
    touch(p, n, false, __builtin_return_address(0));
}
void __tsan_write_range(void *p, size_t n)
{
    touch(p, n, true, __builtin_return_address(0));
}
}
#endif
