/* tensor_convert.c - elements of any dtype by value as float, double, int32 or int64. Pure.
 *
 * An element is loaded as a double or as a 64-bit integer, whichever holds it exactly, and stored from
 * there: to floating point rounded to nearest, to an integer only if it is one and in range. */
#include "base/internal.h"

#include "engine/tensor_core.h"

#include <math.h>

#define STEP 256u

/* ---------------------------------------------------------------- small floats */

/* A float of 1 sign bit, `exponent` and `mantissa` bits, with infinities and NaN as IEEE 754 has them. */
static double small_float(uint32_t bits, unsigned exponent, unsigned mantissa)
{
    uint32_t top = (1u << exponent) - 1, e = (bits >> mantissa) & top;
    uint32_t m = bits & ((1u << mantissa) - 1);
    int bias = (int)(top >> 1);
    double value;
    if (e == top)
        value = m ? (double)NAN : (double)INFINITY;
    else if (e == 0)
        value = ldexp((double)m, 1 - bias - (int)mantissa);
    else
        value = ldexp((double)(m | 1u << mantissa), (int)e - bias - (int)mantissa);
    return bits >> (exponent + mantissa) & 1 ? -value : value;
}

static double from_half(const uint8_t *p) { return small_float(load_u16(p), 5, 10); }
static double from_e5m2(const uint8_t *p) { return small_float(*p, 5, 2); }

/* Without infinities: the largest exponent is an ordinary one, and only all ones are NaN. */
static double from_e4m3(const uint8_t *p)
{
    if ((*p & 0x7f) == 0x7f)
        return (double)NAN;
    if ((*p & 0x78) == 0x78) {
        double value = ldexp((double)(8 | (*p & 7)), 15 - 7 - 3);
        return *p & 0x80 ? -value : value;
    }
    return small_float(*p, 4, 3);
}

static double from_bfloat16(const uint8_t *p)
{
    uint32_t bits = (uint32_t)load_u16(p) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static double from_f32(const uint8_t *p)
{
    float value;
    memcpy(&value, p, sizeof value);
    return (double)value;
}

/* A complex value is its real part when it has no other. */
static double real_of(double real, double imaginary, bool *refused)
{
    *refused |= imaginary != 0 || isnan(imaginary);
    return real;
}

/* ---------------------------------------------------------------- loading */

/* Elements as doubles; false: they are integers. *refused: the first complex one with an imaginary part,
 * or n. */
static bool load_floats(int32_t dtype, const uint8_t *p, size_t n, double *to, size_t *refused)
{
    bool no = false;
    *refused = n;
    for (size_t i = 0; i < n; i++) {
        switch (dtype) {
        case SYNA_DTYPE_FLOAT32: to[i] = from_f32(p + 4 * i); break;
        case SYNA_DTYPE_FLOAT64: to[i] = load_f64(p + 8 * i); break;
        case SYNA_DTYPE_FLOAT16: to[i] = from_half(p + 2 * i); break;
        case SYNA_DTYPE_BFLOAT16: to[i] = from_bfloat16(p + 2 * i); break;
        case SYNA_DTYPE_FLOAT8_E4M3: to[i] = from_e4m3(p + i); break;
        case SYNA_DTYPE_FLOAT8_E5M2: to[i] = from_e5m2(p + i); break;
        case SYNA_DTYPE_COMPLEX64:
            to[i] = real_of(from_f32(p + 8 * i), from_f32(p + 8 * i + 4), &no);
            break;
        case SYNA_DTYPE_COMPLEX128:
            to[i] = real_of(load_f64(p + 16 * i), load_f64(p + 16 * i + 8), &no);
            break;
        default: return false;
        }
        if (no && *refused == n)
            *refused = i;
    }
    return true;
}

/* Elements as integers; 64 bits without a sign as they are, for store_integers to tell. */
static void load_integers(int32_t dtype, const uint8_t *p, size_t n, int64_t *to)
{
    for (size_t i = 0; i < n; i++) {
        switch (dtype) {
        case SYNA_DTYPE_INT8: to[i] = (int8_t)p[i]; break;
        case SYNA_DTYPE_INT16: to[i] = (int16_t)load_u16(p + 2 * i); break;
        case SYNA_DTYPE_INT32: to[i] = (int32_t)load_u32(p + 4 * i); break;
        case SYNA_DTYPE_UINT16: to[i] = load_u16(p + 2 * i); break;
        case SYNA_DTYPE_UINT32: to[i] = load_u32(p + 4 * i); break;
        case SYNA_DTYPE_INT64:
        case SYNA_DTYPE_UINT64: to[i] = (int64_t)load_u64(p + 8 * i); break;
        default: to[i] = p[i]; break; /* UINT8, BOOL */
        }
    }
}

/* ---------------------------------------------------------------- storing */

static bool is_integer(double v, double low, double high)
{
    return v >= low && v < high && v == trunc(v);
}

static size_t store_floats(const double *from, int32_t dtype, uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float narrow = (float)from[i];
        switch (dtype) {
        case SYNA_DTYPE_FLOAT32: memcpy(to + 4 * i, &narrow, sizeof narrow); break;
        case SYNA_DTYPE_FLOAT64: store_f64(to + 8 * i, from[i]); break;
        case SYNA_DTYPE_INT32:
            if (!is_integer(from[i], -0x1p31, 0x1p31))
                return i;
            store_u32(to + 4 * i, (uint32_t)(int32_t)from[i]);
            break;
        default:
            if (!is_integer(from[i], -0x1p63, 0x1p63))
                return i;
            store_u64(to + 8 * i, (uint64_t)(int64_t)from[i]);
        }
    }
    return n;
}

static size_t store_integers(const int64_t *from, bool no_sign, int32_t dtype, uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool large = no_sign && from[i] < 0;
        float narrow = large ? (float)(uint64_t)from[i] : (float)from[i];
        switch (dtype) {
        case SYNA_DTYPE_FLOAT32: memcpy(to + 4 * i, &narrow, sizeof narrow); break;
        case SYNA_DTYPE_FLOAT64:
            store_f64(to + 8 * i, large ? (double)(uint64_t)from[i] : (double)from[i]);
            break;
        case SYNA_DTYPE_INT32:
            if (large || from[i] < INT32_MIN || from[i] > INT32_MAX)
                return i;
            store_u32(to + 4 * i, (uint32_t)(int32_t)from[i]);
            break;
        default:
            if (large)
                return i;
            store_u64(to + 8 * i, (uint64_t)from[i]);
        }
    }
    return n;
}

void tensor_convert(int32_t from, const void *in, int32_t to, void *out, size_t count, size_t *bad)
{
    const uint8_t *p = in;
    uint8_t *q = out;
    size_t item = tensor_item_bytes(from), made = tensor_item_bytes(to), refused;
    *bad = count;
    if (from == to) {
        memcpy(out, in, count * item);
        return;
    }
    for (size_t done = 0; done < count; done += STEP) {
        double floats[STEP];
        int64_t integers[STEP];
        size_t n = MIN(count - done, (size_t)STEP), good;
        if (load_floats(from, p + done * item, n, floats, &refused)) {
            good = MIN(store_floats(floats, to, q + done * made, n), refused);
        } else {
            load_integers(from, p + done * item, n, integers);
            good = store_integers(integers, from == SYNA_DTYPE_UINT64, to, q + done * made, n);
        }
        if (good < n) {
            *bad = done + good;
            return;
        }
    }
}
