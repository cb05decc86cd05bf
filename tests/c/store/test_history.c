/* Histories: cursors at every place, values of every mixture of records, the cache and its threads. */
#include "check.h"

#include "store/keydir_fixture.h"

#define KEY "the key"
#define KEY_LEN 7

/* What is put under the key, as it is put: records, and the numbers that they hold. */
struct story {
    struct memlog m;
    struct keydir *dir;
    uint64_t rng;
    uint64_t *offsets;
    uint32_t *counts; /* 0 = not a block */
    size_t records;
    uint64_t *numbers[2]; /* floats, ints */
    size_t count[2];
};

static const int32_t types[2] = {SYNA_TYPE_FLOAT, SYNA_TYPE_INT};

static void story_init(struct story *s)
{
    memset(s, 0, sizeof *s);
    s->rng = check_random();
    CHECK(memlog_init(&s->m, "memory"));
    CHECK_OK(keydir_new(&s->m.log, &s->dir));
}

static void story_dispose(struct story *s)
{
    keydir_free(s->dir);
    memlog_dispose(&s->m);
    free(s->offsets);
    free(s->counts);
    free(s->numbers[0]);
    free(s->numbers[1]);
}

static void note_record(struct story *s, const struct frame *f, uint32_t count)
{
    s->offsets = realloc(s->offsets, (s->records + 1) * sizeof *s->offsets);
    s->counts = realloc(s->counts, (s->records + 1) * sizeof *s->counts);
    s->offsets[s->records] = f->offset;
    s->counts[s->records++] = count;
}

static void note_numbers(struct story *s, int which, const uint64_t *bits, size_t count)
{
    s->numbers[which] = realloc(s->numbers[which], (s->count[which] + count) * sizeof *bits);
    memcpy(s->numbers[which] + s->count[which], bits, count * sizeof *bits);
    s->count[which] += count;
}

/* Something else comes in between, so that distances vary. */
static void put_other(struct story *s)
{
    struct frame f;
    char text[300] = {0};
    CHECK(memlog_add(&s->m, "other", 5, SYNA_TYPE_BYTES, text, rng_next(&s->rng) % 300, 0, &f));
    CHECK_OK(keydir_apply(s->dir, &f));
}

static void put_number(struct story *s, int which)
{
    struct frame f;
    uint64_t bits = rng_next(&s->rng);
    CHECK(memlog_add_number(&s->m, KEY, KEY_LEN, types[which], bits, &f));
    CHECK_OK(keydir_apply(s->dir, &f));
    note_record(s, &f, 0);
    note_numbers(s, which, &bits, 1);
}

static void put_block(struct story *s, int which, size_t count)
{
    struct frame f;
    uint64_t bits[COLUMN_MAX];
    for (size_t i = 0; i < count; i++)
        bits[i] = rng_next(&s->rng);
    CHECK(memlog_add_block(&s->m, KEY, KEY_LEN, types[which], bits, count, &f));
    CHECK_OK(keydir_apply(s->dir, &f));
    note_record(s, &f, (uint32_t)count);
    note_numbers(s, which, bits, count);
}

static void put_text_or_deletion(struct story *s)
{
    struct frame f;
    if (rng_next(&s->rng) % 2)
        CHECK(memlog_add(&s->m, KEY, KEY_LEN, SYNA_TYPE_TEXT, "text", 4, 0, &f));
    else
        CHECK(memlog_delete(&s->m, KEY, KEY_LEN, &f));
    CHECK_OK(keydir_apply(s->dir, &f));
    note_record(s, &f, 0);
}

static void put_anything(struct story *s)
{
    uint64_t dice = rng_next(&s->rng) % 12;
    if (dice < 4)
        put_number(s, 0);
    else if (dice < 7)
        put_number(s, 1);
    else if (dice < 9)
        put_text_or_deletion(s);
    else if (dice < 10)
        put_block(s, (int)(rng_next(&s->rng) % 2), 8 + rng_next(&s->rng) % 1017);
    else
        put_other(s);
}

static struct entry find(struct story *s)
{
    struct entry e;
    CHECK_OK(keydir_find(s->dir, KEY, KEY_LEN, &e));
    return e;
}

/* ---------------------------------------------------------------- comparing */

static void same_cursor(const struct story *s, const struct history_cursor *c, size_t index)
{
    CHECK_EQ(c->index, index);
    CHECK_EQ(c->offset, s->offsets[index]);
    CHECK_EQ(c->block, s->counts[index] != 0);
    CHECK_EQ(c->count, MAX(s->counts[index], 1));
}

static void same_records(struct story *s)
{
    struct entry e = find(s);
    struct history_cursor c;
    CHECK_EQ(history_records(s->dir, &e), s->records);
    CHECK_OK(history_seek(s->dir, &e, 0, &c));
    for (size_t i = 0; i < s->records; i++) {
        struct history_cursor sought;
        same_cursor(s, &c, i);
        CHECK_OK(history_seek(s->dir, &e, i, &sought));
        same_cursor(s, &sought, i);
        CHECK_RC(history_next(&c), i + 1 < s->records ? SYNA_SUCCESS : SYNA_ERR_KEY_NOT_FOUND);
    }
    CHECK_RC(history_seek(s->dir, &e, s->records, &c), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(history_seek(s->dir, &e, s->records + 100, &c), SYNA_ERR_KEY_NOT_FOUND);
}

/* All values into an array of `cap`; what lies behind must stay. */
static void same_values(struct story *s, int which, size_t cap)
{
    const uint64_t guard = UINT64_C(0x5afe5afe5afe5afe);
    struct entry e = find(s);
    uint64_t *bits = malloc((cap + 1) * sizeof *bits);
    size_t count = 12345, all = s->count[which];
    bits[cap] = guard;
    CHECK_OK(history_values(s->dir, &e, types[which], bits, cap, &count));
    CHECK_EQ(count, all);
    CHECK_MEM(bits, s->numbers[which], MIN(cap, all) * sizeof *bits);
    CHECK_EQ(bits[cap], guard);
    free(bits);
}

static void same_everything(struct story *s)
{
    same_records(s);
    for (int which = 0; which < 2; which++) {
        same_values(s, which, 0);
        same_values(s, which, s->count[which]);
        same_values(s, which, s->count[which] / 2);
        same_values(s, which, s->count[which] + 3);
    }
}

/* ---------------------------------------------------------------- records and values */

TEST(a_single_record_is_a_history_of_one)
{
    struct story s;
    story_init(&s);
    put_number(&s, 1);
    struct entry e = find(&s);
    CHECK_EQ(e.history, 0);
    same_everything(&s);
    story_dispose(&s);
}

TEST(a_single_text_has_no_values)
{
    struct story s;
    story_init(&s);
    put_text_or_deletion(&s);
    same_everything(&s);
    story_dispose(&s);
}

TEST(every_record_of_a_history_can_be_sought_at_every_length)
{
    struct story s;
    story_init(&s);
    for (size_t n = 0; n < 400; n++) {
        put_anything(&s);
        if (s.records > 0 && (n < 70 || n % 31 == 0))
            same_records(&s);
    }
    same_everything(&s);
    story_dispose(&s);
}

TEST(values_are_right_for_every_mixture_of_records_and_after_each_addition)
{
    for (int round = 0; round < 25; round++) {
        struct story s;
        story_init(&s);
        for (uint64_t lead = rng_next(&s.rng) % 4; lead; lead--)
            put_block(&s, (int)(rng_next(&s.rng) % 2), rng_next(&s.rng) % 2 ? COLUMN_MAX : 300);
        put_number(&s, round % 2);
        for (int n = 0; n < 60; n++) {
            put_anything(&s);
            if (n % 5 == round % 5)
                same_everything(&s);
            if (n == 30)
                history_drop_caches(s.dir);
        }
        same_everything(&s);
        story_dispose(&s);
    }
}

TEST(an_array_of_any_size_takes_the_oldest_values)
{
    struct story s;
    story_init(&s);
    put_block(&s, 0, 1000);
    put_block(&s, 1, 400);
    put_block(&s, 0, COLUMN_MAX);
    put_number(&s, 0);
    put_block(&s, 0, 20);
    for (size_t cap = 0; cap < s.count[0] + 2; cap += cap < 5 ? 1 : 37)
        same_values(&s, 0, cap);
    story_dispose(&s);
}

TEST(big_blocks_at_the_start_are_kept_in_memory_from_the_second_read_on)
{
    const size_t blocks = 50, lead_bytes = 8 * COLUMN_MAX * blocks;
    struct story s;
    story_init(&s);
    for (size_t n = 0; n < blocks; n++)
        put_block(&s, 0, COLUMN_MAX);
    same_values(&s, 0, 0);
    same_values(&s, 0, 0); /* asking how many there are is not reading */
    same_values(&s, 0, s.count[0]);
    CHECK(s.dir->cache_bytes < lead_bytes / 8);
    put_number(&s, 0);
    put_block(&s, 0, COLUMN_MAX);
    same_values(&s, 0, s.count[0]);
    CHECK(s.dir->cache_bytes >= lead_bytes);
    same_everything(&s);
    CHECK(history_drop_caches(s.dir) >= lead_bytes);
    CHECK_EQ(s.dir->cache_bytes, 0);
    same_everything(&s);
    story_dispose(&s);
}

TEST(blocks_are_decoded_each_time_when_caches_have_reached_their_limit)
{
    struct story s;
    story_init(&s);
    s.dir->keep_max = 100000;
    for (int n = 0; n < 50; n++) {
        put_block(&s, n % 2, COLUMN_MAX);
        for (int which = 0; which < 2; which++)
            if (s.count[which])
                same_values(&s, which, s.count[which]); /* the lead grows between reads */
    }
    put_number(&s, 0);
    same_everything(&s);
    put_block(&s, 0, 700);
    put_number(&s, 1);
    same_everything(&s);
    CHECK(s.dir->cache_bytes < 200000);
    story_dispose(&s);
}

TEST(histories_cost_few_bytes_a_record)
{
    struct story s;
    struct keydir_stats stats;
    story_init(&s);
    for (int n = 0; n < 20000; n++) {
        put_number(&s, 0);
        if (n % 4 == 0)
            put_other(&s);
    }
    keydir_get_stats(s.dir, &stats);
    CHECK(s.dir->history_heap < 25000 * 3 * 3 / 2);
    same_records(&s);
    story_dispose(&s);
}

/* ---------------------------------------------------------------- damage */

TEST(a_damaged_record_fails_the_read_of_values_and_leaves_the_rest_readable)
{
    struct story s;
    size_t count;
    story_init(&s);
    put_block(&s, 0, 500);
    for (int n = 0; n < 200; n++)
        put_number(&s, n % 2);
    struct entry e = find(&s);
    for (size_t i = 0; i < s.records; i += 40) {
        uint8_t *byte = s.m.bytes.bytes + s.offsets[i] + FRAME_HEADER_BYTES + KEY_LEN + 5;
        *byte ^= 4;
        for (int again = 0; again < 2; again++) {
            CHECK_FAILS(history_values(s.dir, &e, SYNA_TYPE_FLOAT, NULL, 0, &count),
                        SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
            CHECK_EQ(status_get()->offset, s.offsets[i]);
        }
        same_records(&s);
        *byte ^= 4;
        same_everything(&s);
        history_drop_caches(s.dir);
    }
    story_dispose(&s);
}

/* Change a byte of a block so that its head still makes sense and its values do not. */
static void break_values(struct buf *block)
{
    uint64_t bits[COLUMN_MAX];
    for (size_t at = block->len; at-- > 0;) {
        struct column_source from = {block->bytes, block->len, 1, "memory", 0};
        struct column_info info;
        block->bytes[at] ^= 0xff;
        if (column_peek(&from, &info) == SYNA_SUCCESS &&
            column_decode(&from, bits, NULL, NULL) != SYNA_SUCCESS)
            return;
        block->bytes[at] ^= 0xff;
    }
    CHECK(false);
}

TEST(P4_a_block_whose_values_make_no_sense_is_damage_to_whoever_reads_them)
{
    struct story s;
    struct frame f;
    struct buf block = {0};
    uint64_t bits[1000];
    size_t count;
    story_init(&s);
    for (size_t i = 0; i < COUNT_OF(bits); i++)
        bits[i] = (rng_next(&s.rng) % 1000) * (rng_next(&s.rng) % 1000);
    CHECK(column_encode(SYNA_TYPE_INT, bits, NULL, NULL, COUNT_OF(bits), &block));
    break_values(&block);
    put_number(&s, 1);
    CHECK(memlog_add_raw(&s.m, KEY, KEY_LEN, FRAME_BLOCK, block.bytes, block.len, &f));
    CHECK_OK(keydir_apply(s.dir, &f)); /* its head says nothing wrong */
    struct entry e = find(&s);
    for (size_t cap = 0; cap <= 2000; cap += 500) {
        history_drop_caches(s.dir);
        CHECK_FAILS(history_values(s.dir, &e, SYNA_TYPE_INT, bits, MIN(cap, COUNT_OF(bits)), &count),
                    SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
        CHECK_EQ(status_get()->offset, f.offset);
    }
    CHECK(memlog_add_raw(&s.m, "lead", 4, FRAME_BLOCK, block.bytes, block.len, &f));
    CHECK_OK(keydir_apply(s.dir, &f));
    CHECK_OK(keydir_find(s.dir, "lead", 4, &e));
    CHECK_FAILS(history_values(s.dir, &e, SYNA_TYPE_INT, bits, COUNT_OF(bits), &count),
                SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_FAILS(history_values(s.dir, &e, SYNA_TYPE_INT, bits, 10, &count),
                SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_OK(history_values(s.dir, &e, SYNA_TYPE_INT, NULL, 0, &count)); /* only counted */
    CHECK_EQ(count, COUNT_OF(bits));
    buf_dispose(&block);
    story_dispose(&s);
}

TEST(a_single_number_that_was_damaged_is_not_read)
{
    struct story s;
    uint64_t bits;
    size_t count;
    story_init(&s);
    put_number(&s, 1);
    struct entry e = find(&s);
    s.m.bytes.bytes[e.offset + FRAME_HEADER_BYTES + KEY_LEN + 5] ^= 1;
    CHECK_FAILS(history_values(s.dir, &e, SYNA_TYPE_INT, &bits, 1, &count), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT);
    story_dispose(&s);
}

TEST(a_history_that_leads_to_another_key_is_damage)
{
    struct story s;
    size_t count;
    story_init(&s);
    put_number(&s, 0);
    put_other(&s);
    put_number(&s, 0);
    struct entry e = find(&s);
    struct history *h = &s.dir->history_segments[0][e.history - 1];
    uint64_t length = frame_length(s.m.bytes.bytes + s.offsets[0]);
    h->small[0] = (uint8_t)(h->small[0] + 2 * length); /* the first record is now that of `other` */
    CHECK_RC(history_values(s.dir, &e, SYNA_TYPE_FLOAT, NULL, 0, &count), KEYDIR_DAMAGED);
    story_dispose(&s);
}

TEST(reading_values_without_memory_fails_cleanly)
{
    struct failing failing = {.fired = true};
    struct story s;
    size_t count;
    story_init(&s);
    put_block(&s, 1, 700);
    for (int n = 0; n < 300; n++)
        put_anything(&s);
    put_block(&s, 0, 1000);
    for (int64_t k = 1; failing.fired; k++) {
        struct entry e = find(&s);
        failing = (struct failing){.left = k};
        fail_on(&failing);
        syna_rc rc = history_values(s.dir, &e, SYNA_TYPE_FLOAT, NULL, 0, &count);
        fail_off();
        CHECK(k > 1 || failing.fired);
        if (failing.fired)
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        else
            CHECK_OK(rc);
        same_everything(&s);
        history_drop_caches(s.dir);
    }
    story_dispose(&s);
}

/* ---------------------------------------------------------------- checkpoint and cache */

TEST(a_cache_goes_on_when_a_history_moves_out_of_the_checkpoint)
{
    const char *path = check_path("keys.idx");
    struct story s;
    struct keydir *dir;
    story_init(&s);
    for (int n = 0; n < 150; n++)
        put_anything(&s);
    put_number(&s, 0);
    CHECK_OK(keydir_save(s.dir, path, s.m.log.last_offset, s.m.log.end, s.m.log.last_crc));
    CHECK_OK(keydir_load(&s.m.log, path, &dir));
    CHECK(dir != NULL);
    keydir_free(s.dir);
    s.dir = dir;
    same_everything(&s);
    uint64_t cached = s.dir->cache_bytes;
    for (int n = 0; n < 5; n++) {
        put_number(&s, 0);
        same_everything(&s);
    }
    CHECK(s.dir->cache_bytes >= cached); /* nothing was dropped on the way */
    CHECK(find(&s).history > s.dir->mapped_histories);
    story_dispose(&s);
}

static struct keydir *through_checkpoint(struct memlog *m, struct keydir *dir)
{
    const char *path = check_path("keys.idx");
    struct keydir *loaded;
    CHECK_OK(keydir_save(dir, path, m->log.last_offset, m->log.end, m->log.last_crc));
    CHECK_OK(keydir_load(&m->log, path, &loaded));
    CHECK(loaded != NULL);
    keydir_free(dir);
    return loaded;
}

static size_t values_of(struct keydir *dir, uint32_t key, uint64_t *bits, size_t cap)
{
    struct entry e;
    size_t count;
    CHECK_OK(keydir_find(dir, &key, sizeof key, &e));
    CHECK_OK(history_values(dir, &e, SYNA_TYPE_INT, bits, cap, &count));
    for (size_t i = 0; i < MIN(count, cap); i++)
        CHECK_EQ(bits[i], (uint64_t)key + i);
    return count;
}

/* Histories move out of the checkpoint one after the other, with and without a cache, with and
 * without memory for a longer list of caches. */
TEST(caches_move_with_their_histories_or_are_read_again)
{
    enum { COUNT = 300 };
    struct memlog m;
    struct keydir *dir;
    struct frame f;
    uint64_t bits[8];
    CHECK(memlog_init(&m, "memory"));
    CHECK_OK(keydir_new(&m.log, &dir));
    for (uint32_t n = 0; n < 2 * COUNT; n++) {
        uint32_t key = n % COUNT;
        CHECK(memlog_add_number(&m, &key, sizeof key, SYNA_TYPE_INT, key + n / COUNT, &f));
        CHECK_OK(keydir_apply(dir, &f));
    }
    dir = through_checkpoint(&m, dir);
    for (uint32_t key = 0; key < COUNT; key += 2) /* the list grows; every second has none */
        CHECK_EQ(values_of(dir, key, bits, 8), 2);
    for (uint32_t key = 0; key < COUNT; key++) {
        struct failing failing;
        bool without = key % 3 == 0;
        CHECK(memlog_add_number(&m, &key, sizeof key, SYNA_TYPE_INT, key + 2, &f));
        CHECK_OK(keydir_reserve(dir, 1));
        fail_all(&failing);
        if (!without)
            fail_off();
        CHECK_OK(keydir_apply(dir, &f));
        fail_off();
        CHECK_EQ(values_of(dir, key, bits, 8), 3);
    }
    for (uint32_t key = 0; key < COUNT; key++)
        CHECK_EQ(values_of(dir, key, bits, 8), 3);
    keydir_free(dir);
    memlog_dispose(&m);
}

/* The list of caches has no room for the new number, and there is no memory to make it longer: the
 * values are read again. */
TEST(P7_a_cache_that_cannot_be_kept_is_dropped)
{
    enum { COUNT = 64 };
    struct failing failing = {.fired = true};
    for (int64_t k = 1; failing.fired; k++) {
        struct memlog m;
        struct keydir *dir;
        struct frame f;
        uint64_t bits[8];
        CHECK(memlog_init(&m, "memory"));
        CHECK_OK(keydir_new(&m.log, &dir));
        for (uint32_t n = 0; n < 2 * COUNT; n++) {
            uint32_t key = n % COUNT;
            CHECK(memlog_add_number(&m, &key, sizeof key, SYNA_TYPE_INT, key + n / COUNT, &f));
            CHECK_OK(keydir_apply(dir, &f));
        }
        dir = through_checkpoint(&m, dir);
        uint32_t key = 7;
        CHECK_EQ(values_of(dir, key, bits, 8), 2);
        CHECK_EQ(dir->cache_cap, COUNT);
        CHECK(memlog_add_number(&m, &key, sizeof key, SYNA_TYPE_INT, key + 2, &f));
        CHECK_OK(keydir_reserve(dir, 1));
        failing = (struct failing){.left = k};
        fail_on(&failing);
        CHECK_OK(keydir_apply(dir, &f));
        fail_off();
        CHECK_EQ(values_of(dir, key, bits, 8), 3);
        keydir_free(dir);
        memlog_dispose(&m);
    }
}

TEST(P7_a_lead_that_cannot_be_remembered_is_read_all_the_same)
{
    struct failing failing = {.fired = true};
    struct story s;
    uint64_t bits[3000];
    size_t count;
    story_init(&s);
    put_block(&s, 0, 1000);
    put_block(&s, 0, 1000);
    struct entry e = find(&s);
    for (int64_t k = 1; failing.fired; k++) {
        history_drop_caches(s.dir);
        failing = (struct failing){.left = k};
        fail_on(&failing);
        CHECK_OK(history_values(s.dir, &e, SYNA_TYPE_FLOAT, bits, 3000, &count));
        fail_off();
        CHECK_EQ(count, 2000);
        CHECK_MEM(bits, s.numbers[0], 2000 * sizeof *bits);
        CHECK(k > 1 || failing.fired);
    }
    story_dispose(&s);
}

/* ---------------------------------------------------------------- threads */

struct many {
    struct memlog m;
    struct keydir *dir;
};

enum { THREADS = 4, THREAD_KEYS = 6, THREAD_VALUES = 3000, THREAD_LEAD = 1000 };

static void *read_histories(void *context)
{
    struct many *all = context;
    uint64_t bits[THREAD_VALUES];
    for (int round = 0; round < 20; round++)
        for (uint32_t key = 0; key < THREAD_KEYS; key++) {
            struct entry e;
            size_t count;
            CHECK_OK(keydir_find(all->dir, &key, sizeof key, &e));
            CHECK_OK(history_values(all->dir, &e, SYNA_TYPE_INT, bits, THREAD_VALUES, &count));
            CHECK_EQ(count, THREAD_VALUES);
            for (uint32_t n = 0; n < count; n++)
                CHECK_EQ(bits[n], (uint64_t)n * THREAD_KEYS + key);
        }
    return context;
}

TEST(threads_that_read_the_same_and_other_histories_at_once_get_them_right)
{
    struct many all;
    CHECK(memlog_init(&all.m, "memory"));
    CHECK_OK(keydir_new(&all.m.log, &all.dir));
    for (uint32_t key = 0; key < THREAD_KEYS; key++) { /* a lead, then plain records */
        struct frame f;
        uint64_t bits[THREAD_LEAD];
        for (uint32_t n = 0; n < THREAD_LEAD; n++)
            bits[n] = (uint64_t)n * THREAD_KEYS + key;
        CHECK(memlog_add_block(&all.m, &key, sizeof key, SYNA_TYPE_INT, bits, THREAD_LEAD, &f));
        CHECK_OK(keydir_apply(all.dir, &f));
    }
    for (uint32_t n = THREAD_LEAD * THREAD_KEYS; n < THREAD_VALUES * THREAD_KEYS; n++) {
        struct frame f;
        uint32_t key = n % THREAD_KEYS;
        CHECK(memlog_add_number(&all.m, &key, sizeof key, SYNA_TYPE_INT, n, &f));
        CHECK_OK(keydir_apply(all.dir, &f));
    }
    for (int round = 0; round < 3; round++) {
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, read_histories, &all), 0);
        for (int i = 0; i < THREADS; i++) {
            void *result;
            CHECK_EQ(pthread_join(threads[i], &result), 0);
            CHECK(result == &all);
        }
        history_drop_caches(all.dir);
        all.dir->keep_max = 200000; /* some leads are kept, dropped again and so on */
    }
    keydir_free(all.dir);
    memlog_dispose(&all.m);
}

/* ---------------------------------------------------------------- files of the ancestor */

/* A frame as the ancestor wrote it: no checksum. */
static void put_legacy(struct story *s, uint8_t flags, const void *value, uint32_t len)
{
    uint8_t head[FRAME_HEADER_BYTES];
    struct frame f;
    uint64_t offset = s->m.bytes.len;
    store_u64(head + FRAME_AT_STAMP, ++s->m.stamp);
    store_u16(head + FRAME_AT_KEY_LEN, KEY_LEN);
    store_u32(head + FRAME_AT_VAL_LEN, len);
    head[FRAME_AT_FLAGS] = flags;
    CHECK(buf_append(&s->m.bytes, head, sizeof head));
    CHECK(buf_append(&s->m.bytes, KEY, KEY_LEN));
    CHECK(buf_append(&s->m.bytes, value, len));
    memlog_sync(&s->m);
    CHECK_EQ(frame_parse_legacy(s->m.bytes.bytes + offset, s->m.bytes.len - offset, offset, &f),
             FRAME_GOOD);
    CHECK_OK(keydir_apply(s->dir, &f));
    note_record(s, &f, 0);
}

/* The float before, plus this one when it is a delta, is what the entry and the history must say. */
static void put_legacy_float(struct story *s, bool delta, double stored)
{
    uint8_t atom[12] = {ATOM_FLOAT};
    double value = stored;
    if (delta && s->count[0])
        value = load_f64(&s->numbers[0][s->count[0] - 1]) + stored;
    store_f64(atom + 4, stored);
    put_legacy(s, delta ? FRAME_DELTA : 0, atom, sizeof atom);
    uint64_t bits;
    memcpy(&bits, &value, 8);
    note_numbers(s, 0, &bits, 1);
    struct entry e = find(s);
    CHECK_EQ(e.payload, bits);
}

TEST(deltas_of_the_ancestor_add_to_the_last_float_across_everything_else)
{
    struct story s;
    story_init(&s);
    s.m.log.legacy = true;
    s.m.log.start = s.m.bytes.len = 0; /* no header block: the first frame is at 0 */
    put_legacy_float(&s, true, 2.5); /* nothing before it: taken as it is */
    put_legacy_float(&s, true, 0.25);
    put_legacy(&s, FRAME_TOMBSTONE, "\0\0\0", 4);
    put_legacy_float(&s, true, -1.0);
    same_everything(&s);
    put_legacy(&s, 0, "\x03\0\0\0\x02\0\0\0\0\0\0\0ab", 14);
    put_legacy_float(&s, true, 0.125);
    put_legacy_float(&s, false, 100.0);
    put_legacy_float(&s, true, 1.0);
    same_everything(&s);
    CHECK_EQ(s.count[0], 6);
    story_dispose(&s);
}

static void legacy_story(struct story *s)
{
    story_init(s);
    s->m.log.legacy = true;
    s->m.log.start = s->m.bytes.len = 0;
}

TEST(a_delta_of_the_ancestor_behind_no_float_at_all_is_taken_as_it_is)
{
    struct story s;
    legacy_story(&s);
    put_legacy(&s, 0, "\x03\0\0\0\x02\0\0\0\0\0\0\0ab", 14);
    put_legacy_float(&s, true, 2.5); /* one record before it, and no history yet */
    same_everything(&s);
    story_dispose(&s);

    legacy_story(&s);
    put_legacy(&s, 0, "\x03\0\0\0\x02\0\0\0\0\0\0\0ab", 14);
    put_legacy(&s, FRAME_TOMBSTONE, "\0\0\0", 4);
    put_legacy_float(&s, true, 2.5); /* a history without floats */
    put_legacy_float(&s, true, 0.5);
    same_everything(&s);
    story_dispose(&s);
}

/* The sum is looked up again when the record could not be added for want of memory. */
TEST(P7_a_delta_of_the_ancestor_that_found_no_memory_can_be_applied_again)
{
    for (int64_t k = 1;; k++) {
        struct failing failing = {.left = k};
        struct story s;
        struct frame f;
        uint8_t atom[12] = {ATOM_FLOAT};
        legacy_story(&s);
        put_legacy_float(&s, false, 8.0);
        for (int n = 0; n < 23; n++) /* fills what needs no allocation */
            put_legacy(&s, 0, "\x03\0\0\0\x02\0\0\0\0\0\0\0ab", 14);
        store_f64(atom + 4, 0.5);
        CHECK(memlog_add_raw(&s.m, KEY, KEY_LEN, FRAME_DELTA, atom, sizeof atom, &f));
        history_drop_caches(s.dir);
        fail_on(&failing);
        syna_rc rc = keydir_apply(s.dir, &f);
        fail_off();
        if (rc != SYNA_SUCCESS) {
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
            CHECK_OK(keydir_apply(s.dir, &f));
        }
        struct entry e = find(&s);
        double sum = load_f64(&e.payload);
        CHECK(sum == 8.5);
        CHECK_EQ(history_records(s.dir, &e), 25);
        story_dispose(&s);
        if (!failing.fired)
            break;
        CHECK(k < 20);
    }
}
