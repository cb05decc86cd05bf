/* The key index under hostile input. The first byte picks one of two:
 *
 *   even  a sequence of puts, deletions, checkpoints, reads and sorts, compared with a model
 *   odd   a checkpoint whose sections carry whatever the input says under right checksums: it is
 *         ignored or opened, and then everything is done with it. Answers may be wrong, as its
 *         writer lied; nothing may be read out of bounds, hang, or be anything but an answer,
 *         "damaged" or "damage in the log".
 *
 * Files are in memory (vfs_mem). */
#include "base/internal.h"

#include "store/keydir_fixture.h"
#include "vfs_mem.h"

#define INDEX MEM_DIR "/keys.idx"
#define KEYS 48u
#define OPS_MAX 400u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool condition)
{
    if (!condition)
        __builtin_trap();
}

static uint32_t key_name(uint32_t n, char out[32])
{
    static const char *const forms[] = {"%u", "key/%08u", "some/longer/path/%u"};
    return (uint32_t)snprintf(out, 32, forms[n % 3], n);
}

/* ---------------------------------------------------------------- a sequence against a model */

struct model {
    struct memlog m;
    struct keydir *dir;
    size_t records[KEYS], values[KEYS];
    uint8_t flags[KEYS];
};
static uint64_t offsets[KEYS][OPS_MAX], all_floats[KEYS][OPS_MAX * 16];

static void apply(struct model *t, uint32_t key, const struct frame *f, uint8_t flags)
{
    require(keydir_reserve(t->dir, 1) == SYNA_SUCCESS);
    require(keydir_apply(t->dir, f) == SYNA_SUCCESS);
    offsets[key][t->records[key]++] = f->offset;
    t->flags[key] = flags;
}

static void put(struct model *t, uint32_t key, uint32_t kind, uint64_t bits)
{
    char name[32];
    struct frame f;
    uint64_t *floats = all_floats[key] + t->values[key];
    uint32_t len = key_name(key, name);
    switch (kind) {
    case 0:
    case 1:
        require(memlog_add_number(&t->m, name, len, SYNA_TYPE_FLOAT, bits, &f));
        floats[0] = bits;
        t->values[key]++;
        apply(t, key, &f, ENTRY_INLINE);
        break;
    case 2:
        for (uint64_t i = 0; i < 16; i++)
            floats[i] = bits * i;
        require(memlog_add_block(&t->m, name, len, SYNA_TYPE_FLOAT, floats, 16, &f));
        t->values[key] += 16;
        apply(t, key, &f, ENTRY_INLINE | ENTRY_BLOCK);
        break;
    case 3:
        require(memlog_add(&t->m, name, len, SYNA_TYPE_TEXT, "text", bits % 5, 0, &f));
        apply(t, key, &f, 0);
        break;
    default:
        require(memlog_delete(&t->m, name, len, &f));
        apply(t, key, &f, ENTRY_DELETED);
        break;
    }
}

static void compare_key(struct model *t, uint32_t key)
{
    static uint64_t bits[OPS_MAX * 16];
    char name[32];
    struct entry e;
    struct history_cursor c;
    size_t count;
    syna_rc rc = keydir_find(t->dir, name, key_name(key, name), &e);
    if (t->records[key] == 0) {
        require(rc == SYNA_ERR_KEY_NOT_FOUND);
        return;
    }
    require(rc == SYNA_SUCCESS && e.flags == t->flags[key]);
    require(e.offset == offsets[key][t->records[key] - 1]);
    require(history_records(t->dir, &e) == t->records[key]);
    rc = history_seek(t->dir, &e, 0, &c);
    for (size_t i = 0; i < t->records[key]; i++, rc = history_next(&c))
        require(rc == SYNA_SUCCESS && c.offset == offsets[key][i]);
    require(rc == SYNA_ERR_KEY_NOT_FOUND);
    require(history_values(t->dir, &e, SYNA_TYPE_FLOAT, bits, COUNT_OF(bits), &count) ==
            SYNA_SUCCESS);
    require(count == t->values[key] && memcmp(bits, all_floats[key], count * sizeof *bits) == 0);
}

static void compare_order(struct model *t)
{
    struct order_cursor c;
    struct entry e;
    uint32_t id, seen = 0, previous_len = 0;
    const uint8_t *previous = NULL;
    require(keydir_sort(t->dir) == SYNA_SUCCESS);
    require(keydir_order_seek(t->dir, "", 0, &c) == SYNA_SUCCESS);
    while (keydir_order_next(t->dir, &c, &id) == SYNA_SUCCESS) {
        require(keydir_entry(t->dir, id, &e) == SYNA_SUCCESS);
        const uint8_t *key = kvlog_key(&t->m.log, e.offset);
        require(!previous || key_compare(previous, previous_len, key, e.key_len) < 0);
        previous = key;
        previous_len = e.key_len;
        seen++;
    }
    require(seen == keydir_count(t->dir));
}

static void save_and_load(struct model *t)
{
    struct keydir *dir;
    if (t->m.log.last_offset == 0)
        return;
    require(keydir_save(t->dir, INDEX, t->m.log.last_offset, t->m.log.end, t->m.log.last_crc) ==
            SYNA_SUCCESS);
    require(keydir_load(&t->m.log, INDEX, &dir) == SYNA_SUCCESS && dir);
    keydir_free(t->dir);
    t->dir = dir;
}

static void run_sequence(const uint8_t *data, size_t len)
{
    static const uint64_t masks[] = {UINT64_MAX, 0, 3, UINT64_C(1) << 57, 0xff};
    static struct model t;
    memset(&t, 0, sizeof t);
    if (len == 0)
        return;
    keydir_test_hash_mask = masks[data[0] % COUNT_OF(masks)];
    require(memlog_init(&t.m, "fuzz") && keydir_new(&t.m.log, &t.dir) == SYNA_SUCCESS);
    for (size_t i = 1; i + 1 < len && i < 2 * OPS_MAX; i += 2) {
        uint32_t kind = data[i] % 9, key = data[i + 1] % KEYS;
        if (kind < 5)
            put(&t, key, kind, (uint64_t)data[i] << 32 | i);
        else if (kind == 5)
            save_and_load(&t);
        else if (kind == 6)
            compare_order(&t);
        else if (kind == 7)
            compare_key(&t, key);
        else
            history_drop_caches(t.dir);
    }
    for (uint32_t key = 0; key < KEYS; key++)
        compare_key(&t, key);
    compare_order(&t);
    keydir_free(t.dir);
    memlog_dispose(&t.m);
    keydir_test_hash_mask = UINT64_MAX;
}

/* ---------------------------------------------------------------- a checkpoint that lies */

static const char *const names[] = {"meta", "groups", "old", "entries", "history", "records"};


/* What every round starts from: a log, and the sections of a true checkpoint of its first part. */
struct base {
    struct memlog m;
    uint64_t end, last_offset; /* what the checkpoint covers */
    uint32_t end_crc;
    struct frame later[6];
    struct buf sections[COUNT_OF(names)];
    bool have[COUNT_OF(names)];
};

/* One key more than the smallest table takes, so that it is being moved. */
#define BASE_KEYS 43u

static void fill_base(struct model *t)
{
    for (uint32_t round = 0; round < 4; round++)
        for (uint32_t key = 0; key < BASE_KEYS - 1; key++)
            if (round == 0 || key % (round + 1) == 0)
                put(t, key, (key + round) % 5, key * UINT64_C(0x123456789abcdef));
    for (uint32_t n = 0; n < 200; n++)
        put(t, 7, 0, n);
    put(t, BASE_KEYS - 1, 0, 1);
}

static void copy_sections(struct base *b)
{
    struct snapshot_cover cover = {.generation = 1, .purpose = SNAPSHOT_KEYS};
    struct snapshot *snap;
    memcpy(cover.uuid, b->m.log.header.uuid, sizeof cover.uuid);
    require(snapshot_open(INDEX, &cover, &snap) == SYNA_SUCCESS && snap);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        size_t len;
        const void *bytes = snapshot_find(snap, names[i], &len);
        b->have[i] = bytes != NULL;
        require(!bytes || buf_append(&b->sections[i], bytes, len));
    }
    snapshot_close(snap);
}

static struct base *make_base(void)
{
    static struct model t;
    static struct base b;
    require(memlog_init(&t.m, "fuzz") && keydir_new(&t.m.log, &t.dir) == SYNA_SUCCESS);
    fill_base(&t);
    require(t.dir->old.groups != NULL);
    b.end = t.m.log.end;
    b.last_offset = t.m.log.last_offset;
    b.end_crc = t.m.log.last_crc;
    require(keydir_save(t.dir, INDEX, b.last_offset, b.end, b.end_crc) == SYNA_SUCCESS);
    keydir_free(t.dir);

    uint64_t bits[300] = {1, 2, 3};
    b.m = t.m;
    require(memlog_add_number(&b.m, "new", 3, SYNA_TYPE_INT, 1, &b.later[0]) &&
            memlog_add_number(&b.m, "0", 1, SYNA_TYPE_INT, 1, &b.later[1]) &&
            memlog_add_block(&b.m, "key/00000007", 12, SYNA_TYPE_FLOAT, bits, 300, &b.later[2]) &&
            memlog_add_block(&b.m, "newer", 5, SYNA_TYPE_INT, bits, 300, &b.later[3]) &&
            memlog_delete(&b.m, "key/00000001", 12, &b.later[4]) &&
            memlog_add_number(&b.m, "newest", 6, SYNA_TYPE_INT, 1, &b.later[5]));
    /* No byte behind the log, so that reading there is noticed. */
    require((b.m.bytes.bytes = mem_resize(b.m.bytes.bytes, b.m.bytes.len)) != NULL);
    memlog_sync(&b.m);
    for (size_t i = 0; i < COUNT_OF(b.later); i++)
        frame_view(b.m.bytes.bytes + b.later[i].offset, b.later[i].offset, &b.later[i]);
    copy_sections(&b);
    return &b;
}

/* Each mutation is five bytes and up to eight more: section, what, place (u16), length. */
static void mutate(struct buf sections[COUNT_OF(names)], const uint8_t *data, size_t len)
{
    struct reader r = reader_of(data, len);
    while (reader_left(&r) > 5) {
        struct buf *s = &sections[reader_u8(&r) % COUNT_OF(names)];
        uint8_t what = reader_u8(&r);
        size_t at = reader_u16(&r), n = reader_u8(&r) % 9;
        n = MIN(n, reader_left(&r));
        const uint8_t *bytes = reader_take(&r, n);
        if (what % 16 == 15) {
            s->len = MIN(at, s->len); /* cut the section */
        } else if (s->len >= n && s->len) {
            at %= s->len - n + 1;
            memcpy(s->bytes + at, bytes, n);
        }
    }
}

static void write_checkpoint(const struct base *b, const struct buf sections[COUNT_OF(names)])
{
    struct snapshot_cover cover = {
        .generation = 1, .end = b->end, .end_crc = b->end_crc, .purpose = SNAPSHOT_KEYS};
    struct snapshot_writer *w;
    memcpy(cover.uuid, b->m.log.header.uuid, sizeof cover.uuid);
    require(snapshot_begin(INDEX, &cover, &w) == SYNA_SUCCESS);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (b->have[i])
            require(snapshot_section(w, names[i]) == SYNA_SUCCESS &&
                    snapshot_append(w, sections[i].bytes, sections[i].len) == SYNA_SUCCESS);
    require(snapshot_commit(w) == SYNA_SUCCESS);
}

static void require_answer(syna_rc rc)
{
    require(rc == SYNA_SUCCESS || rc == SYNA_ERR_KEY_NOT_FOUND || rc == KEYDIR_DAMAGED ||
            rc == SYNA_ERR_SERIALIZATION);
}

static void use_history(struct keydir *dir, const struct entry *e)
{
    uint64_t bits[100];
    size_t count;
    struct history_cursor c;
    uint64_t records = history_records(dir, e);
    for (uint64_t index = 0; index <= records; index += 1 + records / 5)
        require_answer(history_seek(dir, e, index, &c));
    syna_rc rc = history_seek(dir, e, 0, &c);
    for (int n = 0; n < 300 && rc == SYNA_SUCCESS; n++)
        rc = history_next(&c);
    require_answer(rc);
    for (int n = 0; n < 3; n++) {
        require_answer(history_values(dir, e, SYNA_TYPE_FLOAT, bits, 100, &count));
        require_answer(history_values(dir, e, SYNA_TYPE_INT, bits, 100, &count));
    }
}

static void use_everything(struct base *b, struct keydir *dir)
{
    struct entry e;
    struct order_cursor c;
    struct keydir_stats stats;
    char name[32];
    for (uint32_t key = 0; key < KEYS; key++) {
        syna_rc rc = keydir_find(dir, name, key_name(key, name), &e);
        require_answer(rc);
        if (rc == SYNA_SUCCESS)
            use_history(dir, &e);
    }
    for (uint32_t id = 0; id < keydir_count(dir); id++)
        if (keydir_entry(dir, id, &e) == SYNA_SUCCESS)
            use_history(dir, &e);
    if (keydir_sort(dir) == SYNA_SUCCESS) {
        uint32_t id;
        require_answer(keydir_order_seek(dir, "key/", 4, &c));
        while (keydir_order_next(dir, &c, &id) == SYNA_SUCCESS)
            require(id < keydir_count(dir));
    }
    memlog_sync(&b->m);
    for (size_t i = 0; i < COUNT_OF(b->later); i++) {
        require_answer(keydir_reserve(dir, 1));
        require_answer(keydir_apply(dir, &b->later[i]));
    }
    require_answer(keydir_save(dir, MEM_DIR "/again.idx", b->m.log.last_offset, b->m.log.end,
                               b->m.log.last_crc));
    keydir_get_stats(dir, &stats);
}

static void run_hostile(const uint8_t *data, size_t len)
{
    static struct base *base;
    struct buf sections[COUNT_OF(names)] = {{0}};
    struct keydir *dir;
    if (!base)
        base = make_base();
    for (size_t i = 0; i < COUNT_OF(names); i++)
        require(buf_append(&sections[i], base->sections[i].bytes, base->sections[i].len));
    mutate(sections, data, len);
    write_checkpoint(base, sections);
    base->m.log.end = base->m.log.start;
    require(keydir_load(&base->m.log, INDEX, &dir) == SYNA_SUCCESS);
    if (dir)
        use_everything(base, dir);
    keydir_free(dir);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        buf_dispose(&sections[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct mem_fs *fs, *blank;
    if (!fs) {
        fs = mem_fs_new(1);
        blank = mem_fs_new(1);
        require(fs && blank);
        mem_fs_use(fs);
        syna_test_set_vfs(&vfs_mem);
    }
    mem_fs_copy(fs, blank);
    if (len > 1)
        (data[0] % 2 ? run_hostile : run_sequence)(data + 1, len - 1);
    return 0;
}
