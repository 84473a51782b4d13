/* SPDX-License-Identifier: Apache-2.0
 *
 * Stacks to switch between, on one thread of the host. A switch saves the registers that a call must keep and changes
 * the stack pointer: no system call (swapcontext makes one for the signal mask), a few nanoseconds. The sanitizers are
 * told of every switch. Machines other than x86-64 and aarch64 use swapcontext, and -DFIBER_UCONTEXT does everywhere.
 *
 * Not for several threads at once: a fiber may go on on another thread, when the one that ran it is done with it.
 */
#ifndef CUDA_HOST_FIBER_H
#define CUDA_HOST_FIBER_H

#include <stddef.h>

struct fiber {
    struct fiber *next; /* for who keeps lists */
    void *pointer;      /* of the stack, while it does not run */
    void *bottom;       /* of the stack, and its bytes: for the address sanitizer */
    size_t bytes;
    void *fake;    /* the address sanitizer's */
    void *shadow;  /* the thread sanitizer's */
    void *context; /* where there is no switch of ours */
};

/* The stack of the thread that calls: where fibers are switched to from, and back to. */
void fiber_here(struct fiber *f);
/* A stack on which `body` begins at the first switch; it calls fiber_begin before anything else, and never returns.
 * NULL: no memory. Never freed. */
struct fiber *fiber_new(void (*body)(void));
void fiber_begin(struct fiber *self);
/* Returns when somebody switches back to `from`. */
void fiber_switch(struct fiber *from, struct fiber *to);

#endif
