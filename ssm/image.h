/* SPDX-License-Identifier: Apache-2.0
 *
 * Images of states, inside libssm. The interface is in ssm/ssm.h, the bytes are in docs/MODELS.md:
 *
 *      0  8  magic "ssmstate"
 *      8  4  version, 1
 *     12  4  0
 *     16  8  bytes of the whole image
 *     24 16  the model's fingerprint
 *     40  8  frames consumed
 *     48     the parts of every layer (struct ssm_part), layers in the order of the graph, those of branches before the
 *            layer that has them; each (blocks, rows, columns), row major, one after another without padding
 *     -8  8  XXH3-64 of all before
 *
 * Numbers are little-endian. A part that a kind adds, drops or changes makes older images of such models unreadable:
 * raise SSM_IMAGE_VERSION then.
 */
#ifndef SSM_IMAGE_H
#define SSM_IMAGE_H

#include "ssm/layer.h"

#define SSM_IMAGE_VERSION 1u

/* The bytes of an image of a graph's state. */
size_t ssm_image_size(const struct ssm_sequence *graph);

#endif
