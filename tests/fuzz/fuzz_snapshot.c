/* Snapshot files on any bytes. The first byte chooses: the rest is a file as it is; or it is what
 * lies behind the header block and gets header, trailer and checksums that fit, so that the section
 * table is reached; or the same behind a megabyte of zeros, so that sections can be large enough to
 * be checked lazily. Opening never fails, and every section that is found lies in the file. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "base/vec.h"
#include "store/frame.h"
#include "store/snapshot.h"
#include "vfs_mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PATH MEM_DIR "/x.idx"
#define GAP (18u * SNAPSHOT_PAGE)
#define TRAILER 32u

static const struct snapshot_cover cover = {.uuid = {7}, .generation = 2, .purpose = 0x31323334};

static void add(struct buf *to, const void *bytes, size_t len)
{
    if (!buf_append(to, bytes, len))
        __builtin_trap();
}

static void add_header(struct buf *file)
{
    struct header h = {.major = 1, .kind = KIND_SNAPSHOT, .generation = cover.generation};
    uint8_t bytes[HEADER_BYTES];
    memcpy(h.uuid, cover.uuid, sizeof h.uuid);
    header_encode(&h, bytes);
    add(file, bytes, sizeof bytes);
}

static uint32_t place_crc(const struct buf *file, uint64_t offset, size_t len)
{
    uint8_t place[8];
    store_u64(place, offset);
    uint32_t crc = crc32c(load_u32(file->bytes + HEADER_AT_CRC), place, 8);
    return crc32c(crc, file->bytes + offset, len);
}

/* Give an entry of the table the checksums that it claims: its own, or those of its pages, which
 * are taken from `pages` on. */
static void mend_entry(struct buf *file, uint8_t *entry, uint8_t **pages, const uint8_t *end)
{
    uint64_t offset = load_u64(entry + 8), len = load_u64(entry + 16);
    if (offset > file->len || len > file->len - offset)
        return;
    if (len <= SNAPSHOT_LAZY) {
        store_u32(entry + 24, place_crc(file, offset, (size_t)len));
        return;
    }
    for (uint64_t at = 0; at < len && *pages + 4 <= end; at += SNAPSHOT_PAGE, *pages += 4)
        store_u32(*pages,
                  place_crc(file, offset + at, MIN((size_t)SNAPSHOT_PAGE, (size_t)(len - at))));
}

static void mend_table(struct buf *file, uint64_t footer, size_t footer_len)
{
    uint8_t *table = file->bytes + footer + 24, *end = file->bytes + footer + footer_len;
    uint32_t count = (uint32_t)MIN((footer_len - 24) / 32, load_u32(file->bytes + footer + 4));
    uint8_t *pages = table + 32 * (size_t)count;
    for (uint32_t i = 0; i < count; i++)
        mend_entry(file, table + 32 * (size_t)i, &pages, end);
}

/* The trailer that fits; the footer begins where the last `footer_len` bytes do. */
static void add_trailer(struct buf *file, size_t footer_len)
{
    uint8_t trailer[TRAILER] = {0};
    uint64_t footer = file->len - footer_len;
    store_u32(file->bytes + footer, cover.purpose);
    mend_table(file, footer, footer_len);
    store_u64(trailer, footer);
    store_u64(trailer + 8, footer_len);
    store_u64(trailer + 16, file->len + TRAILER);
    store_u32(trailer + 28, SNAPSHOT_FOURCC('S', 'N', 'A', 'P'));
    add(file, trailer, sizeof trailer);
    uint32_t crc = place_crc(file, footer, footer_len + 24);
    store_u32(file->bytes + file->len - 8, crc);
}

/* The input's first two bytes say how much of it is the footer. */
static void make_file(struct buf *file, unsigned how, const uint8_t *data, size_t size)
{
    if (how == 0 || size < 2 + 24) {
        add(file, data, size);
        return;
    }
    size_t footer_len = MAX((size_t)24, load_u16(data) % (size - 1));
    add_header(file);
    if (how == 2) {
        uint8_t *gap = buf_extend(file, GAP);
        if (!gap)
            __builtin_trap();
        memset(gap, 0, GAP);
    }
    add(file, data + 2, size - 2);
    add_trailer(file, MIN(footer_len, size - 2));
}

static volatile unsigned sink; /* so that what is read counts */

static unsigned use(const uint8_t *bytes, size_t len)
{
    unsigned sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += bytes[i];
    return sum;
}

/* Look every name of the table up, and read what may be read. */
static void check_sections(struct snapshot *s, const struct buf *file)
{
    const uint8_t *footer = file->bytes + load_u64(file->bytes + file->len - TRAILER);
    for (uint32_t i = 0; i < load_u32(footer + 4); i++) {
        const uint8_t *entry = footer + 24 + 32 * (size_t)i;
        char name[9] = {0};
        size_t len;
        memcpy(name, entry, 8);
        uint8_t *bytes = snapshot_find(s, name, &len);
        if (!bytes) { /* a name with a zero inside is no name */
            if (memchr(entry, 0, 8) == NULL)
                __builtin_trap();
            continue;
        }
        if (len > file->len)
            __builtin_trap();
        for (size_t at = 0; at < len; at += SNAPSHOT_PAGE) {
            size_t piece = MIN((size_t)SNAPSHOT_PAGE, len - at);
            if (snapshot_touch(s, bytes + at, piece)) {
                if (!snapshot_touch(s, bytes + at, 1))
                    __builtin_trap();
                sink += use(bytes + at, piece);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem_fs *fs;
    if (!fs) {
        fs = mem_fs_new(1);
        mem_fs_use(fs);
        syna_test_set_vfs(&vfs_mem);
        mem_fs_create(fs, PATH);
    }
    if (size < 1)
        return 0;
    struct buf file = {0};
    make_file(&file, data[0] % 3, data + 1, size - 1);
    uint64_t number = mem_fs_find(fs, PATH);
    mem_fs_resize(fs, number, 0);
    mem_fs_write(fs, number, 0, file.bytes, file.len);
    struct snapshot *s;
    if (snapshot_open(PATH, &cover, &s) != SYNA_SUCCESS)
        __builtin_trap();
    if (s)
        check_sections(s, &file);
    snapshot_close(s);
    buf_dispose(&file);
    return 0;
}
