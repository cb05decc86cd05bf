/* A log in memory for tests of the key index: frames are made by frame_append and frame_seal into a
 * buffer that stands where the mapping would be. */
#ifndef SYNA_TESTS_KEYDIR_FIXTURE_H
#define SYNA_TESTS_KEYDIR_FIXTURE_H

#include "base/rng.h"
#include "store/column.h"
#include "store/keydir_core.h"
#include "store/value.h"

struct memlog {
    struct kvlog log;
    struct buf bytes;
    uint64_t stamp;
};

static inline void memlog_sync(struct memlog *m)
{
    m->log.map.base = m->bytes.bytes;
    m->log.map.len = m->log.map.reserved = m->bytes.len;
    m->log.end = m->log.allocated = m->log.durable = m->bytes.len;
}

/* false = no memory. path: what messages call the log. */
static inline bool memlog_init(struct memlog *m, const char *path)
{
    memset(m, 0, sizeof *m);
    m->log.file.fd = -1;
    m->log.file.path = (char *)(uintptr_t)path;
    m->log.header.kind = KIND_LOG;
    m->log.header.generation = 1;
    memcpy(m->log.header.uuid, "keydir-test-uuid", 16);
    m->log.seed = frame_seed(m->log.header.uuid);
    m->log.start = HEADER_BYTES;
    uint8_t *header = buf_extend(&m->bytes, HEADER_BYTES);
    if (!header)
        return false;
    header_encode(&m->log.header, header);
    memlog_sync(m);
    return true;
}

static inline void memlog_dispose(struct memlog *m)
{
    buf_dispose(&m->bytes);
}

static inline bool memlog_add_raw(struct memlog *m, const void *key, size_t key_len, uint8_t flags,
                                  const void *value, size_t len, struct frame *out)
{
    uint64_t offset = m->bytes.len;
    if (!frame_append(&m->bytes, key, key_len, flags, value, len))
        return false;
    m->log.last_crc = frame_seal(m->bytes.bytes + offset, offset, ++m->stamp, FRAME_COMMIT,
                                 m->log.seed);
    m->log.last_offset = offset;
    memlog_sync(m);
    frame_view(m->bytes.bytes + offset, offset, out);
    return true;
}

static inline bool memlog_add(struct memlog *m, const void *key, size_t key_len, int32_t type,
                              const void *data, size_t len, uint64_t expires_us, struct frame *out)
{
    struct value v = {.type = type, .data = data, .len = len, .expires_us = expires_us};
    struct buf field = {0};
    uint8_t flags = 0;
    bool ok = value_encode(&v, false, &field, &flags) == SYNA_SUCCESS &&
              memlog_add_raw(m, key, key_len, flags, field.bytes, field.len, out);
    buf_dispose(&field);
    return ok;
}

static inline bool memlog_add_number(struct memlog *m, const void *key, size_t key_len, int32_t type,
                                     uint64_t bits, struct frame *out)
{
    return memlog_add(m, key, key_len, type, &bits, 8, 0, out);
}

static inline bool memlog_add_block(struct memlog *m, const void *key, size_t key_len, int32_t type,
                                    const uint64_t *bits, size_t count, struct frame *out)
{
    struct buf block = {0};
    bool ok = column_encode(type, bits, NULL, NULL, count, &block) &&
              memlog_add_raw(m, key, key_len, FRAME_BLOCK, block.bytes, block.len, out);
    buf_dispose(&block);
    return ok;
}

static inline bool memlog_delete(struct memlog *m, const void *key, size_t key_len,
                                 struct frame *out)
{
    static const uint8_t null_atom[4];
    return memlog_add_raw(m, key, key_len, FRAME_TOMBSTONE, null_atom, sizeof null_atom, out);
}

/* The allocation number `left` from now on fails, and with `forever` all after it. */
struct failing {
    int64_t left;
    bool forever, fired;
};

static inline bool failing_hook(void *context, size_t bytes)
{
    struct failing *f = context;
    (void)bytes;
    if (f->left > 1) {
        f->left--;
        return true;
    }
    if (f->left == 1 || (f->forever && f->fired)) {
        f->fired = true;
        f->left = 0;
        return false;
    }
    return true;
}

/* Between these two allocations count; what a test allocates itself does not. */
static inline void fail_on(struct failing *f)
{
    syna_test_set_alloc(failing_hook, f);
}
static inline void fail_off(void)
{
    syna_test_set_alloc(NULL, NULL);
}

static inline void fail_all(struct failing *f)
{
    *f = (struct failing){.left = 1, .forever = true};
    fail_on(f);
}

#endif
