/* rowfile.c - a row file as an object: create, open, see newer checkpoints, close. Nothing here changes
 * an existing file. */
#include "base/internal.h"

#include "base/mem.h"
#include "store/rowfile.h"

/* A reader beside a writer can meet both slots torn, each by another checkpoint, but not for long. */
#define SLOT_TRIES 50
#define SLOT_PAUSE_US 1000u

/* ---------------------------------------------------------------- creating */

static syna_rc fresh_header(const struct rowfile_setup *setup, struct header *h)
{
    memset(h, 0, sizeof *h);
    h->major = FORMAT_MAJOR;
    h->minor = FORMAT_MINOR;
    h->kind = KIND_ROWS;
    h->generation = setup->generation;
    h->created_us = syna_vfs->now_us();
    if (setup->uuid) {
        memcpy(h->uuid, setup->uuid, sizeof h->uuid);
        return SYNA_SUCCESS;
    }
    int rc = syna_vfs->random(h->uuid, sizeof h->uuid);
    if (rc < 0)
        return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, NULL, -1, -rc,
                            "the system gave no random bytes for a new file's identity");
    return SYNA_SUCCESS;
}

/* Header and first slot of an empty file, synced. */
static syna_rc write_empty(const struct file *f, const struct rowfile_setup *setup)
{
    struct header h;
    struct row_slot slot = {.sequence = 1,
                            .record_sequence = setup->record_sequence,
                            .row_bytes = setup->row_bytes,
                            .component = setup->component,
                            .config_len = setup->config_len};
    uint8_t bytes[SLOT_OFFSET + 2 * SLOT_BYTES] = {0};
    memcpy(slot.config, setup->config, setup->config_len);
    SYNA_TRY(fresh_header(setup, &h));
    header_encode(&h, bytes);
    slot_encode(&slot, h.uuid, bytes + SLOT_OFFSET + SLOT_BYTES * (slot.sequence % 2));
    SYNA_TRY(file_write_all(f, 0, bytes, sizeof bytes));
    return file_sync(f);
}

syna_rc rowfile_create(const char *path, const struct rowfile_setup *setup, bool *exists)
{
    struct file temp = FILE_NONE;
    *exists = false;
    SYNA_TRY(file_create_temp(&temp, path));
    syna_rc rc = write_empty(&temp, setup);
    if (rc == SYNA_SUCCESS)
        rc = file_publish(&temp, path, false, exists);
    if (rc != SYNA_SUCCESS || *exists)
        file_discard_temp(&temp);
    else
        file_close(&temp);
    return rc;
}

/* ---------------------------------------------------------------- the slots */

static syna_rc read_slots(const struct rowfile *rf, struct row_slot *slot, bool *found)
{
    uint8_t bytes[2 * SLOT_BYTES] = {0};
    size_t got;
    SYNA_TRY(file_read(&rf->file, SLOT_OFFSET, bytes, sizeof bytes, &got));
    *found = slot_newest(bytes, rf->header.uuid, slot);
    return SYNA_SUCCESS;
}

/* The newest slot, sound for the file as it is. */
static syna_rc newest_slot(const struct rowfile *rf, struct row_slot *slot)
{
    bool found = false;
    struct vfs_stat st;
    for (int i = 0; !found && i < SLOT_TRIES; i++) {
        if (i > 0)
            syna_vfs->pause_us(SLOT_PAUSE_US);
        SYNA_TRY(read_slots(rf, slot, &found));
        if (rf->writable)
            break; /* nobody else writes */
    }
    if (!found)
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, rf->file.path, SLOT_OFFSET, 0,
                            "neither of the two header slots has a valid checksum");
    SYNA_TRY(file_stat(&rf->file, &st));
    return slot_judge(slot, st.size, rf->file.path);
}

/* ---------------------------------------------------------------- taking over a slot */

/* Map the segments that the handle does not have yet. */
static syna_rc map_new_segments(struct rowfile *rf, const struct row_slot *slot)
{
    uint32_t have[STREAMS] = {0, 0};
    for (uint32_t i = 0; i < slot->segment_count; i++) {
        struct row_stream *s = &rf->streams[slot->segments[i].stream];
        uint32_t at = have[slot->segments[i].stream]++;
        if (at < s->segment_count) {
            if (memcmp(&s->segments[at], &slot->segments[i], sizeof slot->segments[i]) != 0)
                return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, rf->file.path,
                                    SLOT_OFFSET, 0, "segment %u is not where it was", i);
            continue;
        }
        SYNA_TRY(stream_add_segment(s, &rf->file, rf->writable, slot->segments[i]));
        rf->file_end = segment_end(&slot->segments[i]);
    }
    return SYNA_SUCCESS;
}

static syna_rc check_streams(struct rowfile *rf, const struct row_slot *slot)
{
    for (int i = 0; i < STREAMS; i++) {
        enum row_stream_kind stream = (enum row_stream_kind)i;
        uint64_t blocks = slot_stream_bytes(slot, stream) / ROWFILE_BLOCK;
        SYNA_TRY(rowfile_load_sums(rf, stream, blocks));
        SYNA_TRY(rowfile_check_tail(rf, stream, slot));
    }
    return rowfile_touch_blocks(rf, STREAM_RECORDS, 0, slot->record_bytes);
}

static syna_rc take_over(struct rowfile *rf, const struct row_slot *slot)
{
    SYNA_TRY(map_new_segments(rf, slot));
    SYNA_TRY(check_streams(rf, slot));
    rf->sequence = slot->sequence;
    rf->record_sequence = slot->record_sequence;
    rf->row_bytes = slot->row_bytes;
    rf->config_len = slot->config_len;
    memcpy(rf->config, slot->config, sizeof rf->config);
    rf->checkpoint_rows = slot->rows;
    rf->checkpoint_record_bytes = slot->record_bytes;
    for (int i = 0; i < STREAMS; i++) {
        uint64_t end = slot_stream_bytes(slot, (enum row_stream_kind)i);
        rf->streams[i].sealed = end / ROWFILE_BLOCK;
        __atomic_store_n(&rf->streams[i].end, end, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&rf->rows, slot->rows, __ATOMIC_RELEASE);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- opening */

static syna_rc read_header(struct rowfile *rf)
{
    uint8_t block[HEADER_BYTES] = {0};
    size_t got = 0;
    SYNA_TRY(file_read(&rf->file, 0, block, sizeof block, &got));
    SYNA_TRY(header_decode(block, got, KIND_ROWS, rf->file.path, &rf->header));
    if (rf->header.read_only != 0)
        rf->writable = false;
    return SYNA_SUCCESS;
}

static syna_rc check_component(const struct rowfile *rf, const struct row_slot *slot)
{
    uint8_t is[4], expected[4];
    store_u32(is, slot->component);
    store_u32(expected, rf->component);
    if (slot->component == rf->component)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND, rf->file.path,
                        SLOT_OFFSET + SLOT_AT_COMPONENT, 0,
                        "a row file of component %.4s, expected %.4s", (const char *)is,
                        (const char *)expected);
}

static syna_rc open_checked(struct rowfile *rf)
{
    struct row_slot slot;
    struct vfs_stat st;
    SYNA_TRY(read_header(rf));
    SYNA_TRY(newest_slot(rf, &slot));
    SYNA_TRY(check_component(rf, &slot));
    SYNA_TRY(file_stat(&rf->file, &st));
    rf->device = st.device;
    rf->inode = st.inode;
    rf->file_end = ROWFILE_BLOCK;
    return take_over(rf, &slot);
}

static struct rowfile *rowfile_new(uint32_t component, bool writable)
{
    struct rowfile *rf = mem_zalloc(sizeof *rf);
    if (!rf)
        return NULL;
    rf->refs = 1;
    rf->file.fd = -1;
    rf->component = component;
    rf->writable = writable;
    return rf;
}

syna_rc rowfile_open(const char *path, uint32_t component, bool writable, struct rowfile **out)
{
    struct rowfile *rf = rowfile_new(component, writable);
    if (!rf)
        return syna_no_memory(sizeof *rf);
    syna_rc rc = file_open(&rf->file, path, writable ? VFS_WRITE : VFS_READ);
    if (rc == SYNA_SUCCESS)
        rc = open_checked(rf);
    if (rc == SYNA_SUCCESS)
        *out = rf;
    else
        rowfile_unref(rf);
    return rc;
}

syna_rc rowfile_create_temp(const char *path, const struct rowfile_setup *setup,
                            struct rowfile **out)
{
    struct rowfile *rf = rowfile_new(setup->component, true);
    if (!rf)
        return syna_no_memory(sizeof *rf);
    syna_rc rc = file_create_temp(&rf->file, path);
    if (rc == SYNA_SUCCESS)
        rc = write_empty(&rf->file, setup);
    if (rc == SYNA_SUCCESS)
        rc = open_checked(rf);
    if (rc == SYNA_SUCCESS)
        *out = rf;
    else
        rowfile_unref(rf);
    return rc;
}

syna_rc rowfile_publish(struct rowfile *rf, const char *path)
{
    syna_rc rc = file_publish(&rf->file, path, true, NULL);
    if (rc != SYNA_SUCCESS)
        __atomic_store_n(&rf->failed, true, __ATOMIC_RELEASE);
    return rc;
}

syna_rc rowfile_refresh(struct rowfile *rf, bool *changed)
{
    struct row_slot slot;
    SYNA_TRY(newest_slot(rf, &slot));
    *changed = slot.sequence > rf->sequence;
    if (!*changed)
        return SYNA_SUCCESS;
    if (slot.rows < rf->rows || slot.record_bytes < rf->checkpoint_record_bytes ||
        (rf->rows > 0 && slot.row_bytes != rf->row_bytes))
        return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, rf->file.path, SLOT_OFFSET, 0,
                            "the newest header slot covers less than an earlier one");
    return take_over(rf, &slot);
}

/* ---------------------------------------------------------------- closing */

struct rowfile *rowfile_ref(struct rowfile *rf)
{
    __atomic_fetch_add(&rf->refs, 1, __ATOMIC_RELAXED);
    return rf;
}

void rowfile_unref(struct rowfile *rf)
{
    if (!rf || __atomic_sub_fetch(&rf->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (int i = 0; i < STREAMS; i++)
        stream_dispose(&rf->streams[i]);
    file_discard_temp(&rf->file);
    mem_free(rf);
}

void rowfile_detach(struct rowfile *rf)
{
    file_discard_temp(&rf->file);
}

/* ---------------------------------------------------------------- facts */

uint64_t rowfile_offset(const struct rowfile *rf, enum row_stream_kind stream, uint64_t at)
{
    const struct row_stream *s = &rf->streams[stream];
    if (at >= s->room)
        return rf->file_end;
    return stream_block_offset(s, at / ROWFILE_BLOCK) + at % ROWFILE_BLOCK;
}

uint64_t rowfile_file_bytes(const struct rowfile *rf)
{
    return rf->file_end;
}

uint64_t rowfile_memory_bytes(const struct rowfile *rf)
{
    uint64_t bytes = sizeof *rf;
    for (int i = 0; i < STREAMS; i++)
        bytes += rf->streams[i].sum_count * 4 + (rf->streams[i].sum_count + 63) / 64 * 8;
    return bytes;
}
