/* The scalar level, which is the definition that the other levels must match bit for bit, and what
 * all levels share: norms, the finite check, and the step from a sum to a score. fmaf is exact by
 * the C standard; without hardware support it is slow, and still right. */
#include "base/internal.h"

#include "math/accumulate.h"
#include "math/bits.h"
#include "math/distance.h"
#include "math/half.h"
#include "math/int8.h"

#include <float.h>
#include <math.h>
#include <synadb/vector.h>

#define KERNEL static
#define LEVEL_ROWS 1

struct block {
    float lane[DISTANCE_LANES];
};

static inline struct block block_zero(void)
{
    return (struct block){{0}};
}

static inline struct block block_load(const void *p)
{
    struct block b;
    memcpy(b.lane, p, sizeof b.lane);
    return b;
}

static inline struct block block_load_tail(const void *p, size_t n)
{
    struct block b = {{0}};
    memcpy(b.lane, p, n * sizeof(float));
    return b;
}

static inline struct block block_fma(struct block a, struct block b, struct block c)
{
    for (int i = 0; i < DISTANCE_LANES; i++)
        c.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
    return c;
}

static inline struct block block_sub(struct block a, struct block b)
{
    for (int i = 0; i < DISTANCE_LANES; i++)
        a.lane[i] -= b.lane[i];
    return a;
}

static inline float block_sum(struct block a)
{
    for (int half = DISTANCE_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            a.lane[i] += a.lane[i + half];
    return a.lane[0];
}

#include "math/distance_loops.h"

#define HALF_TABLE half_scalar

static inline struct block block_load_f16(const void *halves)
{
    uint16_t half[DISTANCE_LANES];
    struct block b;
    memcpy(half, halves, sizeof half);
    for (int i = 0; i < DISTANCE_LANES; i++)
        b.lane[i] = half_from_f16(half[i]);
    return b;
}

static inline struct block block_load_bf16(const void *halves)
{
    uint16_t half[DISTANCE_LANES];
    struct block b;
    memcpy(half, halves, sizeof half);
    for (int i = 0; i < DISTANCE_LANES; i++)
        b.lane[i] = half_from_bf16(half[i]);
    return b;
}

static inline void block_store_f16(void *out, struct block b)
{
    uint16_t half[DISTANCE_LANES];
    for (int i = 0; i < DISTANCE_LANES; i++)
        half[i] = half_to_f16(b.lane[i]);
    memcpy(out, half, sizeof half);
}

static inline void block_store_bf16(void *out, struct block b)
{
    uint16_t half[DISTANCE_LANES];
    for (int i = 0; i < DISTANCE_LANES; i++)
        half[i] = half_to_bf16(b.lane[i]);
    memcpy(out, half, sizeof half);
}

static inline void block_store(float *out, struct block b)
{
    memcpy(out, b.lane, sizeof b.lane);
}

#include "math/half_loops.h"

LEVEL(kernels_scalar, "scalar", int8_scalar, half_scalar, bits_scalar, accumulate_plain);

float vector_norm(const struct kernels *kernels, const float *v, size_t n)
{
    return sqrtf(kernels->dot(v, v, n));
}

size_t vector_first_not_finite(const float *v, size_t n)
{
    size_t i = 0;
    while (i < n && isfinite(v[i]))
        i++;
    return i;
}

/* Bring a distance into the finite range. NaN (infinite terms of both signs) sorts last. */
static float saturate(float distance)
{
    if (distance < -FLT_MAX)
        return -FLT_MAX;
    return distance <= FLT_MAX ? distance : FLT_MAX;
}

float score_rank(int32_t metric, float sum, float norm_a, float norm_b)
{
    switch (metric) {
    case SYNA_METRIC_DOT_PRODUCT:
        return saturate(-sum);
    case SYNA_METRIC_EUCLIDEAN:
        return saturate(sum);
    default:
        if (norm_a == 0 || norm_b == 0)
            return 1;
        /* Two divisions: the product of the norms may overflow where the quotient does not. The
         * rounded cosine can leave [-1, 1] by an ulp or two. */
        float distance = 1 - sum / norm_a / norm_b;
        return distance < 0 ? 0 : distance > 2 && distance < 3 ? 2 : saturate(distance);
    }
}

float score_final(int32_t metric, float rank)
{
    return metric == SYNA_METRIC_EUCLIDEAN && rank < FLT_MAX ? sqrtf(rank) : rank;
}

float score_rank_limit(int32_t metric, float radius)
{
    if (metric != SYNA_METRIC_EUCLIDEAN)
        return radius;
    if (radius < 0)
        return -1;
    /* The largest square whose rounded root does not exceed the radius: start at its rounded square
     * and take the last steps one float at a time. */
    float limit = saturate(radius * radius);
    while (limit > 0 && sqrtf(limit) > radius)
        limit = nextafterf(limit, 0);
    while (limit < FLT_MAX && sqrtf(nextafterf(limit, FLT_MAX)) <= radius)
        limit = nextafterf(limit, FLT_MAX);
    /* FLT_MAX itself is the rank of what overflowed, whose final score is FLT_MAX too. */
    return limit == FLT_MAX && radius < FLT_MAX ? nextafterf(FLT_MAX, 0) : limit;
}
