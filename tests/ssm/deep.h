/* SPDX-License-Identifier: Apache-2.0
 * A deep model that holds every kind of layer that a signal can pass, for tests of what must hold whatever the
 * graph. */
#ifndef TESTS_SSM_DEEP_H
#define TESTS_SSM_DEEP_H

#include "ssm/ssm.h"

enum { DEEP_IN = 3, DEEP_OUT = 4 };

/* The caller's reference; what fails fails the test. */
struct ssm_model *deep_new(void);

#endif
