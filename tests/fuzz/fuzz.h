/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz targets: each takes any bytes and must neither crash nor read beyond them. `make fuzz` makes a libFuzzer program
 * of every fuzz_NAME.c by calling its function LLVMFuzzerTestOneInput; `make check` replays tests/fuzz/corpus/NAME
 * through the same functions. An input that once broke something belongs into the corpus.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int fuzz_safetensors(const uint8_t *bytes, size_t size);
int fuzz_codec(const uint8_t *bytes, size_t size);
int fuzz_image(const uint8_t *bytes, size_t size);
int fuzz_config(const uint8_t *bytes, size_t size);

#endif
