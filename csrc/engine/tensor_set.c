/* tensor_set.c - reading what a pattern has matched: as it is stored, converted, by rows, or where it is
 * mapped. A set is immutable; calls on it may run at the same time. */
#include "base/internal.h"

#include "engine/tensor_core.h"

/* Converted at once: fits the first-level cache with its result. */
#define CONVERT_STEP 2048u
/* Rows are fetched from memory this many ahead. */
#define ROWS_AHEAD 8u
#define LINE_BYTES 64u
#define LINES_AHEAD 4u

uint64_t tensor_set_count(const syna_tensor_set *set)
{
    return set->starts[set->run_count];
}

int32_t tensor_set_dtype(const syna_tensor_set *set)
{
    return set->dtype;
}

static syna_rc out_of_range(const char *what, uint64_t found, uint64_t top)
{
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%s %llu, expected at most %llu", what,
                     (unsigned long long)found, (unsigned long long)top);
}

/* ---------------------------------------------------------------- facts */

static void describe_tensor(const struct tensor_version *v, syna_tensor_part *p)
{
    p->codec = v->shape.codec;
    p->flags = v->chunked ? SYNA_TENSOR_CHUNKED : 0;
    p->dims = v->shape.dims;
    memcpy(p->shape, v->shape.shape, sizeof p->shape);
    p->elements = v->shape.count;
    p->per_chunk = v->shape.per_chunk;
    p->stored_bytes = v->stored_bytes;
    p->digits = tensor_digits(tensor_keys_of(v));
    p->prefix = v->prefix;
    p->prefix_len = (uint32_t)v->prefix_len;
}

syna_rc tensor_set_part(const syna_tensor_set *set, size_t index, syna_tensor_part *out)
{
    uint32_t size = out->size;
    if (size != sizeof *out)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_tensor_part.size is %u, expected %zu", size, sizeof *out);
    if (index >= set->run_count)
        return out_of_range("part", index + 1, set->run_count);
    const struct tensor_run *run = &set->runs[index];
    *out = (syna_tensor_part){
        .size = size,
        .dtype = run->dtype,
        .plain = run->v == NULL,
        .first = run->first,
        .count = run->count,
        .first_key = run->first_key,
        .keys = run->keys,
    };
    if (run->v)
        describe_tensor(run->v, out);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- reading */

/* The run that holds element `at`, which is in the set. */
static size_t run_holding(const syna_tensor_set *set, uint64_t at)
{
    size_t low = 0, high = set->run_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (set->starts[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Elements [skip, skip + count) of a run. */
static syna_rc copy_run(const syna_tensor_set *set, const struct tensor_run *run, uint64_t skip,
                        uint64_t count, struct tensor_reader *reader, void *out)
{
    size_t item = tensor_item_bytes(run->dtype);
    if (!run->v) {
        memcpy(out, set->numbers + run->first_key + skip, (size_t)count * item);
        return SYNA_SUCCESS;
    }
    if (reader->v != run->v) {
        reader->v = run->v;
        reader->unpacked = SIZE_MAX;
    }
    return tensor_reader_copy(reader, (run->first + skip) * item, out, (size_t)count * item);
}

static syna_rc copy_range(const syna_tensor_set *set, uint64_t first, uint64_t count,
                          struct tensor_reader *reader, uint8_t *out)
{
    if (count == 0)
        return SYNA_SUCCESS;
    for (size_t i = run_holding(set, first); count > 0; i++) {
        const struct tensor_run *run = &set->runs[i];
        uint64_t skip = first - set->starts[i], n = MIN(count, run->count - skip);
        SYNA_TRY(copy_run(set, run, skip, n, reader, out));
        out += n * tensor_item_bytes(run->dtype);
        first += n;
        count -= n;
    }
    return SYNA_SUCCESS;
}

static syna_rc check_range(const syna_tensor_set *set, uint64_t first, uint64_t count)
{
    uint64_t all = tensor_set_count(set);
    if (first > all || count > all - first)
        return out_of_range("elements up to", first + count, all);
    return SYNA_SUCCESS;
}

/* Of one dtype? The dtypes of the runs that a range touches count. */
static syna_rc check_dtype(const syna_tensor_set *set, uint64_t first, uint64_t count)
{
    if (set->dtype >= 0 || count == 0)
        return SYNA_SUCCESS;
    size_t i = run_holding(set, first), last = run_holding(set, first + count - 1);
    for (size_t k = i + 1; k <= last; k++)
        if (set->runs[k].count && set->runs[k].dtype != set->runs[i].dtype)
            return syna_fail(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE,
                             "values of dtypes %d and %d together; read them part by part",
                             set->runs[i].dtype, set->runs[k].dtype);
    return SYNA_SUCCESS;
}

syna_rc tensor_set_read(syna_tensor_set *set, uint64_t first, uint64_t count, void *out)
{
    struct tensor_reader reader = {.unpacked = SIZE_MAX};
    SYNA_TRY(check_range(set, first, count));
    SYNA_TRY(check_dtype(set, first, count));
    syna_rc rc = copy_range(set, first, count, &reader, out);
    tensor_reader_dispose(&reader);
    return db_note_damage(set->db, rc);
}

/* ---------------------------------------------------------------- converting */

static syna_rc not_convertible(uint64_t at, int32_t dtype)
{
    return syna_fail(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE,
                     "element %llu has no value of dtype %d: a fraction, NaN, complex, or out of range",
                     (unsigned long long)at, dtype);
}

static syna_rc convert_run(const syna_tensor_set *set, size_t i, uint64_t skip, uint64_t count,
                           struct tensor_reader *reader, int32_t dtype, uint8_t *out)
{
    uint8_t raw[CONVERT_STEP * 16];
    const struct tensor_run *run = &set->runs[i];
    size_t bad, item = tensor_item_bytes(dtype);
    for (uint64_t done = 0; done < count;) {
        size_t n = (size_t)MIN(count - done, (uint64_t)CONVERT_STEP);
        SYNA_TRY(copy_run(set, run, skip + done, n, reader, raw));
        tensor_convert(run->dtype, raw, dtype, out + done * item, n, &bad);
        if (bad < n)
            return not_convertible(set->starts[i] + skip + done + bad, dtype);
        done += n;
    }
    return SYNA_SUCCESS;
}

static syna_rc convert_range(const syna_tensor_set *set, uint64_t first, uint64_t count,
                             struct tensor_reader *reader, int32_t dtype, uint8_t *out)
{
    if (count == 0)
        return SYNA_SUCCESS;
    for (size_t i = run_holding(set, first); count > 0; i++) {
        uint64_t skip = first - set->starts[i], n = MIN(count, set->runs[i].count - skip);
        SYNA_TRY(convert_run(set, i, skip, n, reader, dtype, out));
        out += n * tensor_item_bytes(dtype);
        first += n;
        count -= n;
    }
    return SYNA_SUCCESS;
}

syna_rc tensor_set_read_as(syna_tensor_set *set, uint64_t first, uint64_t count, int32_t dtype,
                           void *out)
{
    struct tensor_reader reader = {.unpacked = SIZE_MAX};
    if (dtype < SYNA_DTYPE_FLOAT32 || dtype > SYNA_DTYPE_INT64)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "dtype %d, expected FLOAT32, FLOAT64, INT32 or INT64", dtype);
    SYNA_TRY(check_range(set, first, count));
    syna_rc rc = convert_range(set, first, count, &reader, dtype, out);
    tensor_reader_dispose(&reader);
    return db_note_damage(set->db, rc);
}

/* ---------------------------------------------------------------- rows */

/* The `bytes` bytes at `at` of a tensor where they are in the log, NULL when they are packed or lie in
 * two chunks. */
static syna_rc find_row(struct tensor_version *v, uint64_t at, size_t bytes, const uint8_t **row)
{
    const uint8_t *data;
    size_t i = tensor_version_holding(v, at);
    const struct tensor_chunk *c = &v->chunks[i];
    uint64_t skip = at - c->start;
    *row = NULL;
    if (UNLIKELY(c->stored != c->plain || skip + bytes > c->plain))
        return SYNA_SUCCESS;
    SYNA_TRY(tensor_version_chunk(v, i, &data));
    *row = data + skip;
    return SYNA_SUCCESS;
}

/* Rows of one tensor. The beginning of each is fetched while those before it are copied; the processor
 * finds the rest by itself. */
static syna_rc copy_rows_of_one(const syna_tensor_set *set, uint64_t row, const int64_t *rows,
                                size_t count, struct tensor_reader *reader, uint8_t *out)
{
    const struct tensor_run *run = set->runs;
    size_t item = tensor_item_bytes(set->dtype), bytes = (size_t)row * item;
    const uint8_t *ahead[ROWS_AHEAD];
    for (size_t i = 0; i < count + ROWS_AHEAD; i++) {
        const uint8_t **slot = &ahead[i % ROWS_AHEAD];
        if (i >= ROWS_AHEAD) {
            size_t done = i - ROWS_AHEAD;
            if (LIKELY(*slot != NULL))
                memcpy(out + done * bytes, *slot, bytes);
            else
                SYNA_TRY(copy_range(set, (uint64_t)rows[done] * row, row, reader,
                                    out + done * bytes));
        }
        if (i < count) {
            SYNA_TRY(find_row(run->v, (run->first + (uint64_t)rows[i] * row) * item, bytes, slot));
            for (size_t line = 0; *slot && line < LINES_AHEAD && line * LINE_BYTES < bytes; line++)
                __builtin_prefetch(*slot + line * LINE_BYTES);
        }
    }
    return SYNA_SUCCESS;
}

static syna_rc check_rows(const syna_tensor_set *set, uint64_t row, const int64_t *rows, size_t count)
{
    uint64_t all = tensor_set_count(set);
    if (row == 0 || all % row != 0)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "rows of %llu elements, %llu elements match", (unsigned long long)row,
                         (unsigned long long)all);
    for (size_t i = 0; i < count; i++)
        if (rows[i] < 0 || (uint64_t)rows[i] >= all / row)
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "row %lld of %llu rows",
                             (long long)rows[i], (unsigned long long)(all / row));
    return SYNA_SUCCESS;
}

static syna_rc copy_rows(const syna_tensor_set *set, uint64_t row, const int64_t *rows, size_t count,
                         struct tensor_reader *reader, uint8_t *out)
{
    size_t bytes = (size_t)row * tensor_item_bytes(set->dtype);
    if (set->run_count == 1 && set->runs[0].v)
        return copy_rows_of_one(set, row, rows, count, reader, out);
    for (size_t i = 0; i < count; i++, out += bytes)
        SYNA_TRY(copy_range(set, (uint64_t)rows[i] * row, row, reader, out));
    return SYNA_SUCCESS;
}

syna_rc tensor_set_rows(syna_tensor_set *set, uint64_t row, const int64_t *rows, size_t count,
                        void *out)
{
    struct tensor_reader reader = {.unpacked = SIZE_MAX};
    if (count == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(check_rows(set, row, rows, count));
    SYNA_TRY(check_dtype(set, 0, tensor_set_count(set)));
    syna_rc rc = copy_rows(set, row, rows, count, &reader, out);
    tensor_reader_dispose(&reader);
    return db_note_damage(set->db, rc);
}

/* ---------------------------------------------------------------- views */

struct syna_tensor_pin {
    struct tensor_version *v; /* referenced */
};

syna_rc tensor_set_view(syna_tensor_set *set, const void **data, syna_tensor_pin **pin)
{
    const struct tensor_run *run = set->runs;
    const uint8_t *bytes = NULL;
    *data = NULL;
    *pin = NULL;
    if (set->run_count != 1 || !run->v || run->count == 0)
        return SYNA_SUCCESS;
    size_t item = tensor_item_bytes(run->dtype);
    syna_rc rc = tensor_version_view(run->v, run->first * item, run->count * item, &bytes);
    SYNA_TRY(db_note_damage(set->db, rc));
    if (!bytes)
        return SYNA_SUCCESS;
    syna_tensor_pin *made = mem_alloc(sizeof *made);
    if (!made)
        return syna_no_memory(sizeof *made);
    made->v = tensor_version_ref(run->v);
    *data = bytes;
    *pin = made;
    return SYNA_SUCCESS;
}

void tensor_unpin(syna_tensor_pin *pin)
{
    if (!pin)
        return;
    tensor_version_unref(pin->v);
    mem_free(pin);
}
