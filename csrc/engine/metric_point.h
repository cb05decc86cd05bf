/* One point of a metric as a record of the log, and the summary of the points before it.
 *
 * Every record carries, besides its own step and value, the summary of all records that its writer saw
 * before it; so the newest record and a look at the one before it tell the latest, least and greatest
 * value without the history. Processes that log to one metric at once may land between a writer's look
 * and its record: a record says how many records its summary covers, and with which checksum the last
 * of them ends, so a reader adds what lies between (metric_read in experiments_metric.c).
 *
 * Layout, little-endian; 60 bytes, or 68 with the flag WIDE:
 *
 *     0  u8   version, 1
 *     1  u8   flags: 1 AUTO, 2 ROUGH, 4 WIDE, 8 FIRST
 *     2  u16  0
 *     4  u32  records that the summary covers = number of this record, unless others came between
 *     8  u32  CRC32C of the last record covered; 0 when none is
 *    12  u32  (WIDE: u64) step
 *        u32  (WIDE: u64) the highest step before; 0 when there is none
 *        f64  value
 *        f64  the value at the highest step before
 *        f64  least, f64 greatest value before, NaN left out; NaN when there is none
 *        f64  sum of the values before
 *
 * AUTO: the step was counted, not given: where another process got there first it moves behind the
 * highest step before it. FIRST: the records covered hold no point. ROUGH: a step came twice or out of order (or something was deleted), so
 * that least, greatest and sum must be read from the history. */
#ifndef SYNA_ENGINE_METRIC_POINT_H
#define SYNA_ENGINE_METRIC_POINT_H

#include "base/status.h"

#define POINT_BYTES_MAX 68u

/* All points up to some record. */
struct metric_summary {
    uint64_t records; /* covered, deletions included */
    uint64_t points;   /* of a rough one only whether it is 0 counts */
    uint64_t top_step; /* meaningful when points > 0, as is top_value */
    double top_value;
    double min, max, sum;
    bool rough;
};

struct metric_point {
    uint64_t step;
    double value;
    bool by_count;                /* AUTO */
    struct metric_summary before;
    uint32_t before_crc;
};

#define METRIC_SUMMARY_EMPTY ((struct metric_summary){.min = NAN, .max = NAN})

/* The step that the point takes behind these: its own, or the next one when it was counted. */
uint64_t point_step(const struct metric_point *p, const struct metric_summary *before);
/* Add a record: its point, or with NULL a deletion of everything before it. */
void summary_add(struct metric_summary *s, const struct metric_point *p);

/* Returns the length. */
size_t point_encode(const struct metric_point *p, uint8_t out[POINT_BYTES_MAX]);
/* false: these bytes are no point. */
bool point_decode(const uint8_t *bytes, size_t len, struct metric_point *out);

#endif
