/* mmap_index.c - codes and graph over the rows of a mapped store as a value; see mmap_index.h. */
#include "base/internal.h"

#include "engine/mmap_index.h"
#include "index/workers.h"

#define ARRAY_SPACE (256ull << 30) /* address space that one array may take */
#define ENCODE_BLOCK 1024u

/* ---------------------------------------------------------------- reading rows */

struct row_set mmap_index_set(const struct mmap_index *index, const struct array *norms,
                              struct rowfile *file, struct row_reader *reader)
{
    struct row_set set = index->set;
    row_reader_init(reader, file);
    set.norms = *norms;
    set.full = row_reader_row;
    set.context = reader;
    return set;
}

/* ---------------------------------------------------------------- codes */

static syna_rc init_array(struct array *a, size_t item)
{
    return array_init(a, item, MIN((uint64_t)HNSW_ROWS_MAX, ARRAY_SPACE / item));
}

syna_rc mmap_index_new(uint32_t dims, int32_t metric, struct mmap_index **out)
{
    struct mmap_index *index = mem_zalloc(sizeof *index);
    if (!index)
        return syna_no_memory(sizeof *index);
    *out = index;
    index->set.kernels = kernels_get();
    codes_init(&index->set.codes, dims, metric);
    codes_split(&index->set.codes);
    SYNA_TRY(init_array(&index->set.code_rows, index->set.codes.stride));
    SYNA_TRY(init_array(&index->set.errors, sizeof(float)));
    return hnsw_init(&index->graph, HNSW_M_DEFAULT, HNSW_EF_CONSTRUCTION_DEFAULT);
}

void mmap_index_free(struct mmap_index *index)
{
    if (!index)
        return;
    array_dispose(&index->set.code_rows);
    array_dispose(&index->set.errors);
    hnsw_dispose(&index->graph);
    snapshot_close(index->snapshot);
    mem_free(index);
}

uint64_t mmap_index_bytes(const struct mmap_index *index)
{
    return index ? sizeof *index + array_bytes(&index->set.code_rows) +
                       array_bytes(&index->set.errors) + hnsw_bytes(&index->graph, &index->set.codes)
                 : 0;
}

syna_rc mmap_index_reserve(struct mmap_index *index, uint64_t total)
{
    const struct row_set *set = &index->set;
    if (total > HNSW_ROWS_MAX || total > ARRAY_SPACE / set->codes.stride)
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE,
                         "%llu rows are more than an index of %u dimensions can hold",
                         (unsigned long long)total, set->codes.dims);
    SYNA_TRY(array_reserve(&index->set.code_rows, (size_t)total));
    return array_reserve(&index->set.errors, (size_t)total);
}

void mmap_index_encode_row(struct mmap_index *index, uint32_t row, const float *vector)
{
    struct row_set *set = &index->set;
    *(float *)array_at(&set->errors, row) =
        codes_encode(&set->codes, set->kernels, vector, array_at(&set->code_rows, row));
}

syna_rc mmap_index_encode(struct mmap_index *index, struct rowfile *file, uint32_t first,
                          uint32_t count)
{
    SYNA_TRY(rowfile_touch(file, first, count));
    for (uint32_t row = first; row < first + count; row++)
        mmap_index_encode_row(index, row, (const float *)(const void *)rowfile_row(file, row));
    return SYNA_SUCCESS;
}

syna_rc mmap_index_catch_up(struct mmap_index *index, const struct mmap_rows *rows)
{
    uint32_t first = index->set.count;
    if (first == rows->count)
        return SYNA_SUCCESS;
    SYNA_TRY(mmap_index_reserve(index, rows->count));
    SYNA_TRY(mmap_index_encode(index, rows->file, first, rows->count - first));
    index->set.count = rows->count;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- dead rows */

static uint64_t dead_word(const struct mmap_rows *rows, uint32_t word, uint32_t linked)
{
    uint32_t left = linked - word * 64;
    uint64_t dead = ~mmap_rows_live(rows)[word];
    return left < 64 ? dead & ((1ull << left) - 1) : dead;
}

void mmap_index_count_dead(struct mmap_index *index, const struct mmap_rows *rows)
{
    uint32_t linked = index->graph.linked, count = 0;
    for (uint32_t word = 0; word < (linked + 63) / 64; word++)
        for (uint64_t dead = dead_word(rows, word, linked); dead; dead &= dead - 1) {
            uint32_t row = word * 64 + (uint32_t)__builtin_ctzll(dead);
            count += hnsw_links(&index->graph, row)[0] != HNSW_NONE;
        }
    index->dead_linked = count;
}

/* ---------------------------------------------------------------- building */

struct build {
    struct mmap_index *index;
    const struct row_moment *moment;
    const struct hnsw_progress *progress;
};

static const float *trained_row(void *context, size_t i)
{
    return row_reader_row(context, (uint32_t)i);
}

static syna_rc encode_block(void *context, unsigned thread, uint64_t i)
{
    const struct build *b = context;
    uint32_t first = (uint32_t)(i * ENCODE_BLOCK);
    (void)thread;
    return mmap_index_encode(b->index, b->moment->file, first,
                             MIN(ENCODE_BLOCK, b->moment->count - first));
}

/* Encoding is not counted, only asked about: the graph takes ten times as long. */
static bool encode_step(void *context, uint64_t done, uint64_t total)
{
    const struct build *b = context;
    (void)done;
    (void)total;
    return !b->progress->step || b->progress->step(b->progress->context, 0, b->moment->count);
}

static syna_rc make_codes(struct build *b, unsigned threads)
{
    struct mmap_index *index = b->index;
    const struct row_moment *moment = b->moment;
    struct row_reader reader;
    row_reader_init(&reader, moment->file);
    SYNA_TRY(mmap_index_reserve(index, moment->count));
    SYNA_TRY(codes_train(&index->set.codes, moment->count, trained_row, &reader));
    SYNA_TRY(row_reader_end(&reader));
    SYNA_TRY(workers_run(threads, (moment->count + ENCODE_BLOCK - 1) / ENCODE_BLOCK, encode_block, b,
                         encode_step, b));
    index->trained_of = index->set.count = moment->count;
    return SYNA_SUCCESS;
}

static syna_rc make_graph(struct build *b, unsigned threads)
{
    struct mmap_index *index = b->index;
    struct row_reader reader;
    struct row_set set = mmap_index_set(index, &b->moment->norms, b->moment->file, &reader);
    SYNA_TRY(hnsw_build(&index->graph, &set, set.count, threads, b->progress));
    index->changes = set.count;
    SYNA_TRY(hnsw_calibrate(&index->graph, &set, b->moment->live));
    return row_reader_end(&reader);
}

syna_rc mmap_index_build(const struct row_moment *moment, uint32_t dims, int32_t metric,
                         unsigned threads, const struct hnsw_progress *progress,
                         struct mmap_index **out)
{
    struct build b = {.moment = moment, .progress = progress};
    syna_rc rc = mmap_index_new(dims, metric, &b.index);
    if (rc == SYNA_SUCCESS)
        rc = make_codes(&b, threads);
    if (rc == SYNA_SUCCESS)
        rc = make_graph(&b, threads);
    if (rc == SYNA_SUCCESS) {
        *out = b.index;
        return rc;
    }
    struct status_record why = *status_get();
    mmap_index_free(b.index);
    return status_set(&why);
}

/* ---------------------------------------------------------------- other numbers */

syna_rc mmap_renumber_begin(struct mmap_renumbering *r, const struct mmap_index *index)
{
    *r = (struct mmap_renumbering){0};
    SYNA_TRY(hnsw_init(&r->graph, index->graph.degree / 2, index->graph.ef_construction));
    return array_reserve(&r->graph.links, index->graph.linked);
}

void mmap_renumber_abandon(struct mmap_renumbering *r)
{
    hnsw_dispose(&r->graph);
}

static void move_codes(struct row_set *set, uint32_t from, uint32_t to)
{
    if (from == to)
        return;
    memcpy(array_at(&set->code_rows, to), array_at(&set->code_rows, from), set->code_rows.item);
    memcpy(array_at(&set->errors, to), array_at(&set->errors, from), set->errors.item);
}

void mmap_renumber_finish(struct mmap_renumbering *r, struct mmap_index *index,
                          const uint32_t *numbers, uint32_t count)
{
    struct row_set *set = &index->set;
    uint32_t linked = hnsw_renumber(&index->graph, numbers, &r->graph), kept = 0;
    for (uint32_t row = 0; row < count; row++)
        if (numbers[row] != MMAP_ROW_NONE) {
            move_codes(set, row, numbers[row]);
            kept = numbers[row] + 1;
        }
    set->count = kept;
    r->graph.linked = linked;
    struct hnsw_measured measured = index->graph.measured;
    hnsw_replace(&index->graph, &r->graph);
    if (hnsw_settle(&index->graph, set) == SYNA_SUCCESS) {
        index->graph.measured = measured;
        index->graph.measured.calibrated = MIN(measured.calibrated, linked);
    } else { /* without memory: the codes alone will do */
        index->graph.linked = 0;
    }
    index->trained_of = MIN(index->trained_of, kept);
    index->dead_linked = 0;
    index->changes = kept;
}
