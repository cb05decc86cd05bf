/* The inside of a keydir; for keydir*.c and history.c only.
 *
 *   keydir.c          find and apply: the meaning of entries, statistics
 *   keydir_table.c    groups: probing, placing, growing step by step
 *   keydir_order.c    sorted runs: merging, seeking, walking
 *   keydir_sort.c     putting entry numbers into key order
 *   keydir_history.c  storage of histories: appending, growing, what happens without memory
 *   keydir_file.c     the key checkpoint
 *   history.c         reading histories: cursors, values and their cache
 *
 * A keydir opened from a checkpoint uses the checkpoint's bytes where they are mapped (copy on
 * write). They are checksummed, but a checksum does not make them true: every number that comes
 * from them is compared with its bounds where it is followed. */
#ifndef SYNA_STORE_KEYDIR_CORE_H
#define SYNA_STORE_KEYDIR_CORE_H

#include "base/hash.h"
#include "base/mem.h"
#include "io/vfs.h"
#include "store/history.h"
#include "store/keydir.h"

/* ---- the table: groups of one cache line, so that a look-up touches one line of it. 12 slots is
 * what fits beside their tags; the control bytes are compared 16 at a time all the same. */
#define GROUP_SLOTS 12u
#define GROUP_MASK 0xfffu
#define GROUPS_MIN 4u
/* Groups moved to the bigger table with each new key. The move ends after old_groups / 2 of the at
 * least 10 * old_groups keys that fit before the next one has to begin. */
#define GROUPS_PER_STEP 2u

struct group {
    uint8_t tags[GROUP_SLOTS]; /* 0 = free, otherwise 0x80 | 7 bits of the hash */
    uint8_t passed;            /* 1: some key had to go on to a later group */
    uint8_t zero[3];
    uint32_t slots[GROUP_SLOTS]; /* entry numbers */
};
static_assert(sizeof(struct group) == 64, "a group is a cache line");

struct table {
    struct group *groups;
    uint64_t mask; /* groups - 1; a power of two of them */
    void *block;   /* what to release; NULL when the groups are in the checkpoint */
};

/* Entries that a table of this size takes: 7/8 of its slots. */
static inline uint64_t table_limit(uint64_t groups)
{
    return groups / 2 * (GROUP_SLOTS * 7 / 4);
}

/* The hash is used in two parts that do not overlap: the low 32 bits are kept in the entry and say
 * where to look, so that a table grows without reading keys; the high 7 bits are the tag. */
static inline uint8_t hash_tag(uint64_t hash)
{
    return (uint8_t)(0x80u | (hash >> 57));
}

static inline uint32_t group_match_portable(const struct group *g, uint8_t tag)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < GROUP_SLOTS; i++)
        found |= (uint32_t)(g->tags[i] == tag) << i;
    return found;
}

/* A bit per slot whose tag is `tag` (0: per free slot). */
#if defined(__SSE2__) && !defined(SYNA_PORTABLE)
/* Vector types of the compiler: emmintrin.h mentions heap functions, which are poisoned here. */
typedef char tags_vector __attribute__((vector_size(16)));
static inline uint32_t group_match(const struct group *g, uint8_t tag)
{
    tags_vector tags;
    memcpy(&tags, g, sizeof tags);
    tags_vector same = (tags_vector)(tags == (char)tag);
    return (uint32_t)__builtin_ia32_pmovmskb128(same) & GROUP_MASK;
}
#elif defined(__aarch64__) && !defined(SYNA_PORTABLE)
#include <arm_neon.h>
static inline uint32_t group_match(const struct group *g, uint8_t tag)
{
    static const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 0, 0, 0, 0};
    uint8x16_t same = vceqq_u8(vld1q_u8(g->tags), vdupq_n_u8(tag));
    uint8x16_t one = vandq_u8(same, vld1q_u8(bits));
    return (uint32_t)vaddv_u8(vget_low_u8(one)) | (uint32_t)vaddv_u8(vget_high_u8(one)) << 8;
}
#else
static inline uint32_t group_match(const struct group *g, uint8_t tag)
{
    return group_match_portable(g, tag);
}
#endif

/* ---- entries */
#define SEGMENT_BITS 16u
#define SEGMENT_ENTRIES (1u << SEGMENT_BITS)
#define ENTRIES_MAX 0xfffffffeu
#define OFFSET_BITS 44u
#define OFFSET_MAX ((UINT64_C(1) << OFFSET_BITS) - 1)
#define HISTORY_BITS 28u
#define HISTORY_MAX ((1u << HISTORY_BITS) - 1)

struct packed_entry {
    uint64_t place; /* offset:44, flags:4, key_len:16 */
    uint32_t hash;
    uint32_t chain; /* history:28, type:4 */
    uint64_t payload;
};
static_assert(sizeof(struct packed_entry) == 24, "24 bytes a key");

static inline uint64_t packed_offset(const struct packed_entry *p) { return p->place & OFFSET_MAX; }
static inline uint8_t packed_flags(const struct packed_entry *p)
{
    return (uint8_t)(p->place >> OFFSET_BITS & 0xf);
}
static inline uint16_t packed_key_len(const struct packed_entry *p)
{
    return (uint16_t)(p->place >> 48);
}
static inline uint32_t packed_history(const struct packed_entry *p) { return p->chain & HISTORY_MAX; }

/* ---- histories. Encoded, a record is varint(distance to the record before << 1 | is a block), for
 * a block followed by varint(values). Every RESTART_EVERY records a restart says where to go on.
 *
 * In memory, up to SMALL_BYTES lie in the struct. Longer ones have one buffer: the bytes grow from
 * its beginning, the restarts (16 bytes each) from its end. */
#define RESTART_EVERY 64u
#define RESTART_BYTES 16u
#define RECORD_BYTES_MAX 9u /* 45 bits and a count up to 1,024 */
#define SMALL_BYTES 24u     /* at least two records of any size */
#define BIG 0xffu
#define HISTORY_SEGMENT_BITS 13u
#define HISTORY_SEGMENT (1u << HISTORY_SEGMENT_BITS)

struct history {
    uint64_t last; /* offset of the newest record */
    uint64_t head; /* records << 8 | bytes in `small`, or BIG */
    union {
        uint8_t small[SMALL_BYTES];
        struct {
            uint8_t *bytes;
            uint64_t len, cap;
        } big;
    };
};
static_assert(sizeof(struct history) == 40, "40 bytes and what is longer than 24");

/* A history in a checkpoint: bytes [at, at+len) of the section of records; its restarts lie behind
 * them at the next multiple of 8. */
struct saved_history {
    uint64_t last, records, at, len;
};

/* A history to read from, wherever it is. Restart k (from 1) is at restarts + (k-1) * step. */
struct history_view {
    const uint8_t *bytes, *end;
    const uint8_t *restarts;
    ptrdiff_t step;
    uint64_t records, last;
};

/* A record that a history had no memory for. It is put into its place by the next keydir_reserve;
 * until then readers find it here. */
struct spilled {
    uint64_t offset;
    uint32_t id;
    uint32_t count; /* values of a block, 0 = not a block */
};

struct column_cache {
    uint64_t *bits;
    size_t count, cap;
    uint64_t next; /* first record that has not been read */
};

/* Decoded values of one history, by type. Big blocks at its start (the lead) are left out until the
 * history is read a second time: see history.c. Lives until history_drop_caches. */
struct value_cache {
    pthread_rwlock_t lock; /* shared to copy out, exclusive to extend */
    uint64_t lead_values;  /* values that a read found in the lead; 0 = not read yet. Atomic */
    bool whole;            /* the lead is in the columns, too. Atomic */
    struct column_cache floats, ints;
};

/* The lead of a history is kept while all caches together are below this. */
#define KEEP_MAX (UINT64_C(256) << 20)

/* ---- order */
struct order_run {
    uint64_t *prefixes; /* first 8 bytes of the keys, big-endian, zeros behind shorter keys */
    uint32_t *ids;
    uint32_t count, cap;
};

struct keydir {
    const struct kvlog *log;
    uint64_t seed;

    struct table table, old; /* old.groups NULL: no move in progress */
    uint64_t moved;          /* groups of old whose entries are in table, too */

    struct packed_entry **segments;
    uint32_t segment_count, segment_cap;
    uint32_t count;

    /* Histories 1 .. mapped_histories are in the checkpoint, later ones in segments. */
    struct history **history_segments;
    uint32_t history_segment_count, history_segment_cap;
    uint32_t history_count; /* of both kinds */
    struct spilled *spilled;
    size_t spilled_count, spilled_cap;
    uint64_t history_heap; /* bytes in buffers of histories */

    /* The checkpoint this was opened from; NULL when there is none. */
    struct snapshot *snapshot;
    uint32_t mapped_entries;
    uint32_t mapped_histories;
    const struct saved_history *saved_histories;
    const uint8_t *saved_records;
    uint64_t saved_records_len;

    struct order_run main, late;
    uint32_t ordered; /* entries below this number are in one of the runs */
    uint64_t order_version;

    pthread_mutex_t cache_mutex; /* the array and the pointers in it */
    struct value_cache **caches; /* by history - 1 */
    uint32_t cache_cap;
    uint64_t cache_bytes; /* atomic */
    uint64_t keep_max;    /* KEEP_MAX; tests make it small */

    uint64_t deleted, expiring, records, live_bytes;
};

#ifdef SYNA_TESTING
extern uint64_t keydir_test_hash_mask; /* fewer bits = collisions; all set by default */
#endif

static inline uint64_t keydir_hash(const struct keydir *dir, const void *key, size_t key_len)
{
    uint64_t hash = hash_bytes(dir->seed, key, key_len);
#ifdef SYNA_TESTING
    hash &= keydir_test_hash_mask;
#endif
    return hash;
}

static inline struct packed_entry *entry_at(const struct keydir *dir, uint32_t id)
{
    return &dir->segments[id >> SEGMENT_BITS][id & (SEGMENT_ENTRIES - 1)];
}

/* Entry `id`, checked where it lies in the checkpoint; NULL = damaged or no such entry. */
static inline struct packed_entry *entry_get(const struct keydir *dir, uint32_t id)
{
    if (UNLIKELY(id >= dir->count))
        return NULL;
    struct packed_entry *p = entry_at(dir, id);
    if (UNLIKELY(id < dir->mapped_entries) && UNLIKELY(!snapshot_touch(dir->snapshot, p, sizeof *p)))
        return NULL;
    return p;
}

/* The key of an entry in the log, NULL when it cannot be there. The bytes are not checked. */
static inline const uint8_t *entry_key(const struct keydir *dir, const struct packed_entry *p)
{
    uint64_t offset = packed_offset(p);
    uint64_t end = __atomic_load_n(&dir->log->end, __ATOMIC_ACQUIRE);
    if (UNLIKELY(offset < dir->log->start || offset >= end ||
                 end - offset < FRAME_HEADER_BYTES + (uint64_t)packed_key_len(p)))
        return NULL;
    return kvlog_key(dir->log, offset);
}

/* ---- keydir.c */
/* What a frame means for its key. */
struct frame_news {
    uint64_t payload; /* as in struct entry */
    uint32_t block;   /* values in a column block, 0 = not a block */
    uint8_t type, flags;
    bool delta; /* payload is to be added to the float before it (files of the ancestor) */
};
syna_rc keydir_inspect(const struct kvlog *log, const struct frame *f, struct frame_news *out);
/* The bytes of an entry's key are not those of the key whose hash it has: SYNA_ERR_KEY_NOT_FOUND
 * when they are another key of the same hash, otherwise what is damaged. */
syna_rc keydir_judge(const struct keydir *dir, const struct packed_entry *p);

/* ---- keydir_table.c */
bool table_new(struct table *t, uint64_t groups); /* false = no memory */
void table_free(struct table *t);
/* *id of the entry with this key; otherwise as keydir_find. */
syna_rc table_find(struct keydir *dir, uint64_t hash, const void *key, size_t key_len, uint32_t *id);
/* Put entry `id`, which is not in the table, into it. The table must not be full. Also does one
 * step of a move in progress. KEYDIR_DAMAGED: nothing was placed. */
syna_rc table_add(struct keydir *dir, uint64_t hash, uint32_t id);
/* Room for `entries` entries altogether. */
syna_rc table_reserve(struct keydir *dir, uint64_t entries);

/* ---- keydir_history.c */
/* Add the record at `offset` to the history of entry `p`, creating it when needed from the entry's
 * only record. count: values of a block, 0 = not a block. On failure the entry's records are what
 * they were. */
syna_rc histories_add(struct keydir *dir, uint32_t id, struct packed_entry *p, uint64_t offset,
                      uint32_t count);
/* The first record of a new entry is a block. */
syna_rc histories_begin_block(struct keydir *dir, struct packed_entry *p, uint64_t offset,
                              uint32_t count);
/* Room for this many more records; first of all for those that had to be spilled. */
syna_rc histories_reserve(struct keydir *dir, size_t records);
void histories_free(struct keydir *dir);
/* false = damaged. `history` is not 0. */
bool history_get_view(const struct keydir *dir, uint32_t history, struct history_view *out);
/* Spilled records of an entry: how many, and the one with this number. */
uint64_t histories_spilled(const struct keydir *dir, uint32_t id);
const struct spilled *histories_spilled_at(const struct keydir *dir, uint32_t id, uint64_t index);

/* ---- keydir_sort.c */
/* The first 8 bytes of a key as a number that sorts like them; shorter keys are padded with zeros. */
uint64_t key_prefix(const uint8_t *key, size_t key_len);
/* Bytewise comparison of two keys: < 0, 0 or > 0. */
int key_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len);
/* Fill `run` (empty) with entries [from, to) in the order of their keys, each of which is checked
 * against its hash. */
syna_rc order_sort(const struct keydir *dir, uint32_t from, uint32_t to, struct order_run *run);
void order_run_free(struct order_run *run);

/* ---- history.c */
void caches_free(struct keydir *dir);
/* The history of an entry has moved from one handle to another. */
void caches_move(struct keydir *dir, uint32_t from, uint32_t to);
/* The last float of an entry's history, for the deltas in files of the ancestor. */
syna_rc history_last_float(struct keydir *dir, const struct entry *e, bool *found, uint64_t *bits);

/* Ask for huge pages under the part of a large block that can have them: a random look-up then finds
 * its address translation cached. */
static inline void prefer_huge_pages(void *block, size_t bytes)
{
    const uintptr_t huge = (uintptr_t)2 << 20;
    uintptr_t from = ((uintptr_t)block + huge - 1) & ~(huge - 1);
    uintptr_t to = ((uintptr_t)block + bytes) & ~(huge - 1);
    if (from < to)
        syna_vfs->advise((void *)from, to - from, VFS_HUGE);
}

#endif
