/* The definition of the conversions, in integer arithmetic. */
#include "base/internal.h"

#include "math/half.h"

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float half_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    if (exponent == 31)
        return float_of(sign | 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0));
    if (exponent == 0) /* mantissa * 2^-24, exact */
        return float_of(sign | bits_of((float)mantissa * 0x1p-24f));
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* A value and a half of the last place are dropped from the lower `drop` bits; ties to even. */
static uint32_t round_off(uint32_t bits, unsigned drop)
{
    uint32_t half = (uint32_t)1 << (drop - 1);
    return (bits + half - 1 + (bits >> drop & 1)) >> drop;
}

uint16_t half_to_f16(float value)
{
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (size >> 13 & 0x3ff));
    if (size >= 0x477ff000) /* 65,520: halfway from the largest to what would follow */
        return (uint16_t)(sign | 0x7c00);
    if (size >= 0x38800000) /* 2^-14; rounding may carry into the exponent, rightly */
        return (uint16_t)(sign | round_off(size - 0x38000000, 13));
    if (size < 0x33000000) /* below half of the least, 2^-25 */
        return (uint16_t)sign;
    return (uint16_t)(sign | round_off((size & 0x7fffff) | 0x800000, 126 - (size >> 23)));
}

float half_from_bf16(uint16_t half)
{
    return float_of((uint32_t)half << 16);
}

uint16_t half_to_bf16(float value)
{
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)round_off(bits, 16);
}
