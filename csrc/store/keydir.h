/* The key index, in memory: key -> newest record, and the chain of all its records (history.h).
 *
 * Open addressing in groups of one cache line: 16 control bytes (7-bit tags, SIMD compare; the idea
 * of Swiss tables) and 12 entry numbers; entries of 24 bytes in segments that never move. The key
 * itself is not stored: after tag and 32-bit hash match it is compared in the mapped log. So a
 * look-up touches three places (group, entry, log) and a key costs 30 to 36 bytes. A table of twice
 * the size is filled step by step as keys come in, without reading keys.
 *
 * Ordered access sorts entry numbers when first asked and merges later keys lazily.
 *
 * Saved as a snapshot (the key checkpoint) and opened from it by mapping, copy on write: no work per
 * key. Pages are checked on first touch; a damaged page makes calls return KEYDIR_DAMAGED and the
 * engine rebuilds the index by replaying the log.
 *
 * Limits: 2^32 - 2 keys, 2^28 - 1 of them with more than one record, a log of 2^44 bytes; beyond them
 * keydir_reserve and keydir_apply fail with SYNA_ERR_INTERNAL.
 *
 * Locking is the engine's state_lock: calls marked (w) need it exclusively, others shared. SUCCESS,
 * KEY_NOT_FOUND and KEYDIR_DAMAGED leave the error record alone. */
#ifndef SYNA_STORE_KEYDIR_H
#define SYNA_STORE_KEYDIR_H

#include "base/status.h"
#include "store/kvlog.h"
#include "store/snapshot.h"

/* Returned besides SYNA_SUCCESS, SYNA_ERR_KEY_NOT_FOUND, SYNA_ERR_SERIALIZATION (the log itself is
 * damaged) and SYNA_ERR_INTERNAL. Not an ABI code: the engine never lets it out. */
#define KEYDIR_DAMAGED (-1000)

/* How an entry's newest record looks. */
enum entry_flags {
    ENTRY_INLINE = 1,  /* payload is the value itself (FLOAT, INT) */
    ENTRY_EXPIRES = 2, /* the frame carries an expiry */
    ENTRY_DELETED = 4, /* the newest record is a deletion */
    ENTRY_BLOCK = 8,   /* the newest record is the last value of a column block */
};

/* The newest record of a key. `id` is the entry number: stable until the keydir is replaced. */
struct entry {
    uint64_t offset;  /* of the frame */
    uint64_t payload; /* the value's bits when INLINE, otherwise val_len of the frame */
    uint32_t id;
    uint32_t history; /* handle, 0 = only this one record, and it is not a block */
    uint16_t key_len;
    uint8_t type;  /* syna_type */
    uint8_t flags; /* entry_flags */
};

struct keydir;

/* `log` is borrowed for comparing keys and must outlive the keydir. */
syna_rc keydir_new(const struct kvlog *log, struct keydir **out);
void keydir_free(struct keydir *dir);

/* Also finds deleted keys (flag DELETED). A key whose hash matches but whose bytes in the log do not
 * is checked against the frame's checksum, so that damage is never taken for absence. */
syna_rc keydir_find(struct keydir *dir, const void *key, size_t key_len, struct entry *out);

/* (w) Make a frame of the log the newest record of its key. `f` must lie in the mapped log, behind
 * every frame applied before. Handles values, tombstones and column blocks; engine frames are
 * ignored. On failure nothing changed, and the call can be repeated. */
syna_rc keydir_apply(struct keydir *dir, const struct frame *f);

/* (w) Room for this many records, each of them perhaps of a new key, counted from now: whoever has
 * earlier records still to be applied adds them. After it the next `records` calls of keydir_apply
 * cannot fail for want of memory or room; a frame that makes no sense, damage in the log and
 * KEYDIR_DAMAGED remain. Cheap when there is room. On failure nothing changed.
 *
 * Where histories cannot get the memory to grow, records are kept aside within the room reserved;
 * readers see them all the same. Then this call fails until there is memory for them again, and
 * so does keydir_save. */
syna_rc keydir_reserve(struct keydir *dir, size_t records);

/* Fetch what a coming keydir_apply of this key will touch first, so that several wait together. */
void keydir_prefetch(const struct keydir *dir, const void *key, size_t key_len);

/* Entries by number, 0 .. keydir_count-1, in order of first appearance. */
uint32_t keydir_count(const struct keydir *dir); /* deleted keys included */
syna_rc keydir_entry(struct keydir *dir, uint32_t id, struct entry *out);

struct keydir_stats {
    uint64_t keys;         /* entries */
    uint64_t deleted;      /* of them, newest record is a deletion */
    uint64_t expiring;     /* newest record carries an expiry (flag EXPIRES), deleted ones not counted */
    uint64_t records;      /* frames applied */
    uint64_t live_bytes;   /* frame bytes of newest, not deleted records */
    /* Heap that holds something: not what is mapped, nor the part of a segment that no entry or
     * history has been put in, which the system has not had to provide yet. */
    uint64_t index_bytes, history_bytes, order_bytes;
};
void keydir_get_stats(const struct keydir *dir, struct keydir_stats *out);

/* ---- ordered access (bytewise order of keys). Two sorted runs, the big one and a small one with
 * later keys, are read as one. */

/* (w) Bring the sorted order up to date with all entries; cheap when it is. SYNA_ERR_SERIALIZATION
 * when a key in the log is not the one that was indexed. */
syna_rc keydir_sort(struct keydir *dir);
bool keydir_sorted(const struct keydir *dir);

/* A place in the order. It stays good while keydir_order_version is what it was at the seek: keys
 * put later are simply not in the order before the next keydir_sort, which changes the version.
 * Then seek again: from the last key seen plus one zero byte, which is the least key behind it. */
struct order_cursor {
    uint32_t main, late; /* next position in each run */
    uint64_t version;
};

/* Different for every order of every keydir of the process. */
uint64_t keydir_order_version(const struct keydir *dir);
/* Stand before the first key >= the bytes given (key_len 0: the first of all). */
syna_rc keydir_order_seek(struct keydir *dir, const void *key, size_t key_len,
                          struct order_cursor *out);
/* The entry number of the next key, deleted ones included; SYNA_ERR_KEY_NOT_FOUND behind the last.
 * The cursor's version must be the current one. */
syna_rc keydir_order_next(struct keydir *dir, struct order_cursor *c, uint32_t *id);
/* Fetch entries and beginnings of frames of the next `count` keys, so that they are waited for
 * together. A hint: nothing is checked, nothing fails. */
void keydir_order_prefetch(const struct keydir *dir, const struct order_cursor *c, uint32_t count);

/* ---- checkpoint */
#define SNAPSHOT_KEYS SNAPSHOT_FOURCC('K', 'E', 'Y', 'S')

/* Write the checkpoint of this keydir: it covers the log up to `end`, whose last frame starts at
 * last_offset and has end_crc. The state must not change meanwhile (shared lock held). Also returns
 * KEYDIR_DAMAGED, when the checkpoint it was opened from is. */
syna_rc keydir_save(struct keydir *dir, const char *path, uint64_t last_offset, uint64_t end,
                    uint32_t end_crc);
/* Open from a checkpoint. *out NULL and success: there is none that fits `log` (uuid, generation,
 * kvlog_trust); the caller replays the whole log. On success log->end is what the checkpoint covers. */
syna_rc keydir_load(struct kvlog *log, const char *path, struct keydir **out);

#endif
