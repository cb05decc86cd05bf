/* The sections of a postings snapshot with any of their bytes changed and sound checksums. Whatever loads must be
 * searched, marked, added to and joined without harm. */
#include "base/internal.h"

#include "base/vec.h"
#include "index/postings.h"
#include "vfs_mem.h"

#include <float.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PATH MEM_DIR "/f"

static const uint32_t row_terms[] = {1, 5, 9};
static const float row_weights[] = {1, 2, -3};
static const uint32_t row_counts[] = {1, 2, 300};

static void show(void *context, uint32_t row, struct postings_row *out)
{
    (void)context;
    (void)row;
    *out = (struct postings_row){row_terms, row_weights, COUNT_OF(row_terms), 0};
}

static const char *const names[] = {"post",     "postwin", "postlist", "postids", "postcode",
                                    "postlive", "postcnt", "postbig",  "postlen"};

/* An index of 200 rows, saved under a name. */
static void make_base(enum postings_kind kind, const char *path, const struct snapshot_cover *cover)
{
    struct postings *p;
    struct snapshot_writer *writer;
    struct postings_row row = {row_terms, kind == POSTINGS_COUNTS ? (const void *)row_counts : row_weights,
                               COUNT_OF(row_terms), 303};
    if (postings_new(kind, kind == POSTINGS_WEIGHTS ? show : NULL, NULL, &p) != SYNA_SUCCESS)
        __builtin_trap();
    for (int i = 0; i < 200; i++) {
        if (postings_reserve(p, 1, COUNT_OF(row_terms)) != SYNA_SUCCESS)
            __builtin_trap();
        postings_add(p, &row);
    }
    if (postings_settle(p) != SYNA_SUCCESS || snapshot_begin(path, cover, &writer) != SYNA_SUCCESS ||
        postings_save(p, writer) != SYNA_SUCCESS || snapshot_commit(writer) != SYNA_SUCCESS)
        __builtin_trap();
    postings_free(p);
}

/* The sections of the base with the bytes changed that the input names: section, position, value. An odd
 * end of the input cuts a section short. */
static bool write_changed(struct snapshot *base, const uint8_t *data, size_t size,
                          const struct snapshot_cover *cover)
{
    struct snapshot_writer *writer;
    if (snapshot_begin(PATH, cover, &writer) != SYNA_SUCCESS)
        return false;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        size_t len;
        const void *bytes = snapshot_find(base, names[i], &len);
        if (!bytes)
            continue;
        struct buf copy = {0};
        buf_append(&copy, bytes, len);
        for (size_t at = 0; at + 4 <= size; at += 4)
            if (data[at] % COUNT_OF(names) == i && copy.len)
                copy.bytes[(size_t)(data[at + 1] | data[at + 2] << 8) % copy.len] = data[at + 3];
        size_t cut = size % 4 == 3 && data[size - 1] % COUNT_OF(names) == i ? data[size - 2] : 0;
        snapshot_section(writer, names[i]);
        snapshot_append(writer, copy.bytes, len - MIN(cut, len));
        buf_dispose(&copy);
    }
    return snapshot_commit(writer) == SYNA_SUCCESS;
}

static void search(const struct postings *p)
{
    struct topk top;
    float weights[] = {1, -2, 0.5f};
    struct postings_query query = {row_terms, weights, COUNT_OF(row_terms), .base = 0.3f,
                                   .slope = 0.1f};
    for (int i = 0; i < 2; i++, query.recall = 0.9f) {
        topk_init(&top, 5, FLT_MAX);
        if (postings_search(p, &query, &top, NULL) == SYNA_SUCCESS)
            topk_sort(&top);
        topk_dispose(&top);
    }
}

static void use(struct postings *p)
{
    uint32_t count = postings_count(p);
    uint64_t *bits = mem_zalloc(((size_t)count / 64 + 1) * sizeof *bits);
    search(p);
    for (uint32_t i = 0; bits && i < COUNT_OF(row_terms); i++) {
        postings_mark(p, row_terms[i], bits);
        postings_term_rows(p, row_terms[i]);
    }
    mem_free(bits);
    struct postings_row row = {row_terms, row_counts, COUNT_OF(row_terms), 303};
    if (postings_reserve(p, 1, COUNT_OF(row_terms)) == SYNA_SUCCESS)
        postings_add(p, &row);
    if (count)
        postings_drop(p, count / 2);
    if (postings_settle(p) == SYNA_SUCCESS)
        search(p);
}

static void load(enum postings_kind kind, struct snapshot *s)
{
    struct postings *p;
    bool found;
    if (postings_new(kind, kind == POSTINGS_WEIGHTS ? show : NULL, NULL, &p) != SYNA_SUCCESS)
        return;
    if (postings_load(p, s, &found) == SYNA_SUCCESS && found && postings_count(p) < 1u << 20)
        use(p);
    postings_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem_fs *fs;
    static const char *const bases[] = {MEM_DIR "/weights", MEM_DIR "/counts"};
    const struct snapshot_cover cover = {.generation = 1, .end = 1, .purpose = 1};
    struct snapshot *base, *s;
    if (size < 1)
        return 0;
    if (!fs) {
        fs = mem_fs_new(1);
        mem_fs_use(fs);
        syna_test_set_vfs(&vfs_mem);
        make_base(POSTINGS_WEIGHTS, bases[0], &cover);
        make_base(POSTINGS_COUNTS, bases[1], &cover);
    }
    enum postings_kind kind = data[0] % 2 ? POSTINGS_COUNTS : POSTINGS_WEIGHTS;
    if (snapshot_open(bases[kind], &cover, &base) != SYNA_SUCCESS || !base)
        __builtin_trap();
    if (!write_changed(base, data + 1, size - 1, &cover) ||
        snapshot_open(PATH, &cover, &s) != SYNA_SUCCESS || !s)
        __builtin_trap();
    load(kind, s);
    snapshot_close(s);
    snapshot_close(base);
    return 0;
}
