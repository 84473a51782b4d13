/* SPDX-License-Identifier: Apache-2.0
 *
 * What identifies a model: a hash of its configuration and of every tensor as it lies in the files.
 *
 * The configuration enters as JSON without blanks and with sorted keys, so that the look of the file does not count;
 * but every key does, also one that changes no result. So a fingerprint may differ for models that compute the same,
 * and never agrees for models that do not. XXH3 is no cryptographic hash: it tells models apart, not forgers.
 */
#ifndef SSM_FINGERPRINT_H
#define SSM_FINGERPRINT_H

#include <jansson.h>

#include "ssm/safetensors.h"

/* `tensors` (NULL: none) as they were opened, before any alias; `file` is what messages call the configuration. */
int ssm_fingerprint(unsigned char out[SSM_FINGERPRINT_BYTES], const json_t *config, struct ssm_tensors *tensors,
                    const char *file, struct ssm_error *err);

/* Of the model whose fingerprint is `source`, discretised anew for a stream of another rate, which counts to nine digits.
 */
void ssm_fingerprint_at_rate(unsigned char out[SSM_FINGERPRINT_BYTES],
                             const unsigned char source[SSM_FINGERPRINT_BYTES], double rate);

#endif
