/* Whole-file snapshots: writing through a temp file, reading through a private map.
 *
 *     header block | section, section, ... | footer | trailer
 *
 * The trailer, the last 32 bytes, says where the footer is; the footer holds the cover, the section
 * table and the page checksums (FORMATS.md). Every checksum starts from the header block's own
 * checksum and the place of what it covers, so bytes of an older snapshot, or of another place in
 * this one, do not pass.
 *
 *   1. The file is never changed after its rename, so a map of it stays valid.
 *   2. A page of a lazy section is used only after its byte in `seen` became SEEN_GOOD.
 *   3. Lazy sections start on page boundaries of the file, so a page belongs to at most one of them
 *      and `seen` is indexed by file offset / SNAPSHOT_PAGE.
 *   4. A store into the map comes after the touch of its page, so a checksum never meets changed
 *      bytes; two threads that check a page at once see the same. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "base/vec.h"
#include "io/file.h"
#include "store/frame.h"
#include "store/snapshot.h"

#define SECTION_ALIGN 4096u
/* Long sections are written in pieces that end at multiples of this: a file system that keeps a
 * write's pages together can then map them as huge pages, which spares readers most TLB misses. */
#define WRITE_UNIT (2u << 20)
#define NAME_BYTES 8u

/* Footer: fixed part, then count entries, then page checksums (u32 each, sections in order). */
enum footer_at {
    FOOTER_AT_PURPOSE = 0,  /* u32 */
    FOOTER_AT_COUNT = 4,    /* u32, sections */
    FOOTER_AT_END = 8,      /* u64, cover.end */
    FOOTER_AT_END_CRC = 16, /* u32, cover.end_crc */
    FOOTER_AT_PAGES = 20,   /* u32, page checksums */
    FOOTER_FIXED = 24,
};
enum entry_at {
    ENTRY_AT_NAME = 0,   /* 8 bytes, padded with zeros */
    ENTRY_AT_OFFSET = 8, /* u64, in the file */
    ENTRY_AT_LEN = 16,   /* u64 */
    ENTRY_AT_CRC = 24,   /* u32: of the whole section, 0 for a lazy one */
    ENTRY_AT_PAGES = 28, /* u32: page checksums it has, 0 unless lazy */
    ENTRY_BYTES = 32,
};
enum trailer_at {
    TRAILER_AT_FOOTER = 0,     /* u64, offset of the footer */
    TRAILER_AT_FOOTER_LEN = 8, /* u64 */
    TRAILER_AT_TOTAL = 16,     /* u64, length of the file */
    TRAILER_AT_CRC = 24,       /* u32, over the footer and the trailer up to here */
    TRAILER_AT_MAGIC = 28,     /* u32 */
    TRAILER_BYTES = 32,
};
#define TRAILER_MAGIC SNAPSHOT_FOURCC('S', 'N', 'A', 'P')

struct section {
    char name[NAME_BYTES];
    uint64_t offset, len;
    uint32_t crc;
    uint32_t pages;
    uint32_t first_page; /* where its page checksums begin; not in the file */
};

static uint32_t place_checksum(uint32_t seed, uint64_t offset, const void *bytes, size_t len)
{
    uint8_t place[8];
    store_u64(place, offset);
    return crc32c(crc32c(seed, place, sizeof place), bytes, len);
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static bool is_lazy(uint64_t len)
{
    return len > SNAPSHOT_LAZY;
}

static uint32_t pages_of(uint64_t len)
{
    return is_lazy(len) ? (uint32_t)((len + SNAPSHOT_PAGE - 1) / SNAPSHOT_PAGE) : 0;
}

/* Fill a padded name; false when it is empty or too long. */
static bool make_name(char to[NAME_BYTES], const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > NAME_BYTES)
        return false;
    memset(to, 0, NAME_BYTES);
    memcpy(to, name, len);
    return true;
}

/* ---- writing */

struct snapshot_writer {
    struct file file;
    char *path;
    struct snapshot_cover cover;
    uint32_t seed;
    uint64_t at; /* file offset behind what has been placed */
    struct section sections[SNAPSHOT_SECTIONS_MAX];
    uint32_t count;
    bool in_section, lazy; /* lazy: the open section has outgrown SNAPSHOT_LAZY */
    bool failed;
    struct buf pending;   /* bytes of the open section that are not written yet */
    struct buf page_crcs; /* u32 each */
};

static void writer_free(struct snapshot_writer *w)
{
    buf_dispose(&w->pending);
    buf_dispose(&w->page_crcs);
    mem_free(w->path);
    mem_free(w);
}

static syna_rc write_header(struct snapshot_writer *w)
{
    struct header h = {
        .major = FORMAT_MAJOR,
        .minor = FORMAT_MINOR,
        .kind = KIND_SNAPSHOT,
        .generation = w->cover.generation,
        .created_us = syna_vfs->now_us(),
    };
    memcpy(h.uuid, w->cover.uuid, sizeof h.uuid);
    uint8_t block[HEADER_BYTES];
    header_encode(&h, block);
    w->seed = load_u32(block + HEADER_AT_CRC);
    w->at = HEADER_BYTES;
    return file_write_all(&w->file, 0, block, sizeof block);
}

/* A snapshot is named after the file that it was made of, with a suffix, and holds some of its contents. */
static void take_access(struct snapshot_writer *w)
{
    char *suffix = strrchr(w->path, '.');
    if (suffix && !strchr(suffix, '/')) {
        *suffix = 0;
        file_take_access(&w->file, w->path);
        *suffix = '.';
    }
}

syna_rc snapshot_begin(const char *path, const struct snapshot_cover *cover,
                       struct snapshot_writer **out)
{
    struct snapshot_writer *w = mem_zalloc(sizeof *w);
    if (!w)
        return syna_no_memory(sizeof *w);
    w->cover = *cover;
    w->file.fd = -1;
    w->path = mem_dup(path, strlen(path));
    syna_rc rc = w->path ? file_create_temp(&w->file, path) : syna_no_memory(strlen(path) + 1);
    if (rc != SYNA_SUCCESS) {
        writer_free(w);
        return rc;
    }
    take_access(w);
    rc = write_header(w);
    if (rc != SYNA_SUCCESS) {
        snapshot_abort(w);
        return rc;
    }
    *out = w;
    return SYNA_SUCCESS;
}

/* Bytes that may be pending: a short section as a whole, a lazy one up to the next unit. */
static size_t pending_room(const struct snapshot_writer *w)
{
    return w->lazy ? WRITE_UNIT - (size_t)(w->at % WRITE_UNIT) : SNAPSHOT_LAZY;
}

static void make_lazy(struct snapshot_writer *w)
{
    w->lazy = true;
    w->sections[w->count - 1].offset = w->at = round_up(w->at, SNAPSHOT_PAGE);
}

/* Write out what is pending, with a checksum for each page of it. All pages but a section's last
 * are full, because whole pages fit into what may be pending. */
static syna_rc flush_pages(struct snapshot_writer *w)
{
    struct section *s = &w->sections[w->count - 1];
    for (size_t at = 0; at < w->pending.len; at += SNAPSHOT_PAGE) {
        size_t len = MIN(w->pending.len - at, (size_t)SNAPSHOT_PAGE);
        uint32_t crc = place_checksum(w->seed, w->at + at, w->pending.bytes + at, len);
        if (!buf_append(&w->page_crcs, &crc, sizeof crc))
            return syna_no_memory(sizeof crc);
        s->pages++;
    }
    SYNA_TRY(file_write_all(&w->file, w->at, w->pending.bytes, w->pending.len));
    w->at += w->pending.len;
    w->pending.len = 0;
    return SYNA_SUCCESS;
}

static syna_rc end_section(struct snapshot_writer *w)
{
    if (!w->in_section)
        return SYNA_SUCCESS;
    w->in_section = false;
    if (w->lazy)
        return flush_pages(w);
    struct section *s = &w->sections[w->count - 1];
    s->offset = w->at = round_up(w->at, SECTION_ALIGN);
    s->crc = place_checksum(w->seed, s->offset, w->pending.bytes, w->pending.len);
    SYNA_TRY(file_write_all(&w->file, w->at, w->pending.bytes, w->pending.len));
    w->at += w->pending.len;
    w->pending.len = 0;
    return SYNA_SUCCESS;
}

static bool name_taken(const struct snapshot_writer *w, const char name[NAME_BYTES])
{
    for (uint32_t i = 0; i < w->count; i++)
        if (memcmp(w->sections[i].name, name, NAME_BYTES) == 0)
            return true;
    return false;
}

static syna_rc begin_section(struct snapshot_writer *w, const char *name)
{
    SYNA_TRY(end_section(w));
    struct section s = {0};
    if (w->count == SNAPSHOT_SECTIONS_MAX || !make_name(s.name, name) || name_taken(w, s.name))
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_ARGUMENT,
                         "%s: section '%s' is number %u of at most %u, has no name of 1..%u "
                         "characters, or is there twice",
                         w->path, name, w->count + 1, SNAPSHOT_SECTIONS_MAX, NAME_BYTES);
    w->sections[w->count++] = s;
    w->in_section = true;
    w->lazy = false;
    return SYNA_SUCCESS;
}

static syna_rc append_piece(struct snapshot_writer *w, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        if (!w->lazy && w->pending.len == SNAPSHOT_LAZY)
            make_lazy(w);
        if (w->lazy && w->pending.len >= pending_room(w))
            SYNA_TRY(flush_pages(w));
        size_t piece = MIN(len, pending_room(w) - w->pending.len);
        if (!buf_append(&w->pending, bytes, piece))
            return syna_no_memory(piece);
        w->sections[w->count - 1].len += piece;
        bytes += piece;
        len -= piece;
    }
    return SYNA_SUCCESS;
}

/* A snapshot with a hole in it must not be published, whatever the caller does next. */
static syna_rc noting_failure(struct snapshot_writer *w, syna_rc rc)
{
    w->failed |= rc != SYNA_SUCCESS;
    return rc;
}

syna_rc snapshot_section(struct snapshot_writer *w, const char *name)
{
    return noting_failure(w, begin_section(w, name));
}

syna_rc snapshot_append(struct snapshot_writer *w, const void *bytes, size_t len)
{
    if (!w->in_section)
        return noting_failure(w, syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_ARGUMENT,
                                           "%s: bytes before the first section", w->path));
    return noting_failure(w, append_piece(w, bytes, len));
}

/* The footer with its trailer, as one run of bytes. */
static bool make_footer(const struct snapshot_writer *w, uint64_t offset, struct buf *to)
{
    size_t table = FOOTER_FIXED + (size_t)w->count * ENTRY_BYTES;
    size_t footer_len = table + w->page_crcs.len;
    uint8_t *p = buf_extend(to, footer_len + TRAILER_BYTES);
    if (!p)
        return false;
    memset(p, 0, footer_len + TRAILER_BYTES);
    store_u32(p + FOOTER_AT_PURPOSE, w->cover.purpose);
    store_u32(p + FOOTER_AT_COUNT, w->count);
    store_u64(p + FOOTER_AT_END, w->cover.end);
    store_u32(p + FOOTER_AT_END_CRC, w->cover.end_crc);
    store_u32(p + FOOTER_AT_PAGES, (uint32_t)(w->page_crcs.len / 4));
    for (uint32_t i = 0; i < w->count; i++) {
        const struct section *s = &w->sections[i];
        uint8_t *entry = p + FOOTER_FIXED + (size_t)i * ENTRY_BYTES;
        memcpy(entry + ENTRY_AT_NAME, s->name, NAME_BYTES);
        store_u64(entry + ENTRY_AT_OFFSET, s->offset);
        store_u64(entry + ENTRY_AT_LEN, s->len);
        store_u32(entry + ENTRY_AT_CRC, s->crc);
        store_u32(entry + ENTRY_AT_PAGES, s->pages);
    }
    if (w->page_crcs.len)
        memcpy(p + table, w->page_crcs.bytes, w->page_crcs.len);
    uint8_t *trailer = p + footer_len;
    store_u64(trailer + TRAILER_AT_FOOTER, offset);
    store_u64(trailer + TRAILER_AT_FOOTER_LEN, footer_len);
    store_u64(trailer + TRAILER_AT_TOTAL, offset + footer_len + TRAILER_BYTES);
    store_u32(trailer + TRAILER_AT_CRC,
              place_checksum(w->seed, offset, p, footer_len + TRAILER_AT_CRC));
    store_u32(trailer + TRAILER_AT_MAGIC, TRAILER_MAGIC);
    return true;
}

static syna_rc write_footer(struct snapshot_writer *w)
{
    uint64_t offset = round_up(w->at, 8);
    w->pending.len = 0;
    if (!make_footer(w, offset, &w->pending))
        return syna_no_memory(w->page_crcs.len);
    return file_write_all(&w->file, offset, w->pending.bytes, w->pending.len);
}

static syna_rc finish(struct snapshot_writer *w)
{
    if (w->failed)
        return syna_fail(SYNA_ERR_INTERNAL, SYNA_WHY_NONE, "%s: an earlier step of writing failed",
                         w->path);
    SYNA_TRY(end_section(w));
    SYNA_TRY(write_footer(w));
    return file_sync(&w->file);
}

syna_rc snapshot_commit(struct snapshot_writer *w)
{
    syna_rc rc = finish(w);
    if (rc != SYNA_SUCCESS) {
        snapshot_abort(w);
        return rc;
    }
    bool exists;
    rc = file_publish(&w->file, w->path, true, &exists);
    file_close(&w->file);
    writer_free(w);
    return rc;
}

void snapshot_abort(struct snapshot_writer *w)
{
    file_discard_temp(&w->file);
    writer_free(w);
}

/* ---- reading */

enum seen { SEEN_NOT = 0, SEEN_GOOD = 1, SEEN_DAMAGED = 2 };

struct snapshot {
    struct snapshot_cover cover;
    uint8_t *base; /* the file, mapped privately */
    size_t len;
    uint32_t seed;
    uint32_t count;
    struct section sections[SNAPSHOT_SECTIONS_MAX];
    const uint8_t *page_crcs; /* in the footer */
    uint8_t *seen;            /* enum seen per page of the file, atomic */
    size_t page_count;
};

void snapshot_close(struct snapshot *s)
{
    if (!s)
        return;
    if (s->base)
        syna_vfs->unmap(s->base, s->len);
    mem_free(s->seen);
    mem_free(s);
}

const struct snapshot_cover *snapshot_cover_of(const struct snapshot *s)
{
    return &s->cover;
}

/* Map the whole file. *none: there is no usable file, which is not an error. */
static syna_rc map_file(struct snapshot *s, const char *path, bool *none)
{
    struct file f = FILE_NONE;
    *none = true;
    syna_rc rc = file_open(&f, path, VFS_READ);
    if (rc != SYNA_SUCCESS)
        return rc == SYNA_ERR_INTERNAL ? rc : SYNA_SUCCESS;
    struct vfs_stat info;
    if (file_stat(&f, &info) != SYNA_SUCCESS ||
        info.size < HEADER_BYTES + FOOTER_FIXED + TRAILER_BYTES)
        goto done;
    s->len = (size_t)info.size;
    s->base = syna_vfs->reserve(s->len);
    if (!s->base) {
        rc = syna_no_memory(s->len);
        goto done;
    }
    int failed = syna_vfs->map(s->base, f.fd, 0, s->len, true, false);
    if (failed == -ENOMEM)
        rc = syna_no_memory(s->len);
    *none = failed != 0;
done:
    file_close(&f);
    return rc == SYNA_ERR_INTERNAL ? rc : SYNA_SUCCESS;
}

/* Check the trailer and the footer's checksum. *footer_at and *footer_len lie inside the file. */
static bool check_trailer(const struct snapshot *s, uint64_t *footer_at, uint64_t *footer_len)
{
    const uint8_t *trailer = s->base + s->len - TRAILER_BYTES;
    uint64_t at = load_u64(trailer + TRAILER_AT_FOOTER);
    uint64_t len = load_u64(trailer + TRAILER_AT_FOOTER_LEN);
    uint64_t room = s->len - TRAILER_BYTES;
    if (load_u32(trailer + TRAILER_AT_MAGIC) != TRAILER_MAGIC ||
        load_u64(trailer + TRAILER_AT_TOTAL) != s->len || at < HEADER_BYTES || at > room ||
        len != room - at || len < FOOTER_FIXED)
        return false;
    *footer_at = at;
    *footer_len = len;
    return load_u32(trailer + TRAILER_AT_CRC) ==
           place_checksum(s->seed, at, s->base + at, (size_t)len + TRAILER_AT_CRC);
}

static void load_section(const uint8_t *entry, struct section *out)
{
    memcpy(out->name, entry + ENTRY_AT_NAME, NAME_BYTES);
    out->offset = load_u64(entry + ENTRY_AT_OFFSET);
    out->len = load_u64(entry + ENTRY_AT_LEN);
    out->crc = load_u32(entry + ENTRY_AT_CRC);
    out->pages = load_u32(entry + ENTRY_AT_PAGES);
}

/* Is the section where a section can be? Sections lie one after another in [from, limit). */
static bool section_fits(const struct section *s, uint64_t from, uint64_t limit)
{
    uint64_t align = is_lazy(s->len) ? SNAPSHOT_PAGE : SECTION_ALIGN;
    return s->name[0] != 0 && s->offset % align == 0 && s->offset >= from && s->offset <= limit &&
           s->len <= limit - s->offset && s->pages == pages_of(s->len);
}

/* Load the section table, all of whose bytes have been checked against the footer's checksum; a
 * checksum says that nobody damaged them, not that whoever wrote them was a friend. */
static bool load_table(struct snapshot *s, uint64_t footer_at, uint64_t footer_len)
{
    const uint8_t *footer = s->base + footer_at;
    s->cover.purpose = load_u32(footer + FOOTER_AT_PURPOSE);
    s->cover.end = load_u64(footer + FOOTER_AT_END);
    s->cover.end_crc = load_u32(footer + FOOTER_AT_END_CRC);
    s->count = load_u32(footer + FOOTER_AT_COUNT);
    uint64_t pages = load_u32(footer + FOOTER_AT_PAGES);
    if (s->count > SNAPSHOT_SECTIONS_MAX ||
        footer_len != FOOTER_FIXED + (uint64_t)s->count * ENTRY_BYTES + pages * 4)
        return false;
    uint64_t from = HEADER_BYTES, page = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        struct section *section = &s->sections[i];
        load_section(footer + FOOTER_FIXED + (size_t)i * ENTRY_BYTES, section);
        if (!section_fits(section, from, footer_at) || section->pages > pages - page)
            return false;
        section->first_page = (uint32_t)page;
        page += section->pages;
        from = section->offset + section->len;
    }
    s->page_crcs = footer + FOOTER_FIXED + (size_t)s->count * ENTRY_BYTES;
    return page == pages;
}

static bool check_small_sections(const struct snapshot *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct section *section = &s->sections[i];
        if (!is_lazy(section->len) &&
            section->crc != place_checksum(s->seed, section->offset, s->base + section->offset,
                                           (size_t)section->len))
            return false;
    }
    return true;
}

/* Header, footer and everything that is not checked lazily. */
static bool validate(struct snapshot *s, const struct snapshot_cover *cover, const char *path)
{
    struct header h;
    if (header_decode(s->base, s->len, KIND_SNAPSHOT, path, &h) != SYNA_SUCCESS)
        return false;
    s->seed = load_u32(s->base + HEADER_AT_CRC);
    memcpy(s->cover.uuid, h.uuid, sizeof h.uuid);
    s->cover.generation = h.generation;
    if (memcmp(h.uuid, cover->uuid, sizeof h.uuid) != 0 || h.generation != cover->generation)
        return false;
    uint64_t footer_at, footer_len;
    return check_trailer(s, &footer_at, &footer_len) && load_table(s, footer_at, footer_len) &&
           s->cover.purpose == cover->purpose && check_small_sections(s);
}

/* Nothing seen yet but the pages in which no lazy section lies. */
static syna_rc make_seen(struct snapshot *s)
{
    s->page_count = (s->len + SNAPSHOT_PAGE - 1) / SNAPSHOT_PAGE;
    s->seen = mem_alloc(s->page_count);
    if (!s->seen)
        return syna_no_memory(s->page_count);
    memset(s->seen, SEEN_GOOD, s->page_count);
    for (uint32_t i = 0; i < s->count; i++)
        memset(s->seen + s->sections[i].offset / SNAPSHOT_PAGE, SEEN_NOT, s->sections[i].pages);
    return SYNA_SUCCESS;
}

syna_rc snapshot_open(const char *path, const struct snapshot_cover *cover, struct snapshot **out)
{
    *out = NULL;
    struct snapshot *s = mem_zalloc(sizeof *s);
    if (!s)
        return syna_no_memory(sizeof *s);
    bool none;
    syna_rc rc = map_file(s, path, &none);
    if (rc == SYNA_SUCCESS && !none && validate(s, cover, path)) {
        rc = make_seen(s);
        if (rc == SYNA_SUCCESS) {
            *out = s;
            return SYNA_SUCCESS;
        }
    }
    snapshot_close(s);
    return rc;
}

void *snapshot_find(struct snapshot *s, const char *name, size_t *len)
{
    char padded[NAME_BYTES];
    if (!make_name(padded, name))
        return NULL;
    for (uint32_t i = 0; i < s->count; i++)
        if (memcmp(s->sections[i].name, padded, NAME_BYTES) == 0) {
            *len = (size_t)s->sections[i].len;
            return s->base + s->sections[i].offset;
        }
    return NULL;
}

/* The lazy section that page `page` of the file belongs to. Only called for a page that has one. */
static const struct section *section_of_page(const struct snapshot *s, size_t page)
{
    const struct section *section = s->sections;
    while (page - (size_t)(section->offset / SNAPSHOT_PAGE) >= section->pages)
        section++; /* for a page before the section the difference wraps around */
    return section;
}

static __attribute__((noinline)) bool check_page(struct snapshot *s, size_t page)
{
    if (__atomic_load_n(&s->seen[page], __ATOMIC_ACQUIRE) == SEEN_DAMAGED)
        return false;
    const struct section *section = section_of_page(s, page);
    size_t index = page - (size_t)(section->offset / SNAPSHOT_PAGE);
    size_t len = MIN((size_t)SNAPSHOT_PAGE, (size_t)section->len - index * SNAPSHOT_PAGE);
    uint64_t offset = (uint64_t)page * SNAPSHOT_PAGE;
    uint32_t expected = load_u32(s->page_crcs + 4 * ((size_t)section->first_page + index));
    bool good = place_checksum(s->seed, offset, s->base + offset, len) == expected;
    __atomic_store_n(&s->seen[page], good ? SEEN_GOOD : SEEN_DAMAGED, __ATOMIC_RELEASE);
    return good;
}

bool snapshot_touch(struct snapshot *s, const void *bytes, size_t len)
{
    size_t at = (size_t)((const uint8_t *)bytes - s->base);
    assert(at <= s->len && len <= s->len - at);
    if (len == 0)
        return true;
    size_t last = (at + len - 1) / SNAPSHOT_PAGE;
    for (size_t page = at / SNAPSHOT_PAGE; page <= last; page++)
        if (UNLIKELY(__atomic_load_n(&s->seen[page], __ATOMIC_ACQUIRE) != SEEN_GOOD) &&
            !check_page(s, page))
            return false;
    return true;
}
