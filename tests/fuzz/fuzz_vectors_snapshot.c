/* A vector store whose snapshot has sound checksums and any contents: bytes changed, sections cut short.
 * The store must open, from the log where the snapshot does not fit, and answer or refuse every call
 * without harm. The first byte says what is done; each following four change a byte: section, place
 * (two), value; with the section's top bit the place is where the section ends. */
#include "base/internal.h"

#include "base/mem.h"
#include "base/rng.h"
#include "base/vec.h"
#include "engine/vectors_core.h"
#include "vfs_mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 40, DIMS = 4, EDIT = 4 };
#define PATH MEM_DIR "/v.db"
#define SNAPSHOT PATH ".hnsw"
#define PURPOSE SNAPSHOT_FOURCC('V', 'E', 'C', 'S')

static const char *const names[] = {"store",    "codes",    "errors", "norms",   "places",
                                    "live",     "keyrows",  "keytags", "metarows", "metatext",
                                    "hnsw",     "entries",  "links"};
#define SECTIONS COUNT_OF(names)

static struct mem_fs *sound_fs, *fs;
static struct buf sound[SECTIONS];
static struct snapshot_cover cover;
static float rows[ROWS][DIMS];
static char keys[ROWS][8];

struct open_store {
    syna_db *db;
    syna_vectors *store;
};

static void must(bool ok)
{
    if (!ok)
        __builtin_trap();
}

static void open_store(struct open_store *o)
{
    const syna_db_options log = {.size = sizeof log, .no_sync = 1};
    const syna_vectors_options how = {.size = sizeof how, .dimensions = DIMS, .no_absorber = 1,
                                      .metric = SYNA_METRIC_EUCLIDEAN, .no_sync = 1, .m = 8,
                                      .ef_construction = 40, .ef_search = 20, .threads = 1};
    must(db_open(PATH, &log, &o->db) == SYNA_SUCCESS);
    must(vectors_new(o->db, &how, &o->store) == SYNA_SUCCESS);
}

static void close_store(struct open_store *o)
{
    vectors_free(o->store);
    must(db_close(o->db) == SYNA_SUCCESS);
}

static syna_rc put(syna_vectors *store, size_t row, const char *json)
{
    const char *key = keys[row];
    size_t added;
    const struct vectors_batch one = {.keys = &key, .vectors = rows[row], .metadata = &json,
                                      .dims = DIMS, .count = 1};
    return vectors_insert(store, &one, &added);
}

static void make_rows(syna_vectors *store)
{
    uint64_t seed = 1;
    for (size_t r = 0; r < ROWS; r++) {
        char json[32];
        snprintf(keys[r], sizeof keys[r], "k%zu", r);
        snprintf(json, sizeof json, "{\"n\": %zu}", r % 7);
        for (size_t i = 0; i < DIMS; i++)
            rows[r][i] = (float)(rng_next(&seed) % 1000) / 500 - 1;
        must(put(store, r, json) == SYNA_SUCCESS);
    }
}

/* The log with its rows, and the sections of the snapshot beside it. */
static void make_sound(void)
{
    struct open_store o;
    struct snapshot *s;
    uint64_t last;
    sound_fs = mem_fs_new(1);
    fs = mem_fs_new(1);
    mem_fs_use(sound_fs);
    syna_test_set_vfs(&vfs_mem);
    open_store(&o);
    make_rows(o.store);
    must(vectors_build_index(o.store, NULL, NULL) == SYNA_SUCCESS);
    must(vectors_flush(o.store) == SYNA_SUCCESS);
    vectors_save(o.store);
    db_view_cover(o.store->view, PURPOSE, &cover, &last);
    close_store(&o);
    must(snapshot_open(SNAPSHOT, &cover, &s) == SYNA_SUCCESS && s);
    for (size_t i = 0; i < SECTIONS; i++) {
        size_t len;
        const void *bytes = snapshot_find(s, names[i], &len);
        must(bytes && buf_append(&sound[i], bytes, len));
    }
    snapshot_close(s);
}

static void write_edited(const uint8_t *data, size_t size)
{
    struct snapshot_writer *w;
    must(snapshot_begin(SNAPSHOT, &cover, &w) == SYNA_SUCCESS);
    for (size_t i = 0; i < SECTIONS; i++) {
        struct buf copy = {0};
        must(buf_append(&copy, sound[i].bytes, sound[i].len));
        size_t len = copy.len;
        for (size_t at = 0; at + EDIT <= size; at += EDIT) {
            size_t place = data[at + 1] | (size_t)data[at + 2] << 8;
            if ((data[at] & 0x7f) % SECTIONS != i || copy.len == 0)
                continue;
            if (data[at] & 0x80)
                len = place % (copy.len + 1);
            else
                copy.bytes[place % copy.len] = data[at + 3];
        }
        must(snapshot_section(w, names[i]) == SYNA_SUCCESS &&
             snapshot_append(w, copy.bytes, len) == SYNA_SUCCESS);
        buf_dispose(&copy);
    }
    must(snapshot_commit(w) == SYNA_SUCCESS);
}

static void search(syna_vectors *store, const char *filter, float recall)
{
    const syna_search how = {.size = sizeof how, .k = 5, .recall = recall, .filter = filter,
                             .filter_len = filter ? strlen(filter) : 0,
                             .flags = SYNA_SEARCH_VECTORS | SYNA_SEARCH_METADATA};
    syna_hit *hits;
    size_t counts[3];
    if (vectors_search(store, rows[0], 3, DIMS, &how, &hits, counts) == SYNA_SUCCESS) {
        must(counts[0] <= 5 && counts[1] <= 5 && counts[2] <= 5);
        mem_free(hits);
    }
}

static void read_all(syna_vectors *store)
{
    float row[DIMS];
    char *json;
    size_t len;
    for (size_t r = 0; r < ROWS; r++) {
        vectors_get(store, keys[r], strlen(keys[r]), row, DIMS);
        if (vectors_get_metadata(store, keys[r], strlen(keys[r]), &json, &len) == SYNA_SUCCESS)
            mem_free(json);
    }
}

static void use(syna_vectors *store, uint8_t how)
{
    int32_t deleted;
    search(store, NULL, 0);
    search(store, NULL, 0.9f);
    search(store, "{\"n\": 3}", 0);
    read_all(store);
    if (how & 1) {
        put(store, 5, NULL);
        vectors_delete(store, keys[7], strlen(keys[7]), &deleted);
        search(store, NULL, 0);
    }
    if (how & 2)
        vectors_build_index(store, NULL, NULL);
    if (how & 4)
        vectors_save(store);
    search(store, NULL, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct open_store o;
    if (!sound_fs)
        make_sound();
    mem_fs_use(fs);
    mem_fs_copy(fs, sound_fs);
    write_edited(data + MIN(size, (size_t)1), size - MIN(size, (size_t)1));
    open_store(&o);
    must(size > EDIT || vectors_has_index(o.store)); /* unchanged, it is taken */
    use(o.store, size ? data[0] : 0);
    close_store(&o);
    return 0;
}
