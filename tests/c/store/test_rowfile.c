/* The row file by itself: bytes of slots and records, room and growth, commit and checkpoint, what is
 * refused, what is checked when. */
#include "check.h"

#include "base/crc32c.h"
#include "store/rowfile.h"
#include "vfs_fault.h"
#include "vfs_mem.h"

#define COMPONENT 0x54534554u /* "TEST" */
#define ROW 64u

static const uint8_t no_config[4];

static struct rowfile_setup setup_of(uint32_t row_bytes)
{
    return (struct rowfile_setup){.component = COMPONENT,
                                  .row_bytes = row_bytes,
                                  .config = no_config,
                                  .config_len = sizeof no_config,
                                  .generation = 1};
}

static struct rowfile *make(const char *path, uint32_t row_bytes)
{
    struct rowfile_setup setup = setup_of(row_bytes);
    struct rowfile *rf;
    bool exists;
    CHECK_OK(rowfile_create(path, &setup, &exists));
    CHECK(!exists);
    CHECK_OK(rowfile_open(path, COMPONENT, true, &rf));
    return rf;
}

static uint8_t row_byte(uint64_t row, uint64_t i)
{
    return (uint8_t)(row * 37 + i * 11 + row / 251 + 1);
}

/* Append rows whose bytes tell their number, with a record each. */
static syna_rc put_rows(struct rowfile *rf, uint64_t count)
{
    uint64_t bytes = record_bytes(3, 0);
    SYNA_TRY(rowfile_reserve(rf, count, count * bytes, 0));
    uint64_t first = rowfile_rows(rf);
    for (uint64_t n = 0; n < count; n++) {
        uint8_t *row = rowfile_next_row(rf) + n * rf->row_bytes;
        for (uint64_t i = 0; i < rf->row_bytes; i++)
            row[i] = row_byte(first + n, i);
        struct row_record r = {.sequence = rf->record_sequence + n + 1,
                               .row = (uint32_t)(first + n),
                               .replaces = ROWFILE_NONE,
                               .kind = RECORD_ROW,
                               .key_len = 3,
                               .key = (const uint8_t *)"key"};
        record_encode(&r, rowfile_next_record(rf) + n * bytes);
    }
    rowfile_commit(rf, count, count * bytes, count);
    return SYNA_SUCCESS;
}

static syna_rc checkpoint(struct rowfile *rf)
{
    struct row_slot slot;
    rowfile_capture(rf, &slot);
    return rowfile_checkpoint(rf, &slot);
}

static void check_rows(struct rowfile *rf, uint64_t count)
{
    CHECK_EQ(rowfile_rows(rf), count);
    CHECK_OK(rowfile_touch(rf, 0, count));
    for (uint64_t n = 0; n < count; n++) {
        const uint8_t *row = rowfile_row(rf, n);
        for (uint64_t i = 0; i < rf->row_bytes; i++)
            if (row[i] != row_byte(n, i))
                check_fail(__FILE__, __LINE__, "row %llu differs at %llu", (unsigned long long)n,
                           (unsigned long long)i);
    }
    uint64_t at = 0, found = 0;
    struct row_record r;
    for (; at < rowfile_record_bytes(rf); found++) {
        CHECK_OK(rowfile_record(rf, at, &r, &at));
        CHECK_EQ(r.row, found);
        CHECK_MEM(r.key, "key", 3);
    }
    CHECK_EQ(found, count);
}

static struct rowfile *reopen(const char *path, bool writable)
{
    struct rowfile *rf;
    CHECK_OK(rowfile_open(path, COMPONENT, writable, &rf));
    return rf;
}

static void change_byte(const char *path, uint64_t offset, uint8_t with)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)offset) == 1);
    byte ^= with;
    CHECK(pwrite(fd, &byte, 1, (off_t)offset) == 1);
    close(fd);
}

/* ---------------------------------------------------------------- bytes */

TEST(a_slot_is_decoded_as_it_was_encoded_and_any_changed_byte_is_noticed)
{
    const uint8_t uuid[16] = {1, 2, 3}, other[16] = {9};
    struct row_slot slot = {.sequence = 7,
                            .rows = 5,
                            .record_bytes = 99,
                            .record_sequence = 6,
                            .row_bytes = 64,
                            .component = COMPONENT,
                            .tails = {11, 12},
                            .config_len = 3,
                            .segment_count = ROWFILE_SEGMENTS_MAX,
                            .config = {4, 5, 6}};
    struct row_slot back;
    uint8_t bytes[SLOT_BYTES];
    for (uint32_t i = 0; i < ROWFILE_SEGMENTS_MAX; i++)
        slot.segments[i] = (struct row_segment){i % 2, 1 + 2 * i, 2};
    slot_encode(&slot, uuid, bytes);
    CHECK_MEM(bytes, bytes + SLOT_COPY_BYTES, SLOT_COPY_BYTES);
    CHECK(slot_decode(bytes, uuid, &back));
    CHECK_MEM(&back, &slot, sizeof slot);
    CHECK(!slot_decode(bytes, other, &back));
    for (size_t i = 0; i < SLOT_COPY_BYTES; i++) {
        bytes[i] ^= 0x10;
        CHECK(!slot_decode(bytes, uuid, &back));
        bytes[i] ^= 0x10;
    }
}

TEST(the_newest_good_copy_of_the_two_slots_counts)
{
    const uint8_t uuid[16] = {1};
    static uint8_t slots[2 * SLOT_BYTES];
    struct row_slot slot = {.row_bytes = 64}, found;
    CHECK(!slot_newest(slots, uuid, &found));
    slot.sequence = 5;
    slot_encode(&slot, uuid, slots + SLOT_BYTES);
    CHECK(slot_newest(slots, uuid, &found) && found.sequence == 5);
    slot.sequence = 6;
    slot_encode(&slot, uuid, slots);
    CHECK(slot_newest(slots, uuid, &found) && found.sequence == 6);
    slots[3] ^= 1; /* one copy of two */
    CHECK(slot_newest(slots, uuid, &found) && found.sequence == 6);
    slots[SLOT_COPY_BYTES + 3] ^= 1;
    CHECK(slot_newest(slots, uuid, &found) && found.sequence == 5);
    slot.sequence = 9; /* in the place of an even one */
    slot_encode(&slot, uuid, slots);
    CHECK(slot_newest(slots, uuid, &found) && found.sequence == 5);
}

TEST(a_segment_has_a_checksum_for_each_of_its_blocks)
{
    for (uint64_t blocks = 1; blocks < 70000; blocks = blocks * 3 / 2 + 1) {
        uint64_t units = segment_units(blocks);
        CHECK_EQ(segment_blocks((uint32_t)units), blocks);
        CHECK((units - blocks) * ROWFILE_BLOCK >= blocks * 4);
    }
    CHECK_EQ(segment_units(16384), 16385);
    CHECK_EQ(segment_units(16385), 16387);
    CHECK_EQ(segment_blocks(16386), 16384);
    CHECK_EQ(segment_blocks(UINT32_MAX), 4294705166u);
}

TEST(impossible_slots_are_refused)
{
    struct row_slot good = {.sequence = 1,
                            .rows = 10,
                            .record_bytes = 320,
                            .row_bytes = 64,
                            .segment_count = 2,
                            .segments = {{STREAM_ROWS, 1, 2}, {STREAM_RECORDS, 3, 2}}};
    uint64_t size = 5 * ROWFILE_BLOCK;
    CHECK_OK(slot_judge(&good, size, "f"));
    struct row_slot bad[9];
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        bad[i] = good;
    bad[0].row_bytes = 0;
    bad[1].row_bytes = 66;
    bad[2].row_bytes = ROWFILE_ROW_MAX + 64;
    bad[3].rows = ROWFILE_ROWS_MAX + 1ull;
    bad[4].rows = 1025; /* more than a block of rows */
    bad[5].record_bytes = ROWFILE_BLOCK + 1;
    bad[6].segments[1].place = 2; /* inside the first */
    bad[7].segments[1].units = UINT32_MAX;
    bad[8].segments[0].stream = 2;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        check_note("%zu", i);
        CHECK_FAILS(slot_judge(&bad[i], size, "f"), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
        CHECK_EQ(status_get()->offset, SLOT_OFFSET);
    }
    CHECK_FAILS(slot_judge(&good, size - 1, "f"), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
}

TEST(a_record_is_decoded_as_it_was_encoded)
{
    uint8_t bytes[128];
    struct row_record back, r = {.sequence = 77,
                                 .row = 5,
                                 .replaces = 3,
                                 .word = 0xdeadbeef,
                                 .meta_len = 7,
                                 .key_len = 6,
                                 .kind = RECORD_ROW,
                                 .key = (const uint8_t *)"animal",
                                 .meta = (const uint8_t *)"{\"a\":1}"};
    uint64_t len = record_bytes(r.key_len, r.meta_len);
    memset(bytes, 0xee, sizeof bytes);
    record_encode(&r, bytes);
    CHECK_EQ(len, 44);
    CHECK_EQ(bytes[len - 1], 0);
    CHECK_EQ(bytes[len], 0xee);
    CHECK_EQ(record_decode(bytes, len, &back), len);
    CHECK(back.sequence == 77 && back.row == 5 && back.replaces == 3 && back.word == 0xdeadbeef);
    CHECK_MEM(back.key, "animal", 6);
    CHECK_MEM(back.meta, "{\"a\":1}", 7);
    for (uint64_t avail = 0; avail < len; avail++)
        CHECK_EQ(record_decode(bytes, avail, &back), 0);
    bytes[RECORD_AT_KIND] = 3;
    CHECK_EQ(record_decode(bytes, len, &back), 0);
    bytes[RECORD_AT_KIND] = RECORD_DELETION; /* which has no row of its own */
    CHECK_EQ(record_decode(bytes, len, &back), 0);
    store_u32(bytes + RECORD_AT_ROW, ROWFILE_NONE);
    CHECK_EQ(record_decode(bytes, len, &back), len);
    store_u32(bytes + RECORD_AT_META_LEN, UINT32_MAX);
    CHECK_EQ(record_decode(bytes, len, &back), 0);
    memset(bytes, 0, sizeof bytes);
    CHECK_EQ(record_decode(bytes, sizeof bytes, &back), 0);
}

/* ---------------------------------------------------------------- rows and checkpoints */

TEST(a_checkpoint_is_what_the_next_opening_finds)
{
    const char *path = check_path("a.rows");
    struct rowfile *rf = make(path, ROW);
    CHECK(!rowfile_changed(rf));
    CHECK_OK(put_rows(rf, 3));
    CHECK(rowfile_changed(rf));
    CHECK_OK(checkpoint(rf));
    CHECK(!rowfile_changed(rf));
    CHECK_OK(put_rows(rf, 4)); /* without one */
    check_rows(rf, 7);
    rowfile_unref(rf);
    rf = reopen(path, true);
    check_rows(rf, 3);
    CHECK_EQ(rf->sequence, 2);
    CHECK_OK(put_rows(rf, 2)); /* over what was left there */
    CHECK_OK(checkpoint(rf));
    rowfile_unref(rf);
    rf = reopen(path, false);
    check_rows(rf, 5);
    rowfile_unref(rf);
}

/* Rows of 192 bytes do not divide a block: they straddle blocks and segments. */
TEST(rows_straddle_blocks_and_segments)
{
    const char *path = check_path("a.rows");
    struct rowfile *rf = make(path, 192);
    uint64_t count = 0;
    for (int i = 0; i < 40; i++) {
        uint64_t more = 1 + check_random() % 700;
        CHECK_OK(put_rows(rf, more));
        count += more;
        if (i % 3 == 0)
            CHECK_OK(checkpoint(rf));
    }
    CHECK_OK(checkpoint(rf));
    CHECK(rf->streams[STREAM_ROWS].segment_count > 2);
    check_rows(rf, count);
    rowfile_unref(rf);
    rf = reopen(path, true);
    CHECK(rf->streams[STREAM_ROWS].waiting > 0);
    check_rows(rf, count);
    CHECK_EQ(rf->streams[STREAM_ROWS].waiting, 0);
    CHECK_OK(put_rows(rf, 5000));
    CHECK_OK(checkpoint(rf));
    rowfile_unref(rf);
    rf = reopen(path, false);
    check_rows(rf, count + 5000);
    rowfile_unref(rf);
}

TEST(a_pointer_into_the_rows_outlives_growth)
{
    struct rowfile *rf = make(check_path("a.rows"), 1u << 20);
    CHECK_OK(put_rows(rf, 1));
    const uint8_t *first = rowfile_row(rf, 0);
    struct row_stream *s = &rf->streams[STREAM_ROWS];
    CHECK_OK(rowfile_reserve(rf, 1 + s->reserved / rf->row_bytes, 0, 0)); /* beyond the range */
    CHECK(s->retired != NULL);
    CHECK(rowfile_row(rf, 0) != first);
    CHECK_EQ(first[5], row_byte(0, 5));
    CHECK_OK(put_rows(rf, 1));
    check_rows(rf, 2);
    rowfile_unref(rf);
}

TEST(room_is_made_for_the_rows_that_are_expected)
{
    struct rowfile *rf = make(check_path("a.rows"), ROW);
    CHECK_OK(rowfile_reserve(rf, 1, 40, 100000));
    CHECK(rf->streams[STREAM_ROWS].room >= 100000 * ROW);
    CHECK_EQ(rf->streams[STREAM_ROWS].segment_count, 1);
    rowfile_unref(rf);
}

TEST(a_reader_sees_a_checkpoint_and_refreshes_to_the_next)
{
    const char *path = check_path("a.rows");
    struct rowfile *writer = make(path, 192);
    bool changed;
    CHECK_OK(put_rows(writer, 700)); /* two blocks and a bit */
    CHECK_OK(checkpoint(writer));
    struct rowfile *reader = reopen(path, false);
    check_rows(reader, 700);
    CHECK_OK(put_rows(writer, 900));
    CHECK_OK(rowfile_refresh(reader, &changed));
    CHECK(!changed);
    check_rows(reader, 700);
    CHECK_OK(checkpoint(writer));
    CHECK_OK(rowfile_refresh(reader, &changed));
    CHECK(changed);
    CHECK(reader->streams[STREAM_ROWS].waiting > 0); /* the block that was unfinished, too */
    check_rows(reader, 1600);
    rowfile_unref(reader);
    rowfile_unref(writer);
}

TEST(an_empty_file_can_be_given_other_rows)
{
    const char *path = check_path("a.rows");
    struct rowfile *rf = make(path, ROW);
    rowfile_configure(rf, 128, "abc", 3);
    CHECK(rowfile_changed(rf));
    CHECK_OK(checkpoint(rf));
    rowfile_unref(rf);
    rf = reopen(path, true);
    CHECK_EQ(rf->row_bytes, 128);
    CHECK_EQ(rf->config_len, 3);
    CHECK_MEM(rf->config, "abc", 3);
    rowfile_unref(rf);
}

/* ---------------------------------------------------------------- refusals and damage */

static void write_file(const char *path, const void *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, len, f) == len);
    fclose(f);
}

TEST(foreign_files_are_refused)
{
    struct rowfile *rf;
    const char *path = check_path("foreign");
    static const char ancestor[64] = "CEVM\1";
    CHECK_FAILS(rowfile_open(path, COMPONENT, true, &rf), SYNA_ERR_IO, SYNA_WHY_NONE);
    write_file(path, ancestor, sizeof ancestor);
    CHECK_FAILS(rowfile_open(path, COMPONENT, true, &rf), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_WRONG_KIND);
    write_file(path, "", 0);
    CHECK_FAILS(rowfile_open(path, COMPONENT, true, &rf), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_WRONG_KIND);
    write_file(path, HEADER_MAGIC, 16);
    CHECK_FAILS(rowfile_open(path, COMPONENT, true, &rf), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT);
    rowfile_unref(make(check_path("b.rows"), ROW));
    CHECK_FAILS(rowfile_open(check_path("b.rows"), COMPONENT + 1, true, &rf),
                SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND);
    CHECK(strstr(status_get()->message, "TEST") != NULL);
}

TEST(a_file_that_is_shorter_than_its_segments_is_refused)
{
    const char *path = check_path("a.rows");
    struct rowfile *rf = make(path, ROW);
    CHECK_OK(put_rows(rf, 10));
    CHECK_OK(checkpoint(rf));
    uint64_t size = rowfile_file_bytes(rf);
    rowfile_unref(rf);
    for (uint64_t shorter = size - 1;; shorter = shorter * 2 / 3) {
        CHECK_EQ(truncate(path, (off_t)shorter), 0);
        CHECK_RC(rowfile_open(path, COMPONENT, true, &rf), SYNA_ERR_SERIALIZATION);
        if (shorter == 0)
            break;
    }
}

TEST(a_changed_row_is_found_when_it_is_first_used_and_not_before)
{
    const char *path = check_path("a.rows");
    struct rowfile *rf = make(path, ROW);
    CHECK_OK(put_rows(rf, 3000)); /* two blocks and a bit */
    CHECK_OK(checkpoint(rf));
    uint64_t second = rowfile_offset(rf, STREAM_ROWS, ROWFILE_BLOCK);
    rowfile_unref(rf);
    change_byte(path, second + 100, 1);
    rf = reopen(path, true);
    CHECK_OK(rowfile_touch(rf, 0, 1024));
    CHECK_FAILS(rowfile_touch(rf, 1024, 1), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(status_get()->offset, second);
    CHECK_STR(status_get()->path, path);
    CHECK_FAILS(rowfile_touch(rf, 1023, 2), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_OK(rowfile_touch(rf, 2048, 900));
    rowfile_unref(rf);
}

TEST(a_changed_record_or_unfinished_block_is_found_on_opening)
{
    const char *path = check_path("a.rows");
    struct rowfile *rf = make(path, ROW);
    CHECK_OK(put_rows(rf, 3000));
    CHECK_OK(checkpoint(rf));
    const uint64_t places[] = {rowfile_offset(rf, STREAM_RECORDS, 50),
                               rowfile_offset(rf, STREAM_RECORDS, ROWFILE_BLOCK + 50),
                               rowfile_offset(rf, STREAM_ROWS, 2 * ROWFILE_BLOCK + 50)};
    rowfile_unref(rf);
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        change_byte(path, places[i], 0x80);
        CHECK_FAILS(rowfile_open(path, COMPONENT, false, &rf), SYNA_ERR_SERIALIZATION,
                    SYNA_WHY_CORRUPT);
        CHECK_EQ(status_get()->offset, places[i] / ROWFILE_BLOCK * ROWFILE_BLOCK);
        change_byte(path, places[i], 0x80);
    }
    rf = reopen(path, false);
    check_rows(rf, 3000);
    rowfile_unref(rf);
}

TEST(one_spoiled_copy_of_a_slot_loses_nothing_and_a_whole_one_the_last_checkpoint)
{
    const char *path = check_path("a.rows");
    struct rowfile *rf = make(path, ROW);
    CHECK_OK(put_rows(rf, 5));
    CHECK_OK(checkpoint(rf)); /* sequence 2: slot 0 */
    CHECK_OK(put_rows(rf, 5));
    CHECK_OK(checkpoint(rf)); /* sequence 3: slot 1 */
    rowfile_unref(rf);
    change_byte(path, SLOT_OFFSET + SLOT_BYTES + 9, 1);
    rf = reopen(path, false);
    check_rows(rf, 10);
    rowfile_unref(rf);
    change_byte(path, SLOT_OFFSET + SLOT_BYTES + SLOT_COPY_BYTES + 9, 1);
    rf = reopen(path, true);
    check_rows(rf, 5);
    CHECK_OK(put_rows(rf, 1));
    CHECK_OK(checkpoint(rf));
    rowfile_unref(rf);
    rf = reopen(path, false);
    check_rows(rf, 6);
    rowfile_unref(rf);
    for (uint64_t i = 0; i < 4; i++)
        change_byte(path, SLOT_OFFSET + i * SLOT_COPY_BYTES + 2000, 1);
    CHECK_FAILS(rowfile_open(path, COMPONENT, true, &rf), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT);
    CHECK_EQ(status_get()->offset, SLOT_OFFSET);
}

TEST(features_of_a_later_release_are_respected)
{
    const char *path = check_path("a.rows");
    uint8_t block[HEADER_BYTES];
    struct header h;
    struct rowfile *rf = make(path, ROW);
    CHECK_OK(put_rows(rf, 1));
    CHECK_OK(checkpoint(rf));
    h = rf->header;
    rowfile_unref(rf);
    for (int i = 0; i < 3; i++) {
        struct header changed = h;
        changed.read_only = i == 0;
        changed.incompatible = i == 1;
        changed.major = i == 2 ? 9 : h.major;
        header_encode(&changed, block);
        int fd = open(path, O_RDWR);
        CHECK(pwrite(fd, block, sizeof block, 0) == (ssize_t)sizeof block);
        close(fd);
        if (i == 0) {
            rf = reopen(path, true);
            CHECK(!rf->writable);
            check_rows(rf, 1);
            rowfile_unref(rf);
        } else {
            CHECK_FAILS(rowfile_open(path, COMPONENT, false, &rf), SYNA_ERR_SERIALIZATION,
                        SYNA_WHY_NEWER_FORMAT);
        }
    }
}

/* ---------------------------------------------------------------- failures */

TEST(P7_a_full_disk_is_an_error_and_room_that_comes_back_is_used)
{
    struct mem_fs *fs = mem_fs_new(3);
    mem_fs_use(fs);
    mem_fs_set_strict(fs, true);
    syna_test_set_vfs(&vfs_mem);
    struct rowfile *rf = make(MEM_DIR "/a.rows", ROW);
    CHECK_OK(put_rows(rf, 100));
    mem_fs_set_space(fs, 8 * ROWFILE_BLOCK);
    uint64_t count = 100;
    syna_rc rc;
    while ((rc = put_rows(rf, 100)) == SYNA_SUCCESS)
        count += 100;
    CHECK_FAILS(rc, SYNA_ERR_IO, SYNA_WHY_NO_SPACE);
    CHECK(count > 1000);
    check_rows(rf, count);
    CHECK_OK(checkpoint(rf));
    mem_fs_set_space(fs, 0);
    CHECK_OK(put_rows(rf, 5000));
    CHECK_OK(checkpoint(rf));
    rowfile_unref(rf);
    rf = reopen(MEM_DIR "/a.rows", false);
    check_rows(rf, count + 5000);
    rowfile_unref(rf);
    CHECK_STR(mem_fs_faults(fs), "");
    syna_test_set_vfs(NULL);
    mem_fs_free(fs);
}

TEST(P8_after_a_failed_sync_there_are_no_more_checkpoints)
{
    const char *path = check_path("a.rows");
    struct rowfile *rf = make(path, ROW);
    CHECK_OK(put_rows(rf, 1));
    CHECK_OK(checkpoint(rf));
    for (int which = 1; which <= 2; which++) {
        CHECK_OK(put_rows(rf, 1));
        fault_begin(&vfs_posix);
        syna_test_set_vfs(&vfs_fault);
        fault_arm(&(struct fault){.at = which, .system = EIO, .only = 1u << FAULT_SYNC});
        CHECK_FAILS(checkpoint(rf), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
        fault_arm(NULL);
        CHECK_FAILS(checkpoint(rf), SYNA_ERR_IO, SYNA_WHY_SYNC_FAILED);
        CHECK_EQ(fault_count(FAULT_SYNC), 0);
        CHECK(rowfile_failed(rf));
        syna_test_set_vfs(NULL);
        rowfile_unref(rf);
        rf = reopen(path, true);
    }
    rowfile_unref(rf);
}

/* Whatever call fails, the file is one that opens, with a checkpoint's rows. */
TEST(P7_any_failing_call_leaves_a_file_that_opens)
{
    for (int memory = 0; memory < 2; memory++) {
        for (int64_t k = 1;; k++) {
            struct mem_fs *fs = mem_fs_new(5);
            mem_fs_use(fs);
            fault_begin(&vfs_mem);
            syna_test_set_vfs(&vfs_fault);
            struct rowfile *rf = make(MEM_DIR "/a.rows", 192);
            CHECK_OK(put_rows(rf, 300));
            CHECK_OK(checkpoint(rf));
            check_note("%s %lld", memory ? "allocation" : "call", (long long)k);
            if (memory)
                fault_alloc(k, false);
            else
                fault_arm(&(struct fault){.at = k, .system = EIO});
            uint64_t least = 300, most = 300;
            syna_rc rc = put_rows(rf, 1000);
            if (rc == SYNA_SUCCESS) {
                most = 1300;
                rc = checkpoint(rf);
                least = rc == SYNA_SUCCESS ? 1300 : 300;
            }
            bool fired = memory ? fault_alloc_fired() > 0 : fault_fired() > 0;
            fault_alloc(0, false);
            fault_arm(NULL);
            rowfile_unref(rf);
            rf = reopen(MEM_DIR "/a.rows", true);
            uint64_t rows = rowfile_rows(rf);
            CHECK(rows == least || rows == most);
            check_rows(rf, rows);
            rowfile_unref(rf);
            CHECK_EQ(mem_fs_open_count(fs), 0);
            syna_test_set_vfs(NULL);
            mem_fs_free(fs);
            if (!fired)
                break;
        }
    }
}
