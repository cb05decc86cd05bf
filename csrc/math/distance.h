/* Distances between float32 vectors, with the same bits on every machine.
 *
 * Canonical sum: element i goes to lane i % 32; each lane is a chain of fused multiply-adds from +0
 * in order of i, the missing elements of the last 32 counting as zeros; the lanes are then added in
 * a fixed tree, lane j + lane j+16, then +8, +4, +2, +1. Every level (scalar, AVX2, AVX-512, NEON)
 * computes exactly this, so a level is a matter of speed only.
 *
 * Error against exact arithmetic: |err| <= (n/32 + 8) * 2^-24 * sum |a_i b_i|, unless something
 * underflows; for l2sq the same with squares plus the rounding of the differences. */
#ifndef SYNA_MATH_DISTANCE_H
#define SYNA_MATH_DISTANCE_H

#include "base/internal.h"

#define DISTANCE_LANES 32

/* One level. Vectors need no alignment and no padding. The _rows forms write out[i] for `count` rows
 * that start `stride` floats apart, sharing the query's registers between rows. */
struct kernels {
    const char *name;
    float (*dot)(const float *a, const float *b, size_t n);
    float (*l2sq)(const float *a, const float *b, size_t n);
    void (*dot_rows)(const float *query, const float *rows, size_t stride, size_t count, size_t n,
                     float *out);
    void (*l2sq_rows)(const float *query, const float *rows, size_t stride, size_t count, size_t n,
                      float *out);
    /* The same for rows anywhere, which need not be aligned as floats are. */
    void (*dot_many)(const float *query, const void *const *rows, size_t count, size_t n, float *out);
    void (*l2sq_many)(const float *query, const void *const *rows, size_t count, size_t n,
                      float *out);
    const struct int8_kernels *int8; /* math/int8.h */
    const struct half_kernels *half; /* math/half.h */
    const struct bits_kernels *bits; /* math/bits.h */
    const struct accumulate *accumulate; /* math/accumulate.h */
};

/* The best level of this machine, or the one that the environment variable SYNADB_SIMD names
 * (scalar, avx2, avx2vnni, avx512, avx512vnni, avx512vpop, amx, neon, neondot) when the machine has it.
 * Chosen on the first call. */
const struct kernels *kernels_get(void);

/* A level by name; NULL when it does not exist or this machine cannot run it. */
const struct kernels *kernels_find(const char *name);

/* Euclidean length: the root of the canonical sum. NaN or infinite if an element is, or when the
 * sum overflows. */
float vector_norm(const struct kernels *kernels, const float *v, size_t n);

/* Position of the first element that is NaN or infinite, n when all are finite. */
size_t vector_first_not_finite(const float *v, size_t n);

/* The distances that searches rank by, from a sum and the two norms: SYNA_METRIC_*. Euclidean ranks
 * by squares; score_final takes the root. Whatever is not finite becomes FLT_MAX, except an
 * overflowing similarity of the dot product, which becomes -FLT_MAX. */
float score_rank(int32_t metric, float sum, float norm_a, float norm_b);
float score_final(int32_t metric, float rank);
/* The largest rank whose final score is <= radius; smaller than every rank when there is none. */
float score_rank_limit(int32_t metric, float radius);

extern const struct kernels kernels_scalar;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2, kernels_avx2vnni, kernels_avx512, kernels_avx512vnni,
    kernels_avx512vpop, kernels_amx; /* the latter: INT8_AMX */
#elif defined(__aarch64__)
extern const struct kernels kernels_neon, kernels_neondot; /* the latter: INT8_NEONDOT */
#endif

#endif
