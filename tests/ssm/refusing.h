/* SPDX-License-Identifier: Apache-2.0
 * Models that must not load: what the refusal says. */
#ifndef TESTS_SSM_REFUSING_H
#define TESTS_SSM_REFUSING_H

#include "tests/ssm/making.h"

/* The model of these channels is refused with the status, and the message has every word up to NULL. Takes m. */
void refusing_check(struct making *m, uint32_t in, uint32_t out, int status, ...);

#endif
