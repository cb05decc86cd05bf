/* cascade_plane.c - hyperplanes over code rows: a direction of small integers and a cut. Sides and margins
 * come from exact integer products, so they are the same on every machine. */
#include "base/internal.h"

#include "base/rng.h"
#include "index/cascade_core.h"

#include <math.h>

#define ROUNDS 3u /* of 2-means: the direction hardly moves after them */

struct split_room {
    const uint8_t *codes[SPLIT_SAMPLE];
    int32_t products[SPLIT_SAMPLE];
    int32_t sorted[SPLIT_SAMPLE];
    int32_t *sums[2]; /* of the codes on either side */
    float *between;
};

struct split_room *split_room_new(size_t stride)
{
    struct split_room *room = mem_zalloc(sizeof *room);
    if (!room)
        return NULL;
    room->sums[0] = mem_alloc(stride * sizeof(int32_t));
    room->sums[1] = mem_alloc(stride * sizeof(int32_t));
    room->between = mem_alloc(stride * sizeof(float));
    if (!room->sums[0] || !room->sums[1] || !room->between) {
        split_room_free(room);
        return NULL;
    }
    return room;
}

void split_room_free(struct split_room *room)
{
    if (!room)
        return;
    mem_free(room->sums[0]);
    mem_free(room->sums[1]);
    mem_free(room->between);
    mem_free(room);
}

uint32_t plane_side(const struct cascade_plane *plane, int32_t product, uint32_t row)
{
    if (product != plane->cut)
        return product > plane->cut;
    return ((row ^ plane->ties) * 0x9e3779b1u) >> 31;
}

/* ---------------------------------------------------------------- the rows looked at */

static uint32_t take_sample(const struct row_set *set, const uint32_t *rows, uint32_t count,
                            struct split_room *room)
{
    uint32_t some = MIN(count, SPLIT_SAMPLE);
    for (uint32_t i = 0; i < some; i++)
        room->codes[i] = array_at(&set->code_rows, rows[(uint64_t)i * count / some]);
    return some;
}

static int ascending(const void *left, const void *right)
{
    const int32_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

/* The products of the sample with the plane's direction; the cut goes to their median. */
static void cut_at_median(const struct cascade *c, const struct row_set *set, uint32_t some,
                          struct split_room *room, struct cascade_plane *plane)
{
    set->kernels->int8->product_many(plane->direction, plane->base, room->codes, some, c->stride,
                                     room->products);
    memcpy(room->sorted, room->products, some * sizeof(int32_t));
    qsort(room->sorted, some, sizeof(int32_t), ascending);
    plane->cut = room->sorted[(some - 1) / 2];
}

static void finish_direction(const struct cascade *c, struct cascade_plane *plane)
{
    int32_t sum = 0;
    int64_t squares = 0;
    for (size_t i = 0; i < c->stride; i++) {
        int32_t x = plane->direction[i];
        sum += x;
        squares += x * x;
    }
    plane->base = -128 * sum;
    plane->per_unit = squares ? 1 / sqrtf((float)squares) : 0;
}

/* ---------------------------------------------------------------- directions */

void plane_random(const struct cascade *c, const struct row_set *set, const uint32_t *rows,
                  uint32_t count, uint64_t seed, struct split_room *room, struct cascade_plane *out)
{
    uint32_t some = take_sample(set, rows, count, room);
    out->ties = (uint32_t)seed;
    for (size_t i = 0; i < c->stride; i++)
        out->direction[i] = i < set->codes.dims ? (rng_next(&seed) >> 63 ? 1 : -1) : 0;
    finish_direction(c, out);
    cut_at_median(c, set, some, room, out);
}

/* The direction `between`, as integers up to 127. */
static void set_direction(const struct cascade *c, const struct split_room *room,
                          struct cascade_plane *plane)
{
    float most = 0;
    for (size_t i = 0; i < c->stride; i++)
        most = fabsf(room->between[i]) > most ? fabsf(room->between[i]) : most;
    float scale = most > 0 ? 127 / most : 0;
    for (size_t i = 0; i < c->stride; i++)
        plane->direction[i] = (int8_t)lrintf(room->between[i] * scale);
    finish_direction(c, plane);
}

/* From the middle of the rows on side 0 to that of those on side 1. */
static void between_middles(const struct cascade *c, uint32_t some, const struct cascade_plane *plane,
                            struct split_room *room)
{
    uint32_t counts[2] = {0, 0};
    memset(room->sums[0], 0, c->stride * sizeof(int32_t));
    memset(room->sums[1], 0, c->stride * sizeof(int32_t));
    for (uint32_t r = 0; r < some; r++) {
        uint32_t side = plane_side(plane, room->products[r], r);
        int32_t *sums = room->sums[side];
        const uint8_t *code = room->codes[r];
        counts[side]++;
        for (size_t i = 0; i < c->stride; i++)
            sums[i] += code[i];
    }
    float low = (float)MAX(counts[0], 1u), high = (float)MAX(counts[1], 1u);
    for (size_t i = 0; i < c->stride; i++)
        room->between[i] = (float)room->sums[1][i] / high - (float)room->sums[0][i] / low;
}

/* The row of the sample that is farthest from row `from`. */
static uint32_t farthest(const struct cascade *c, uint32_t some, uint32_t from,
                         const struct split_room *room)
{
    uint64_t most = 0;
    uint32_t best = from;
    for (uint32_t r = 0; r < some; r++) {
        uint64_t squares = 0;
        for (size_t i = 0; i < c->stride; i++) {
            int32_t d = room->codes[r][i] - room->codes[from][i];
            squares += (uint32_t)(d * d);
        }
        if (squares > most) {
            most = squares;
            best = r;
        }
    }
    return best;
}

void plane_between(const struct cascade *c, const struct row_set *set, const uint32_t *rows,
                   uint32_t count, uint32_t ties, struct split_room *room,
                   struct cascade_plane *out)
{
    uint32_t some = take_sample(set, rows, count, room);
    uint32_t a = farthest(c, some, 0, room), b = farthest(c, some, a, room);
    out->ties = ties;
    for (size_t i = 0; i < c->stride; i++)
        room->between[i] = (float)(room->codes[b][i] - room->codes[a][i]);
    set_direction(c, room, out);
    cut_at_median(c, set, some, room, out);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        between_middles(c, some, out, room);
        set_direction(c, room, out);
        cut_at_median(c, set, some, room, out);
    }
}

/* ---------------------------------------------------------------- sign codes */

void sign_code(const uint8_t *code, const uint8_t *centre, size_t stride, uint8_t *out)
{
    for (size_t i = 0; i < stride; i += 8) {
        uint32_t bits = 0;
        for (size_t b = 0; b < 8; b++)
            bits |= (uint32_t)(code[i + b] > centre[i + b]) << b;
        out[i / 8] = (uint8_t)bits;
    }
}

void centre_of(const struct row_set *set, const uint32_t *rows, uint32_t count,
               struct split_room *room, uint8_t *out)
{
    size_t stride = set->codes.stride;
    uint32_t some = MIN(count, 4096u);
    memset(room->sums[0], 0, stride * sizeof(int32_t));
    for (uint32_t r = 0; r < some; r++) {
        const uint8_t *code = array_at(&set->code_rows, rows[(uint64_t)r * count / some]);
        for (size_t i = 0; i < stride; i++)
            room->sums[0][i] += code[i];
    }
    for (size_t i = 0; i < stride; i++)
        out[i] = (uint8_t)((uint32_t)room->sums[0][i] / MAX(some, 1u));
}
