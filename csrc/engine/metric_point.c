/* metric_point.c - encode and decode the points of metrics, and sum them up. Pure. */
#include "base/internal.h"

#include <math.h>

#include "base/bytes.h"
#include "engine/metric_point.h"

enum { POINT_VERSION = 1, POINT_AUTO = 1, POINT_ROUGH = 2, POINT_WIDE = 4, POINT_FIRST = 8 };
enum { NARROW_BYTES = 60, WIDE_BYTES = 68 };

uint64_t point_step(const struct metric_point *p, const struct metric_summary *before)
{
    if (!p->by_count || before->points == 0 || before->top_step == INT64_MAX)
        return p->step;
    return MAX(p->step, before->top_step + 1);
}

void summary_add(struct metric_summary *s, const struct metric_point *p)
{
    s->records++;
    if (!p) {
        uint64_t records = s->records;
        *s = METRIC_SUMMARY_EMPTY;
        s->records = records;
        s->rough = true;
        return;
    }
    uint64_t step = point_step(p, s);
    if (s->points > 0 && step <= s->top_step)
        s->rough = true;
    if (s->points == 0 || step >= s->top_step) {
        s->top_step = step;
        s->top_value = p->value;
    }
    s->min = fmin(s->min, p->value);
    s->max = fmax(s->max, p->value);
    s->sum += p->value;
    s->points++;
}

size_t point_encode(const struct metric_point *p, uint8_t out[POINT_BYTES_MAX])
{
    const struct metric_summary *s = &p->before;
    uint64_t top = s->points > 0 ? s->top_step : 0;
    bool wide = p->step > UINT32_MAX || top > UINT32_MAX;
    uint8_t *at = out + 12;
    out[0] = POINT_VERSION;
    out[1] = (uint8_t)((p->by_count ? POINT_AUTO : 0) | (s->rough ? POINT_ROUGH : 0) |
                       (wide ? POINT_WIDE : 0) | (s->points == 0 ? POINT_FIRST : 0));
    store_u16(out + 2, 0);
    store_u32(out + 4, (uint32_t)MIN(s->records, (uint64_t)UINT32_MAX));
    store_u32(out + 8, p->before_crc);
    if (wide) {
        store_u64(at, p->step);
        store_u64(at + 8, top);
        at += 16;
    } else {
        store_u32(at, (uint32_t)p->step);
        store_u32(at + 4, (uint32_t)top);
        at += 8;
    }
    const double numbers[5] = {p->value, s->points > 0 ? s->top_value : 0, s->min, s->max, s->sum};
    memcpy(at, numbers, sizeof numbers);
    return wide ? WIDE_BYTES : NARROW_BYTES;
}

bool point_decode(const uint8_t *bytes, size_t len, struct metric_point *out)
{
    if (len != NARROW_BYTES && len != WIDE_BYTES)
        return false;
    bool wide = len == WIDE_BYTES;
    uint8_t flags = bytes[1];
    if (bytes[0] != POINT_VERSION || flags > 15 || wide != ((flags & POINT_WIDE) != 0) ||
        load_u16(bytes + 2) != 0)
        return false;
    struct metric_summary *s = &out->before;
    *out = (struct metric_point){.by_count = flags & POINT_AUTO, .before_crc = load_u32(bytes + 8)};
    s->rough = flags & POINT_ROUGH;
    s->records = load_u32(bytes + 4);
    s->points = flags & POINT_FIRST ? 0 : s->records;
    const uint8_t *at = bytes + 12;
    out->step = wide ? load_u64(at) : load_u32(at);
    s->top_step = wide ? load_u64(at + 8) : load_u32(at + 4);
    at += wide ? 16 : 8;
    out->value = load_f64(at);
    s->top_value = load_f64(at + 8);
    s->min = load_f64(at + 16);
    s->max = load_f64(at + 24);
    s->sum = load_f64(at + 32);
    return out->step <= INT64_MAX && s->top_step <= INT64_MAX;
}
