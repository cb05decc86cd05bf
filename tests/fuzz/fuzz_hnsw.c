/* A graph in a snapshot whose checksums are right and whose contents are not. The first byte chooses how it is
 * used; the rest is a list of edits of a sound one: section, place, byte; or where a section ends. What is loaded must be searched, extended,
 * repaired, measured and renumbered without harm; what is not sound enough for that must not be loaded. */
#include "base/internal.h"

#include "base/mem.h"
#include "base/rng.h"
#include "index/hnsw.h"
#include "vfs_mem.h"

#include <float.h>
#include <synadb/vector.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 96, LINKED = 64, DIMS = 8, EDIT = 4 };
#define PATH MEM_DIR "/g.hnsw"

static const char *const names[] = {"hnsw", "entries", "links"};
#define SECTIONS COUNT_OF(names)
static const struct snapshot_cover cover = {.generation = 1, .end = 1, .purpose = 7};

static float rows[ROWS][DIMS];
static struct row_set set;
static struct {
    uint8_t bytes[LINKED * 64 * sizeof(uint32_t)];
    size_t len;
} sound[SECTIONS], edited[SECTIONS];

static void must(bool ok)
{
    if (!ok)
        __builtin_trap();
}

static const float *full_row(void *context, uint32_t row)
{
    (void)context;
    must(row < ROWS);
    return rows[row];
}

static const float *trained_row(void *context, size_t i)
{
    return full_row(context, (uint32_t)i);
}

static void make_rows(void)
{
    uint64_t seed = 1;
    set = (struct row_set){.kernels = kernels_get(), .full = full_row, .count = ROWS};
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < DIMS; i++)
            rows[r][i] = (float)(rng_next(&seed) % 1000) / 500 - 1;
    codes_init(&set.codes, DIMS, SYNA_METRIC_EUCLIDEAN);
    must(codes_train(&set.codes, ROWS, trained_row, NULL) == SYNA_SUCCESS);
    must(array_init(&set.code_rows, set.codes.stride, ROWS) == SYNA_SUCCESS &&
         array_init(&set.norms, sizeof(float), ROWS) == SYNA_SUCCESS &&
         array_init(&set.errors, sizeof(float), ROWS) == SYNA_SUCCESS &&
         array_reserve(&set.code_rows, ROWS) == SYNA_SUCCESS &&
         array_reserve(&set.norms, ROWS) == SYNA_SUCCESS &&
         array_reserve(&set.errors, ROWS) == SYNA_SUCCESS);
    for (uint32_t r = 0; r < ROWS; r++) {
        *(float *)array_at(&set.norms, r) = vector_norm(set.kernels, rows[r], DIMS);
        *(float *)array_at(&set.errors, r) =
            codes_encode(&set.codes, set.kernels, rows[r], array_at(&set.code_rows, r));
    }
}

static struct snapshot *open_snapshot(void)
{
    struct snapshot *s;
    must(snapshot_open(PATH, &cover, &s) == SYNA_SUCCESS && s);
    return s;
}

static void make_sound(void)
{
    struct hnsw graph;
    struct snapshot_writer *w;
    must(hnsw_init(&graph, 8, 40) == SYNA_SUCCESS &&
         hnsw_build(&graph, &set, LINKED, 1, NULL) == SYNA_SUCCESS &&
         hnsw_calibrate(&graph, &set, NULL) == SYNA_SUCCESS &&
         snapshot_begin(PATH, &cover, &w) == SYNA_SUCCESS && hnsw_save(&graph, w) == SYNA_SUCCESS &&
         snapshot_commit(w) == SYNA_SUCCESS);
    hnsw_dispose(&graph);
    struct snapshot *s = open_snapshot();
    for (size_t i = 0; i < SECTIONS; i++) {
        const void *bytes = snapshot_find(s, names[i], &sound[i].len);
        must(bytes && sound[i].len <= sizeof sound[i].bytes);
        memcpy(sound[i].bytes, bytes, sound[i].len);
    }
    snapshot_close(s);
}

/* Section and kind share the first byte; a place beyond the end is taken modulo. */
static void edit(const uint8_t *e)
{
    size_t i = e[0] % SECTIONS, place = e[1] | (size_t)e[2] << 8;
    if (e[0] & 0x80)
        edited[i].len = place % (sizeof edited[i].bytes + 1);
    else if (edited[i].len > 0)
        edited[i].bytes[place % edited[i].len] = e[3];
}

static void write_edited(void)
{
    struct snapshot_writer *w;
    must(snapshot_begin(PATH, &cover, &w) == SYNA_SUCCESS);
    for (size_t i = 0; i < SECTIONS; i++)
        must(snapshot_section(w, names[i]) == SYNA_SUCCESS &&
             snapshot_append(w, edited[i].bytes, edited[i].len) == SYNA_SUCCESS);
    must(snapshot_commit(w) == SYNA_SUCCESS);
}

static void search(struct hnsw *graph, uint32_t ef)
{
    struct topk tops[3];
    struct hnsw_query queries[3];
    uint64_t chosen[ROWS / 64 + 1] = {0x5555555555555555u, 0x5555555555555555u};
    for (uint32_t q = 0; q < 3; q++) {
        topk_init(&tops[q], 5, FLT_MAX);
        queries[q] = (struct hnsw_query){rows[q], *(float *)array_at(&set.norms, q), ef,
                                         q == 2 ? chosen : NULL};
    }
    must(hnsw_search_many(graph, &set, queries, 3, tops, NULL) == SYNA_SUCCESS);
    for (uint32_t q = 0; q < 3; q++) {
        for (size_t i = 0; i < tops[q].count; i++)
            must(tops[q].items[i].row < graph->linked);
        topk_dispose(&tops[q]);
    }
}

/* Measuring and upkeep take many times as long as searches: not always. */
static void use(struct hnsw *graph, unsigned how)
{
    const uint64_t live[ROWS / 64 + 1] = {~0x0ff0u, ~0ull};
    uint32_t numbers[ROWS], number = 0;
    struct hnsw_plan plan;
    struct hnsw other;
    must(graph->linked <= ROWS);
    search(graph, 10);
    search(graph, MIN(hnsw_ef_for(graph, 10, 0.9f), 200u));
    must(hnsw_recall_at(graph, 10, 50) <= 1);
    if (how % 16 == 1)
        must(hnsw_calibrate(graph, &set, NULL) == SYNA_SUCCESS);
    if (how % 4 != 1)
        return;
    must(hnsw_plan_insert(graph, &set, ROWS - graph->linked, &plan) == SYNA_SUCCESS &&
         hnsw_apply(graph, &set, &plan) == SYNA_SUCCESS);
    hnsw_plan_dispose(&plan);
    search(graph, 10);
    must(hnsw_plan_repair(graph, &set, live, &plan) == SYNA_SUCCESS &&
         hnsw_apply(graph, &set, &plan) == SYNA_SUCCESS);
    hnsw_plan_dispose(&plan);
    search(graph, 10);
    for (uint32_t r = 0; r < ROWS; r++)
        numbers[r] = live[r / 64] >> r % 64 & 1 ? number++ : HNSW_NONE;
    must(hnsw_init(&other, graph->degree / 2, 40) == SYNA_SUCCESS &&
         array_reserve(&other.links, ROWS) == SYNA_SUCCESS);
    other.linked = hnsw_renumber(graph, numbers, &other);
    must(other.linked <= number);
    hnsw_dispose(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem_fs *fs;
    struct hnsw graph;
    bool found;
    if (!fs) {
        fs = mem_fs_new(1);
        mem_fs_use(fs);
        syna_test_set_vfs(&vfs_mem);
        make_rows();
        make_sound();
    }
    memcpy(edited, sound, sizeof edited);
    for (size_t at = 1; at + EDIT <= size; at += EDIT)
        edit(data + at);
    write_edited();
    struct snapshot *s = open_snapshot();
    must(hnsw_init(&graph, 8, 40) == SYNA_SUCCESS);
    must(hnsw_load(&graph, &set, s, true, &found) == SYNA_SUCCESS);
    must(found || graph.linked == 0);
    use(&graph, size ? data[0] : 0);
    hnsw_dispose(&graph);
    snapshot_close(s);
    return 0;
}
