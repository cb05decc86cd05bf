/* splitmix64: small, seeded, the same everywhere. Not for secrets. */
#ifndef SYNA_BASE_RNG_H
#define SYNA_BASE_RNG_H

#include "base/internal.h"

static inline uint64_t rng_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
