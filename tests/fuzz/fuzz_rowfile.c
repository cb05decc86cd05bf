/* A row file of any bytes. The first byte chooses whether header, slots and the CRCs of unfinished
 * blocks are made right, so that what stands behind them is reached. Whatever opens must be readable
 * without harm: rows, records, keys, search, verify. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "engine/mmap_vectors.h"
#include "store/rowfile.h"
#include "vfs_mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PATH MEM_DIR "/f"
#define ROOM (5 * (size_t)ROWFILE_BLOCK)

static uint8_t file[ROOM];

/* A sound header, slot and segments over the fuzzed rows and records. */
static void mend(const uint8_t *data, size_t size)
{
    struct header h = {.major = FORMAT_MAJOR, .minor = FORMAT_MINOR, .kind = KIND_ROWS, .generation = 1};
    struct row_slot slot = {.sequence = 1 + data[0] % 4,
                            .rows = data[1] % 16,
                            .record_bytes = size > 4 ? (size - 4) / 2 : 0,
                            .record_sequence = data[2],
                            .row_bytes = 64,
                            .component = 0x50414d4d,
                            .config_len = 8,
                            .config = {1, 0, 0, 0, 1},
                            .segment_count = 2,
                            .segments = {{STREAM_ROWS, 1, 2}, {STREAM_RECORDS, 3, 2}}};
    slot.record_bytes = MIN(slot.record_bytes, (uint64_t)ROWFILE_BLOCK - 1) & ~(uint64_t)3;
    uint8_t *rows = file + ROWFILE_BLOCK, *records = file + 3 * ROWFILE_BLOCK;
    memcpy(records, data + 4, slot.record_bytes);
    size_t left = size - 4 - slot.record_bytes;
    memcpy(rows, data + 4 + slot.record_bytes, MIN(left, (size_t)ROWFILE_BLOCK));
    uint64_t row_bytes = slot.rows * slot.row_bytes;
    slot.tails[STREAM_ROWS] = row_bytes ? crc32c(0, rows, row_bytes) : 0;
    slot.tails[STREAM_RECORDS] = slot.record_bytes ? crc32c(0, records, slot.record_bytes) : 0;
    header_encode(&h, file);
    slot_encode(&slot, h.uuid, file + SLOT_OFFSET + SLOT_BYTES * (slot.sequence % 2));
}

static void use(syna_mmap *store)
{
    const float query = 1;
    float back;
    size_t count;
    syna_hit *hits;
    syna_search how = {.size = sizeof how, .k = 5, .flags = SYNA_SEARCH_VECTORS};
    if (mmap_vectors_search(store, &query, 1, 1, &how, &hits, &count) == SYNA_SUCCESS)
        syna_free_hits(hits);
    if (mmap_vectors_rows(store, SYNA_SEARCH_VECTORS, &hits, &count) == SYNA_SUCCESS) {
        for (size_t i = 0; i < count; i++)
            mmap_vectors_get(store, hits[i].key, hits[i].key_len, &back, 1);
        syna_free_hits(hits);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem_fs *fs;
    if (size < 8 || size > ROOM)
        return 0;
    memset(file, 0, sizeof file);
    bool whole = data[0] & 0x80;
    if (whole)
        mend(data, size);
    else
        memcpy(file, data, size);
    if (!fs)
        fs = mem_fs_new(1);
    mem_fs_use(fs);
    syna_test_set_vfs(&vfs_mem);
    mem_fs_remove_name(fs, PATH);
    uint64_t number = mem_fs_create(fs, PATH);
    mem_fs_write(fs, number, 0, file, whole ? sizeof file : size);
    mem_fs_resize(fs, number, whole ? sizeof file : size);

    syna_mmap_options options = {.size = sizeof options, .dimensions = 1, .metric = 1, .read_only = 1};
    syna_check found = {.size = sizeof found};
    syna_mmap *store;
    if (mmap_vectors_open(PATH, &options, &store) == SYNA_SUCCESS) {
        use(store);
        mmap_vectors_close(store);
    }
    mmap_vectors_verify(PATH, NULL, NULL, NULL, &found);
    if (mem_fs_open_count(fs) != 0)
        __builtin_trap();
    syna_test_set_vfs(NULL);
    mem_fs_free(fs);
    fs = NULL;
    return 0;
}
