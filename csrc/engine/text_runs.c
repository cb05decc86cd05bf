/* text_runs.c - packs of rows, as runs or one by one. */
#include "base/internal.h"

#include "engine/text_names.h"
#include "engine/text_runs.h"

static struct run *run_at(const struct runs *r, size_t i)
{
    return array_at(&r->runs, i);
}

static uint32_t *each_at(const struct runs *r, uint32_t row)
{
    return array_at(&r->each, row);
}

syna_rc runs_init(struct runs *r)
{
    *r = (struct runs){0};
    SYNA_TRY(array_init(&r->runs, sizeof(struct run), NAMES_MAX));
    return array_init(&r->each, sizeof(uint32_t), NAMES_MAX);
}

void runs_dispose(struct runs *r)
{
    array_dispose(&r->runs);
    array_dispose(&r->each);
    *r = (struct runs){0};
}

syna_rc runs_reserve(struct runs *r, size_t rows)
{
    return r->spread ? array_reserve(&r->each, r->rows + rows)
                     : array_reserve(&r->runs, r->count + rows);
}

void runs_add(struct runs *r, uint32_t pack)
{
    if (r->spread)
        *each_at(r, r->rows) = pack;
    else if (r->count == 0 || run_at(r, r->count - 1)->pack != pack)
        *run_at(r, r->count++) = (struct run){r->rows, pack};
    r->rows++;
}

/* The last run that begins at the row or before it. */
static uint32_t pack_in_runs(const struct runs *r, uint32_t row)
{
    uint32_t low = 0, high = r->count;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (run_at(r, mid)->first <= row)
            low = mid;
        else
            high = mid;
    }
    return run_at(r, low)->pack;
}

uint32_t runs_pack(const struct runs *r, uint32_t row)
{
    return r->spread ? *each_at(r, row) : pack_in_runs(r, row);
}

/* A number for each row, and as much room as the runs had. */
static syna_rc spread(struct runs *r)
{
    size_t room = r->runs.cap - r->count;
    SYNA_TRY(array_reserve(&r->each, MIN(r->rows + room, (size_t)NAMES_MAX)));
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t stop = i + 1 < r->count ? run_at(r, i + 1)->first : r->rows;
        for (uint32_t row = run_at(r, i)->first; row < stop; row++)
            *each_at(r, row) = run_at(r, i)->pack;
    }
    r->spread = true;
    return SYNA_SUCCESS;
}

syna_rc runs_set(struct runs *r, uint32_t row, uint32_t pack)
{
    if (runs_pack(r, row) == pack)
        return SYNA_SUCCESS;
    if (!r->spread)
        SYNA_TRY(spread(r));
    *each_at(r, row) = pack;
    return SYNA_SUCCESS;
}

uint64_t runs_memory(const struct runs *r)
{
    if (r->spread)
        return r->rows * sizeof(uint32_t);
    return (r->count - MIN((size_t)r->count, r->runs.head_count)) * sizeof(struct run);
}

/* ---------------------------------------------------------------- snapshots */

syna_rc runs_save(const struct runs *r, struct snapshot_writer *writer)
{
    struct run run = {0};
    SYNA_TRY(snapshot_section(writer, "packs"));
    if (!r->spread)
        return array_save(&r->runs, r->count, writer);
    for (uint32_t row = 0; row < r->rows; row++) {
        if (row > 0 && *each_at(r, row) == run.pack)
            continue;
        run = (struct run){row, *each_at(r, row)};
        SYNA_TRY(snapshot_append(writer, &run, sizeof run));
    }
    return SYNA_SUCCESS;
}

static bool sound(const struct run *runs, size_t count, uint32_t rows, uint32_t last)
{
    for (size_t i = 0; i < count; i++)
        if (runs[i].pack > last || runs[i].first >= rows || (i == 0 && runs[i].first != 0) ||
            (i > 0 && runs[i - 1].first >= runs[i].first))
            return false;
    return count > 0;
}

syna_rc runs_load(struct runs *r, struct snapshot *snapshot, uint32_t rows, uint32_t last, bool *found)
{
    size_t len;
    struct run *runs = snapshot_find(snapshot, "packs", &len);
    *found = runs && len % sizeof *runs == 0 && snapshot_touch(snapshot, runs, len) &&
             sound(runs, len / sizeof *runs, rows, last);
    if (!*found)
        return SYNA_SUCCESS;
    array_dispose(&r->runs);
    r->count = (uint32_t)(len / sizeof *runs);
    r->rows = rows;
    return array_init_head(&r->runs, sizeof *runs, NAMES_MAX, runs, r->count);
}
