/* The lists of a GravityWellIndex in a snapshot whose checksums are right and whose contents are not. The
 * first byte chooses how they are used; the rest is a list of edits of sound ones: section, place, byte; or
 * where a section ends. What is loaded must be searched, extended, split, measured and saved again without
 * harm; what is not sound enough for that must not be loaded. */
#include "base/internal.h"

#include "base/mem.h"
#include "base/rng.h"
#include "index/partition_core.h"
#include "vfs_mem.h"

#include <float.h>
#include <synadb/vector.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 256, FILED = 192, LATER = 8, DIMS = 8, WELLS = 12, EDIT = 4, SECTION_MAX = 1 << 15 };
#define PATH MEM_DIR "/p.wells"

static const char *const names[] = {"wells",   "classes",  "stops",    "groups", "sizes",
                                    "centers", "wellrows", "wellcode", "errors"};
#define SECTIONS COUNT_OF(names)
static const struct snapshot_cover cover = {.generation = 1, .end = 1, .purpose = 7};

static float rows[ROWS][DIMS];
static float norms[ROWS];
static struct {
    uint8_t bytes[SECTION_MAX];
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

static const float *source_row(void *context, size_t i)
{
    return full_row(context, (uint32_t)i);
}

static const struct partition_source source = {.row = source_row, .count = FILED, .threads = 1};

static struct partition_source source_now(void)
{
    struct partition_source from = source;
    from.kernels = kernels_get();
    return from;
}

static void make_rows(void)
{
    uint64_t seed = 1;
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t i = 0; i < DIMS; i++)
            rows[r][i] = (float)(rng_next(&seed) % 1000) / 500 - 1;
        norms[r] = vector_norm(kernels_get(), rows[r], DIMS);
    }
}

/* What partition_search reads besides the lists; the lengths are borrowed. */
static struct row_set set_of(const struct partition *p)
{
    struct row_set set = {.kernels = kernels_get(), .codes = p->codes, .full = full_row, .count = ROWS};
    must(array_init_head(&set.norms, sizeof *norms, ROWS, norms, ROWS) == SYNA_SUCCESS);
    return set;
}

static struct snapshot *open_snapshot(void)
{
    struct snapshot *s;
    must(snapshot_open(PATH, &cover, &s) == SYNA_SUCCESS && s);
    return s;
}

static void measure(struct partition *p)
{
    struct row_set set = set_of(p);
    struct partition_curves curves = {.rows = 0};
    must(partition_measure(p, &set, NULL, p->end, &curves) == SYNA_SUCCESS);
    partition_take_curves(p, &curves);
    partition_curves_dispose(&curves);
    array_dispose(&set.norms);
}

static void save(const struct partition *p)
{
    struct snapshot_writer *w;
    must(snapshot_begin(PATH, &cover, &w) == SYNA_SUCCESS && partition_save(p, w) == SYNA_SUCCESS &&
         snapshot_commit(w) == SYNA_SUCCESS);
}

static void make_sound(void)
{
    struct partition p;
    struct partition_source from = source_now();
    partition_init(&p, DIMS, SYNA_METRIC_EUCLIDEAN);
    must(partition_build(&p, &from, WELLS, false) == SYNA_SUCCESS && p.count == WELLS);
    must(partition_set_groups(&p, (uint32_t[]){0, 5, 9, WELLS}, 3) == SYNA_SUCCESS);
    measure(&p);
    save(&p);
    partition_dispose(&p);
    struct snapshot *s = open_snapshot();
    for (size_t i = 0; i < SECTIONS; i++) {
        const void *bytes = snapshot_find(s, names[i], &sound[i].len);
        must(bytes && sound[i].len <= SECTION_MAX);
        memcpy(sound[i].bytes, bytes, sound[i].len);
    }
    snapshot_close(s);
}

/* Section and kind share the first byte; a place beyond the end and a length beyond the room are
 * taken modulo. */
static void edit(const uint8_t *e)
{
    size_t i = e[0] % SECTIONS, place = e[1] | (size_t)e[2] << 8;
    if (e[0] & 0x80)
        edited[i].len = place % (SECTION_MAX + 1);
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

static void search_as(const struct partition *p, const struct partition_reach *reach, bool some)
{
    const uint64_t chosen[ROWS / 64] = {0x5555555555555555u, 0x5555555555555555u, 1, 1};
    struct row_set set = set_of(p);
    struct topk tops[3];
    for (uint32_t q = 0; q < 3; q++)
        topk_init(&tops[q], 5, FLT_MAX);
    must(partition_search(p, &set, rows[0], 3, reach, some ? chosen : NULL, tops, NULL) == SYNA_SUCCESS);
    for (uint32_t q = 0; q < 3; q++) {
        for (size_t i = 0; i < tops[q].count; i++)
            must(tops[q].items[i].row < p->end);
        topk_dispose(&tops[q]);
    }
    array_dispose(&set.norms);
}

static void search(const struct partition *p)
{
    struct partition_reach reach = {.lists = p->count};
    search_as(p, &reach, false);
    partition_reach_for(p, 10, 0.9f, &reach);
    must(reach.lists <= p->count);
    search_as(p, &reach, true);
    reach = (struct partition_reach){.lists = partition_lists_of(p, 50)};
    must(reach.lists <= p->count && partition_recall_at(p, 10, reach.lists) <= 1);
    reach.codes = partition_codes_of(p, 50, reach.lists);
    search_as(p, &reach, false);
}

static void extend(struct partition *p)
{
    struct partition_source from = source_now();
    struct partition_plan plan;
    struct partition_split split;
    from.count = p->end + LATER;
    must(partition_plan_add(p, &from, LATER, &plan) == SYNA_SUCCESS &&
         partition_add(p, &plan) == SYNA_SUCCESS);
    partition_plan_dispose(&plan);
    must(partition_plan_split(p, &from, 0, &split) == SYNA_SUCCESS);
    must(partition_apply_split(p, &split) == SYNA_SUCCESS);
    partition_split_dispose(&split);
}

/* Measuring and upkeep take many times as long as searches: not always. */
static void use(struct partition *p, unsigned how)
{
    must(p->end <= ROWS);
    search(p);
    if (how % 4 == 1 && p->end + LATER <= ROWS) {
        extend(p);
        search(p);
    }
    if (how % 64 == 1) {
        measure(p);
        search(p);
    }
    if (how % 4 == 2)
        save(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem_fs *fs;
    struct partition p;
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
    partition_init(&p, DIMS, SYNA_METRIC_EUCLIDEAN);
    must(partition_load(&p, s, FILED, &found) == SYNA_SUCCESS);
    must(found || !partition_trained(&p));
    if (found)
        use(&p, size ? data[0] : 0);
    partition_dispose(&p);
    snapshot_close(s);
    return 0;
}
