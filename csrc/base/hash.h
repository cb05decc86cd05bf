/* A fast seeded 64-bit hash of byte strings for in-memory tables: multiply-and-fold of 16-byte
 * steps (the idea of wyhash). Not for files that outlive a seed, not against malice: the seed comes
 * from the file's uuid. */
#ifndef SYNA_BASE_HASH_H
#define SYNA_BASE_HASH_H

#include "base/bytes.h"

static inline uint64_t hash_fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 u128;
    u128 product = (u128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t len)
{
    const uint64_t k0 = 0x9e3779b97f4a7c15u, k1 = 0xd6e8feb86659fd93u, k2 = 0xa0761d6478bd642fu;
    const uint8_t *p = bytes;
    uint64_t h = seed ^ hash_fold(seed ^ k0, (uint64_t)len ^ k1), a, b;
    size_t left = len;
    while (left > 16) {
        h = hash_fold(load_u64(p) ^ k1, load_u64(p + 8) ^ h);
        p += 16;
        left -= 16;
    }
    if (left >= 8) {
        a = load_u64(p);
        b = load_u64(p + left - 8);
    } else if (left >= 4) {
        a = load_u32(p);
        b = load_u32(p + left - 4);
    } else if (left > 0) {
        a = ((uint64_t)p[0] << 16) | ((uint64_t)p[left >> 1] << 8) | p[left - 1];
        b = 0;
    } else {
        a = b = 0;
    }
    return hash_fold(k2 ^ (uint64_t)len, hash_fold(a ^ k0, b ^ h));
}

#endif
