/* SHA-256 (FIPS 180-4), scalar, SHA-NI or ARMv8, picked once at run time. */
#ifndef SYNA_BASE_SHA256_H
#define SYNA_BASE_SHA256_H

#include "base/internal.h"

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *bytes, size_t len);
void sha256_finish(struct sha256 *s, uint8_t digest[32]);

#endif
