/* The records of metrics: what comes back, what is refused, how points are summed up. */
#include "check.h"

#include <math.h>

#include "base/bytes.h"
#include "engine/metric_point.h"

static struct metric_point a_point(uint64_t step, double value)
{
    return (struct metric_point){.step = step,
                                 .value = value,
                                 .before_crc = 0x12345678,
                                 .before = {.records = 7,
                                            .points = 7,
                                            .top_step = 6,
                                            .top_value = 0.25,
                                            .min = -1,
                                            .max = 3,
                                            .sum = 4.5}};
}

static void round_trip(const struct metric_point *p, size_t want)
{
    uint8_t bytes[POINT_BYTES_MAX];
    struct metric_point got;
    size_t len = point_encode(p, bytes);
    CHECK_EQ(len, want);
    CHECK(point_decode(bytes, len, &got));
    CHECK_EQ(got.step, p->step);
    CHECK_EQ(load_u64(&got.value), load_u64(&p->value));
    CHECK_EQ(got.by_count, p->by_count);
    CHECK_EQ(got.before_crc, p->before_crc);
    CHECK_EQ(got.before.records, p->before.records);
    CHECK_EQ(got.before.points, p->before.points);
    CHECK_EQ(got.before.rough, p->before.rough);
    if (p->before.points) {
        CHECK_EQ(got.before.top_step, p->before.top_step);
        CHECK(got.before.top_value == p->before.top_value);
    }
    CHECK_EQ(load_u64(&got.before.min), load_u64(&p->before.min));
    CHECK_EQ(load_u64(&got.before.max), load_u64(&p->before.max));
    CHECK(got.before.sum == p->before.sum);
}

TEST(points_come_back_bit_for_bit)
{
    struct metric_point p = a_point(7, NAN);
    round_trip(&p, 60);
    p.by_count = true;
    p.before.rough = true;
    round_trip(&p, 60);
    p.step = INT64_MAX;
    round_trip(&p, 68);
    p.step = 1;
    p.before.top_step = (uint64_t)UINT32_MAX + 1;
    round_trip(&p, 68);
    p = (struct metric_point){.step = 0, .value = -0.0, .before = METRIC_SUMMARY_EMPTY};
    round_trip(&p, 60);
    p.before.records = 3; /* of which all were deleted */
    p.before.rough = true;
    round_trip(&p, 60);
}

TEST(other_bytes_are_no_points)
{
    uint8_t bytes[POINT_BYTES_MAX];
    struct metric_point p = a_point(7, 1), got;
    size_t len = point_encode(&p, bytes);
    for (size_t cut = 0; cut < len; cut++)
        CHECK(!point_decode(bytes, cut, &got));
    CHECK(!point_decode(bytes, len + 1, &got));
    bytes[0] = 2;
    CHECK(!point_decode(bytes, len, &got));
    bytes[0] = 1;
    bytes[1] = 4; /* wide, and too short for it */
    CHECK(!point_decode(bytes, len, &got));
    bytes[1] = 16;
    CHECK(!point_decode(bytes, len, &got));
    bytes[1] = 0;
    bytes[2] = 1;
    CHECK(!point_decode(bytes, len, &got));
    p.step = INT64_MAX;
    len = point_encode(&p, bytes);
    bytes[19] = 0xff; /* a step above 2^63 */
    CHECK(!point_decode(bytes, len, &got));
}

static void add(struct metric_summary *s, uint64_t step, double value, bool by_count)
{
    summary_add(s, &(struct metric_point){.step = step, .value = value, .by_count = by_count});
}

TEST(a_summary_knows_latest_least_greatest_and_when_it_does_not)
{
    struct metric_summary s = METRIC_SUMMARY_EMPTY;
    add(&s, 0, 3, false);
    add(&s, 5, NAN, false);
    add(&s, 6, 1, false);
    CHECK(!s.rough && s.min == 1 && s.max == 3 && s.top_value == 1);
    CHECK_EQ(s.top_step, 6);
    CHECK_EQ(s.points, 3);
    add(&s, 2, 9, false); /* out of order */
    CHECK(s.rough && s.top_value == 1);
    add(&s, 6, 4, false); /* again */
    CHECK(s.rough && s.top_value == 4);
    summary_add(&s, NULL);
    CHECK_EQ(s.points, 0);
    CHECK_EQ(s.records, 6);
    CHECK(s.rough);
}

TEST(counted_steps_move_behind_those_that_came_first)
{
    struct metric_summary s = METRIC_SUMMARY_EMPTY;
    add(&s, 0, 1, true);
    add(&s, 0, 2, true); /* another process had counted the same */
    add(&s, 9, 3, true); /* what is left of a compacted history keeps its step */
    CHECK_EQ(s.top_step, 9);
    CHECK(!s.rough);
    CHECK_EQ(point_step(&(struct metric_point){.step = 0, .by_count = true}, &s), 10);
    CHECK_EQ(point_step(&(struct metric_point){.step = 0}, &s), 0);
}
