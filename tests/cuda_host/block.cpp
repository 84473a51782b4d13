/* SPDX-License-Identifier: Apache-2.0
 *
 * How a block runs; see cuda_runtime.h.
 *
 * A fiber begins one thread after another, as plain calls. When a thread has to wait, its fiber is left where it is and
 * another goes on: with a thread that need not wait any more, else with those that have not begun. So a kernel
 * without barriers runs on one fiber, and one whose lanes only shuffle needs as many as a warp has lanes.
 *
 * Only one launch runs at a time (the lock is stream.cpp's), which is why all of this is static.
 */
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda_host/block.h"
#include "tests/cuda_host/cuda_runtime.h"
#include "tests/cuda_host/fiber.h"

#define THREADS_MAX 1024u
#define LANES       32u
#define ALL         0xffffffffu /* lanes, as a mask: those that have not returned */

struct thread {
    struct fiber *fiber; /* while it waits */
    uint3 place;
    uint64_t value, result; /* what it brought to a meeting, and what it takes away */
    uint32_t source;
    uint32_t mask; /* 0: it waits for the block */
    bool waits;
};

/* Lanes that wait for one another. */
struct group {
    uint32_t mask, arrived;
    enum cuda_host_meeting what;
};

struct warp {
    uint32_t alive; /* lanes that have not returned */
    uint32_t groups;
    struct group group[LANES];
};

struct cuda_host_here cuda_host_here;
struct block_now block_now;

static const struct cuda_host_kernel *kernel;
static struct thread thread[THREADS_MAX];
static struct warp warp[THREADS_MAX / LANES];
static uint32_t threads, begun, alive; /* of the block */
static uint32_t turns;                 /* calls of cuda_wait_turn in it */
static bool backwards;                 /* the order in which threads begin and go on */
static uint32_t self;                  /* the thread that runs */

static uint32_t at_barrier, votes;
static uint64_t barrier_result;

/* Threads that need not wait any more, first come, first served. */
static uint32_t ready[THREADS_MAX], ready_first, ready_count;

static struct fiber home;     /* the thread of the host */
static struct fiber *running; /* NULL: home */
static struct fiber *idle;    /* those without a thread */

static uint64_t seed = 1, launches;

/* Ends the process: what the kernel does is wrong on any device. */
__attribute__((noreturn)) static void fail(uint32_t t, const char *what)
{
    const uint3 *b = &cuda_host_here.block, *p = &thread[t].place;
    uint32_t i, waiting = 0;

    fprintf(stderr, "cuda_host: kernel %s, block (%u, %u, %u), thread (%u, %u, %u): %s\n", kernel->name, b->x, b->y,
            b->z, p->x, p->y, p->z, what);
    for (i = 0; i < begun && waiting < 8; i++) {
        const struct thread *w = &thread[i];

        if (!w->waits)
            continue;
        waiting++;
        fprintf(stderr, "cuda_host:   thread (%u, %u, %u) waits for ", w->place.x, w->place.y, w->place.z);
        if (w->mask)
            fprintf(stderr, "lanes %08x of its warp\n", w->mask);
        else
            fprintf(stderr, "the block: %u of %u came\n", at_barrier, alive);
    }
    abort();
}

static void go(struct fiber *to)
{
    struct fiber *from = running ? running : &home;

    running = to == &home ? NULL : to;
    fiber_switch(from, to);
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static void now_is(uint32_t t)
{
    self = block_now.thread = t;
    block_now.fiber = running;
    cuda_host_here.thread = thread[t].place;
    cuda_host_here.lane = t % LANES;
}

static void work(void);

static void wait_here(void)
{
    uint32_t me = self;
    struct fiber *to;

    thread[me].fiber = running;
    thread[me].waits = true;
    if (ready_count > 0) {
        ready_count--;
        to = thread[ready[ready_first++ % THREADS_MAX]].fiber;
    } else if (begun < threads) {
        to = idle;
        if (to)
            idle = to->next;
        else if (!(to = fiber_new(work)))
            fail(me, "no memory for its stack");
    } else {
        fail(me, "nobody can go on");
    }
    go(to);
    now_is(me);
}

static void make_ready(uint32_t t)
{
    thread[t].waits = false;
    ready[(ready_first + ready_count++) % THREADS_MAX] = t;
}

/* Those of `lanes` of warp w, but the thread that runs. */
static void make_lanes_ready(uint32_t w, uint32_t lanes)
{
    uint32_t i;

    for (i = 0; i < LANES; i++) {
        uint32_t lane = backwards ? LANES - 1 - i : i;

        if (lanes >> lane & 1 && thread[w * LANES + lane].waits)
            make_ready(w * LANES + lane);
    }
}

/* ---- the block's barrier ----------------------------------------------------------------------------------------- */

static bool barrier_passes(void)
{
    uint32_t i;

    if (at_barrier == 0 || at_barrier != alive)
        return false;
    barrier_result = (uint64_t)alive << 32 | votes;
    at_barrier = votes = 0;
    block_now.barriers++;
    for (i = 0; i < threads; i++) {
        uint32_t t = backwards ? threads - 1 - i : i;

        if (thread[t].waits)
            make_ready(t);
    }
    return true;
}

uint64_t cuda_host_block_barrier(bool vote)
{
    thread[self].mask = 0;
    at_barrier++;
    votes += vote;
    if (!barrier_passes())
        wait_here();
    return barrier_result;
}

/* ---- meetings of lanes ------------------------------------------------------------------------------------------- */

/* Whether group g of warp w is complete; then each lane has its result, and those that wait are ready. */
static bool group_passes(uint32_t w, uint32_t g)
{
    struct group *group = &warp[w].group[g];
    struct thread *lanes = &thread[w * LANES];
    uint32_t lane, arrived = group->arrived, ballot = 0;

    if (arrived != (group->mask & warp[w].alive))
        return false;
    if (group->what == CUDA_HOST_VOTE)
        for (lane = 0; lane < LANES; lane++)
            if (arrived >> lane & 1 && lanes[lane].value)
                ballot |= 1u << lane;
    for (lane = 0; lane < LANES; lane++) {
        if (!(arrived >> lane & 1))
            continue;
        if (group->what == CUDA_HOST_VOTE)
            lanes[lane].result = (uint64_t)arrived << 32 | ballot;
        else if (group->what == CUDA_HOST_SHUFFLE)
            lanes[lane].result =
                arrived >> (lanes[lane].source % LANES) & 1 ? lanes[lanes[lane].source % LANES].value : UINT64_MAX;
    }
    block_now.warp_barriers[w] += group->what == CUDA_HOST_SYNC;
    *group = warp[w].group[--warp[w].groups];
    make_lanes_ready(w, arrived);
    return true;
}

uint64_t cuda_host_meet(unsigned mask, enum cuda_host_meeting what, uint64_t value, unsigned source)
{
    struct thread *t = &thread[self];
    uint32_t w = self / LANES, bit = 1u << self % LANES, g;

    if (!(mask & bit))
        fail(self, "the mask lacks the lane that brings it");
    if (mask != ALL && mask & ~warp[w].alive)
        fail(self, "the mask has lanes that returned, or never were");
    for (g = 0; g < warp[w].groups && warp[w].group[g].mask != mask; g++)
        ;
    if (g == warp[w].groups) {
        warp[w].group[g] = (struct group){mask, 0, what};
        warp[w].groups++;
    }
    if (warp[w].group[g].what != what)
        fail(self, "lanes of one mask meet for unlike operations");
    warp[w].group[g].arrived |= bit;
    t->mask = mask;
    t->value = value;
    t->source = source;
    if (!group_passes(w, g))
        wait_here();
    return t->result;
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

/* Who waits for the others waits no longer for one that returned. */
static void thread_returns(void)
{
    uint32_t w = self / LANES, g;

    alive--;
    warp[w].alive &= ~(1u << self % LANES);
    for (g = warp[w].groups; g-- > 0;) {
        if (warp[w].group[g].mask != ALL && warp[w].group[g].mask & ~warp[w].alive)
            fail(self, "returned, and is in a mask that others wait for");
        group_passes(w, g);
    }
    barrier_passes();
}

static void work(void)
{
    struct fiber *me = running;

    fiber_begin(me);
    for (;;) {
        if (ready_count > 0 || alive == 0) {
            me->next = idle;
            idle = me;
            if (alive == 0) {
                go(&home);
            } else {
                ready_count--;
                go(thread[ready[ready_first++ % THREADS_MAX]].fiber);
            }
        } else if (begun < threads) {
            begun++;
            now_is(backwards ? threads - begun : begun - 1);
            kernel->thread(kernel);
            thread_returns();
        } else {
            fail(self, "returned, and nobody can go on");
        }
    }
}

void cuda_host_turn(void)
{
    turns++;
}

static void block_run(uint64_t number)
{
    dim3 shape = kernel->blocks;
    uint32_t w;

    cuda_host_here.block = uint3{(unsigned)(number % shape.x), (unsigned)(number / shape.x % shape.y),
                                 (unsigned)(number / shape.x / shape.y)};
    block_now.block = (uint32_t)number;
    if (kernel->shared > 0)
        memset(cuda_host_here.shared, 0xff, kernel->shared);
    for (w = 0; w * LANES < threads; w++) {
        uint32_t lanes = threads - w * LANES;

        warp[w].alive = lanes < LANES ? (1u << lanes) - 1 : ALL;
        warp[w].groups = 0;
    }
    begun = 0;
    alive = threads;
    if (!idle && !(idle = fiber_new(work)))
        fail(0, "no memory for its stack");
    struct fiber *first = idle;
    idle = first->next;
    turns = 0;
    go(first);
    if (kernel->soon && turns != threads)
        fail(0, "or another one of its block: returned without cuda_wait_turn, or called it twice");
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

/* Static shared memory, which no launch finds as another left it. Its red zones are closed to the sanitizer's memset. */
extern "C" {
extern volatile uint64_t __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern volatile uint64_t __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));
}

__attribute__((no_sanitize("address", "undefined"))) static void fill_static_shared(void)
{
    volatile uint64_t *p = __start_cuda_shared;

    if (p) /* the section is there */
        for (; p + 1 <= __stop_cuda_shared; p++)
            *p = UINT64_MAX;
}

void block_seed(uint64_t s)
{
    seed = s;
}

uint64_t block_launches(void)
{
    return launches;
}

/* Bits that look like chance, the same for one seed and launch. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static void places_are(dim3 shape)
{
    uint32_t t;

    for (t = 0; t < threads; t++) {
        thread[t].place = uint3{t % shape.x, t / shape.x % shape.y, t / shape.x / shape.y};
        thread[t].waits = false;
    }
}

void block_run_all(const struct cuda_host_kernel *k)
{
    uint64_t blocks = (uint64_t)k->blocks.x * k->blocks.y * k->blocks.z, i;
    uint64_t chance = mix(seed + 0x9e3779b97f4a7c15 * ++launches);
    fenv_t floating;

    kernel = k;
    block_now.runs = true;
    block_now.name = k->name;
    block_now.launch = (uint32_t)launches;
    block_now.shared = k->shared;
    threads = k->threads.x * k->threads.y * k->threads.z;
    backwards = chance & 1;
    cuda_host_here.threads = k->threads;
    cuda_host_here.blocks = k->blocks;
    cuda_host_here.shared = k->shared > 0 ? malloc(k->shared) : NULL;
    places_are(k->threads);
    fiber_here(&home);
    if (k->shared > 0 && !cuda_host_here.shared)
        fail(0, "no memory for what it shares");
    fill_static_shared();
    /* An engine's thread may flush small numbers to zero; a device does not. */
    fegetenv(&floating);
    fesetenv(FE_DFL_ENV);
    for (i = 0; i < blocks; i++) {
        uint64_t b = (i + (chance >> 8) % blocks) % blocks;

        block_run(chance & 2 ? blocks - 1 - b : b);
    }
    fesetenv(&floating);
    free(cuda_host_here.shared);
    cuda_host_here.shared = NULL;
    kernel = NULL;
    block_now.runs = false;
}
