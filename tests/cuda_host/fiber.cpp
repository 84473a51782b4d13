/* SPDX-License-Identifier: Apache-2.0
 * Stacks to switch between; see fiber.h. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/cuda_host/fiber.h"

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(FIBER_UCONTEXT)
#define OWN_SWITCH 1
#else
#define OWN_SWITCH 0
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

/* Frames are several times as large where a sanitizer puts room around variables. Pages are taken when touched. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES ((size_t)512 << 10)
#else
#define STACK_BYTES ((size_t)64 << 10)
#endif

#if OWN_SWITCH
/* Saves what a call must keep on the stack, leaves the stack pointer in *from, and takes all that from the other. */
extern "C" void cuda_host_switch(void **from, void *to);
#endif

#if OWN_SWITCH && defined(__x86_64__)
asm(".text\n"
    ".globl cuda_host_switch\n"
    ".hidden cuda_host_switch\n"
    ".type cuda_host_switch, @function\n"
    "cuda_host_switch:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size cuda_host_switch, . - cuda_host_switch\n");

/* As if the body had been called by nobody: six registers, where to go, and a return address of 0. */
static void *first_pointer(unsigned char *top, void (*body)(void))
{
    uint64_t *p = reinterpret_cast<uint64_t *>(top) - 8;

    memset(p, 0, 64);
    p[6] = reinterpret_cast<uint64_t>(body);
    return p;
}
#elif OWN_SWITCH
asm(".text\n"
    ".globl cuda_host_switch\n"
    ".hidden cuda_host_switch\n"
    ".type cuda_host_switch, %function\n"
    "cuda_host_switch:\n"
    "    sub sp, sp, #160\n"
    "    stp x19, x20, [sp, #0]\n"
    "    stp x21, x22, [sp, #16]\n"
    "    stp x23, x24, [sp, #32]\n"
    "    stp x25, x26, [sp, #48]\n"
    "    stp x27, x28, [sp, #64]\n"
    "    stp x29, x30, [sp, #80]\n"
    "    stp d8, d9, [sp, #96]\n"
    "    stp d10, d11, [sp, #112]\n"
    "    stp d12, d13, [sp, #128]\n"
    "    stp d14, d15, [sp, #144]\n"
    "    mov x9, sp\n"
    "    str x9, [x0]\n"
    "    mov sp, x1\n"
    "    ldp x19, x20, [sp, #0]\n"
    "    ldp x21, x22, [sp, #16]\n"
    "    ldp x23, x24, [sp, #32]\n"
    "    ldp x25, x26, [sp, #48]\n"
    "    ldp x27, x28, [sp, #64]\n"
    "    ldp x29, x30, [sp, #80]\n"
    "    ldp d8, d9, [sp, #96]\n"
    "    ldp d10, d11, [sp, #112]\n"
    "    ldp d12, d13, [sp, #128]\n"
    "    ldp d14, d15, [sp, #144]\n"
    "    add sp, sp, #160\n"
    "    ret\n"
    ".size cuda_host_switch, . - cuda_host_switch\n");

/* The body's address stands in the place of the link register. */
static void *first_pointer(unsigned char *top, void (*body)(void))
{
    uint64_t *p = reinterpret_cast<uint64_t *>(top) - 20;

    memset(p, 0, 160);
    p[11] = reinterpret_cast<uint64_t>(body);
    return p;
}
#endif

#if !OWN_SWITCH
/* Apart: it could return twice, and compilers keep no variable across that. */
__attribute__((noinline)) static int fill_context(ucontext_t *context)
{
    return getcontext(context);
}

static void *first_context(const struct fiber *f, void (*body)(void))
{
    ucontext_t *context = static_cast<ucontext_t *>(calloc(1, sizeof *context));

    if (!context || fill_context(context))
        return NULL;
    context->uc_stack.ss_sp = f->bottom;
    context->uc_stack.ss_size = f->bytes;
    makecontext(context, body, 0);
    return context;
}
#endif

void fiber_here(struct fiber *f)
{
    memset(f, 0, sizeof *f);
#if !OWN_SWITCH
    static ucontext_t here; /* one thread at a time */

    f->context = &here;
#endif
#ifdef __SANITIZE_THREAD__
    f->shadow = __tsan_get_current_fiber();
#endif
}

struct fiber *fiber_new(void (*body)(void))
{
    struct fiber *f = static_cast<struct fiber *>(calloc(1, sizeof *f));
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *memory;

    if (!f)
        return NULL;
    /* The lowest page stays closed: a stack that runs over ends there. */
    memory = static_cast<unsigned char *>(
        mmap(NULL, page + STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE)) {
        free(f);
        return NULL;
    }
    f->bottom = memory + page;
    f->bytes = STACK_BYTES;
#if OWN_SWITCH
    f->pointer = first_pointer(memory + page + STACK_BYTES, body);
#else
    f->context = first_context(f, body);
    if (!f->context)
        return NULL;
#endif
#ifdef __SANITIZE_THREAD__
    f->shadow = __tsan_create_fiber(0);
#endif
    return f;
}

/* Whom the running stack was switched to from: the address sanitizer tells that one's bounds on arrival. */
static struct fiber *came_from;

void fiber_begin(struct fiber *self)
{
#ifdef __SANITIZE_ADDRESS__
    const void *bottom;
    size_t bytes;

    __sanitizer_finish_switch_fiber(self->fake, &bottom, &bytes);
    came_from->bottom = const_cast<void *>(bottom);
    came_from->bytes = bytes;
#endif
    (void)self;
}

__attribute__((no_sanitize("thread"))) void fiber_switch(struct fiber *from, struct fiber *to)
{
    came_from = from;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from->fake, to->bottom, to->bytes);
#endif
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(to->shadow, 0);
#endif
#if OWN_SWITCH
    cuda_host_switch(&from->pointer, to->pointer);
#else
    swapcontext(static_cast<ucontext_t *>(from->context), static_cast<ucontext_t *>(to->context));
#endif
    fiber_begin(from);
}
