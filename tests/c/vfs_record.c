/* vfs_record.c - the recording table and its mistakes. A call is recorded after the table below has
 * done it; one that failed there had no effect. A data sync covers what was recorded before it
 * began
 * (`upto`), so that a trace of several threads does not claim more than the disk did. */
#include "check.h"

#include "store/frame.h"
#include "vfs_record.h"

static struct {
    const struct vfs *below;
    enum record_mistake mistake;
    struct trace *trace;
    uint64_t cutting;         /* file whose tail has been zeroed and not synced since; 0 = none */
    uint64_t alias, alias_of; /* MISTAKE_IN_PLACE: the file `alias` is really written in this one */
} rec;
static pthread_mutex_t rec_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *const mistake_names[MISTAKES] = {
    [MISTAKE_NONE] = "none",
    [MISTAKE_NO_SYNC_DIR] = "no-sync-dir",
    [MISTAKE_NO_SYNC_TEMP] = "no-sync-temp",
    [MISTAKE_NO_SYNC] = "no-sync",
    [MISTAKE_IN_PLACE] = "in-place",
    [MISTAKE_NO_SYNC_CUT] = "no-sync-cut",
    [MISTAKE_CUT_HEAD] = "cut-head",
    [MISTAKE_ALWAYS_COMMIT] = "always-commit",
    [MISTAKE_ALWAYS_DURABLE] = "always-durable",
    [MISTAKE_NEVER_DURABLE] = "never-durable",
    [MISTAKE_RENAME_FIRST] = "rename-first",
};

const char *record_mistake_name(enum record_mistake mistake)
{
    return mistake_names[mistake];
}

enum record_mistake record_mistake_from(const char *name)
{
    int i = 0;
    while (i < MISTAKES && strcmp(mistake_names[i], name) != 0)
        i++;
    return (enum record_mistake)i;
}

/* ---------------------------------------------------------------- the trace */

static void *copy_of(const void *bytes, size_t len)
{
    void *p = malloc(len ? len : 1);
    if (!p)
        abort();
    memcpy(p, bytes, len);
    return p;
}

static char *text_of(const char *s)
{
    return s ? copy_of(s, strlen(s) + 1) : NULL;
}

/* rec_lock held. */
static struct effect *add(enum effect_kind kind, uint64_t file)
{
    struct trace *t = rec.trace;
    if (t->count == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->effects = realloc(t->effects, t->cap * sizeof *t->effects);
        if (!t->effects)
            abort();
    }
    struct effect *e = &t->effects[t->count++];
    memset(e, 0, sizeof *e);
    e->kind = kind;
    e->file = file;
    return e;
}

static void add_bytes(enum effect_kind kind, uint64_t file, uint64_t offset, const void *bytes,
                      size_t len)
{
    struct effect *e = add(kind, file);
    e->offset = offset;
    e->bytes = copy_of(bytes, len);
    e->len = len;
}

static void add_names(enum effect_kind kind, uint64_t file, const char *path, const char *to)
{
    struct effect *e = add(kind, file);
    e->path = text_of(path);
    e->to = text_of(to);
}

static size_t trace_mark_now(void)
{
    pthread_mutex_lock(&rec_lock);
    size_t count = rec.trace ? rec.trace->count : 0;
    pthread_mutex_unlock(&rec_lock);
    return count;
}

void record_begin(const struct vfs *below, enum record_mistake mistake)
{
    memset(&rec, 0, sizeof rec);
    rec.below = below;
    rec.mistake = mistake;
    rec.trace = calloc(1, sizeof *rec.trace);
    if (!rec.trace)
        abort();
}

struct trace *record_end(void)
{
    struct trace *t = rec.trace;
    rec.trace = NULL;
    return t;
}

const struct trace *record_trace(void)
{
    return rec.trace;
}

void record_mark(int32_t mark, uint64_t value)
{
    pthread_mutex_lock(&rec_lock);
    if (rec.trace) {
        struct effect *e = add(EFFECT_MARK, 0);
        e->mark = mark;
        e->value = value;
    }
    pthread_mutex_unlock(&rec_lock);
}

void trace_free(struct trace *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->count; i++) {
        free(t->effects[i].bytes);
        free(t->effects[i].path);
        free(t->effects[i].to);
    }
    free(t->effects);
    free(t);
}

void effect_print(const struct effect *e, char *out, size_t cap)
{
    unsigned long long file = e->file, offset = e->offset, upto = e->upto, value = e->value;
    switch (e->kind) {
    case EFFECT_CREATE:
        snprintf(out, cap, "create %s as file %llu", e->path, file);
        break;
    case EFFECT_WRITE:
    case EFFECT_STORE:
        snprintf(out, cap, "%s file %llu [%llu, +%zu)", e->kind == EFFECT_WRITE ? "write" : "store",
                 file, offset, e->len);
        break;
    case EFFECT_SIZE:
        snprintf(out, cap, "size of file %llu = %llu", file, offset);
        break;
    case EFFECT_ALLOCATE:
        snprintf(out, cap, "allocate file %llu to %llu", file, offset);
        break;
    case EFFECT_SYNC:
        snprintf(out, cap, "sync file %llu (before %llu)", file, upto);
        break;
    case EFFECT_SYNC_DIR:
        snprintf(out, cap, "sync directory (before %llu)", upto);
        break;
    case EFFECT_RENAME:
    case EFFECT_LINK:
        snprintf(out, cap, "%s %s -> %s (file %llu)", e->kind == EFFECT_RENAME ? "rename" : "link",
                 e->path, e->to, file);
        break;
    case EFFECT_REMOVE:
        snprintf(out, cap, "remove %s", e->path);
        break;
    case EFFECT_MARK:
        snprintf(out, cap, "mark %d = %llu", e->mark, value);
        break;
    }
}

/* ---------------------------------------------------------------- calls on open files */

static uint64_t really(uint64_t file)
{
    return file && file == rec.alias ? rec.alias_of : file;
}

static uint64_t file_of(vfs_fd fd)
{
    struct vfs_stat st;
    return rec.below->stat_fd(fd, &st) == 0 ? really(st.inode) : 0;
}

static uint64_t file_named(const char *path)
{
    struct vfs_stat st;
    return rec.below->stat_path(path, &st) == 0 ? really(st.inode) : 0;
}

static vfs_fd rec_open(const char *path, int flags)
{
    uint64_t before = flags & VFS_CREATE ? file_named(path) : 1;
    vfs_fd fd = rec.below->open_file(path, flags);
    if (fd < 0 || before)
        return fd;
    pthread_mutex_lock(&rec_lock);
    if (rec.trace)
        add_names(EFFECT_CREATE, file_of(fd), path, NULL);
    pthread_mutex_unlock(&rec_lock);
    return fd;
}

static int rec_close(vfs_fd fd)
{
    return rec.below->close_file(fd);
}

static int64_t rec_read(vfs_fd fd, void *buf, size_t len, uint64_t offset)
{
    return rec.below->read_at(fd, buf, len, offset);
}

static bool all_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i])
            return false;
    return true;
}

/* Is this the zeroing of a log's tail: zeros over bytes that are not? */
static bool is_cut(vfs_fd fd, const void *bytes, size_t len, uint64_t offset)
{
    uint8_t old[256];
    int64_t got = rec.below->read_at(fd, old, MIN(sizeof old, len), offset);
    return got > 0 && all_zero(bytes, len) && !all_zero(old, (size_t)got);
}

/* Write the frames in `bytes` again with other flags and checksums, as a core with the mistake
 * would have. Anything that is not a run of whole frames is left alone. */
static void spoil_frames(vfs_fd fd, uint64_t offset, uint8_t *bytes, size_t len)
{
    uint8_t head[HEADER_BYTES];
    struct header h;
    struct frame f;
    if (rec.below->read_at(fd, head, sizeof head, 0) != (int64_t)sizeof head ||
        header_decode(head, sizeof head, KIND_LOG, "", &h) != SYNA_SUCCESS)
        return;
    uint32_t seed = frame_seed(h.uuid);
    for (size_t at = 0; at < len; at += (size_t)f.len) {
        if (frame_parse(bytes + at, len - at, offset + at, seed, &f) != FRAME_GOOD)
            return;
        uint8_t flags = f.flags;
        if (rec.mistake == MISTAKE_ALWAYS_COMMIT)
            flags |= FRAME_COMMIT;
        else if (rec.mistake == MISTAKE_ALWAYS_DURABLE)
            flags |= FRAME_PRIOR_DURABLE;
        else
            flags &= (uint8_t)~FRAME_PRIOR_DURABLE;
        bytes[at + FRAME_AT_FLAGS] = flags;
        frame_seal(bytes + at, offset + at, f.stamp, 0, seed);
    }
}

/* Bytes that reached the file by a write or a store. rec_lock held. */
static void record_bytes(enum effect_kind kind, vfs_fd fd, uint64_t offset, const void *bytes,
                         size_t len)
{
    if (!rec.trace)
        return;
    add_bytes(kind, file_of(fd), offset, bytes, len);
    if (rec.mistake >= MISTAKE_ALWAYS_COMMIT && rec.mistake <= MISTAKE_NEVER_DURABLE)
        spoil_frames(fd, offset, rec.trace->effects[rec.trace->count - 1].bytes, len);
}

static int64_t rec_write(vfs_fd fd, const void *buf, size_t len, uint64_t offset)
{
    bool cut = is_cut(fd, buf, len, offset);
    size_t wanted = len;
    if (cut && rec.mistake == MISTAKE_CUT_HEAD && len > 16)
        wanted = 16;
    int64_t done = rec.below->write_at(fd, buf, wanted, offset);
    if (done <= 0)
        return done;
    pthread_mutex_lock(&rec_lock);
    record_bytes(EFFECT_WRITE, fd, offset, buf, (size_t)done);
    if (cut)
        rec.cutting = file_of(fd);
    pthread_mutex_unlock(&rec_lock);
    return wanted < len && (size_t)done == wanted ? (int64_t)len : done;
}

/* Always a short write: the caller has to come back for each part. */
static int64_t rec_write_parts(vfs_fd fd, const struct vfs_part *parts, size_t count, uint64_t offset)
{
    return count == 0 ? 0 : rec_write(fd, parts->bytes, parts->len, offset);
}

static int rec_set_size(vfs_fd fd, uint64_t size)
{
    int rc = rec.below->set_size(fd, size);
    pthread_mutex_lock(&rec_lock);
    if (rc == 0 && rec.trace)
        add(EFFECT_SIZE, file_of(fd))->offset = size;
    pthread_mutex_unlock(&rec_lock);
    return rc;
}

static int rec_allocate(vfs_fd fd, uint64_t offset, uint64_t len)
{
    int rc = rec.below->allocate(fd, offset, len);
    pthread_mutex_lock(&rec_lock);
    if (rc == 0 && rec.trace)
        add(EFFECT_ALLOCATE, file_of(fd))->offset = offset + len;
    pthread_mutex_unlock(&rec_lock);
    return rc;
}

static const char *name_of(uint64_t file)
{
    const char *name = "";
    for (size_t i = 0; i < rec.trace->count; i++) {
        const struct effect *e = &rec.trace->effects[i];
        if (e->file != file)
            continue;
        if (e->kind == EFFECT_CREATE)
            name = e->path;
        else if (e->kind == EFFECT_RENAME || e->kind == EFFECT_LINK)
            name = e->to;
    }
    return name;
}

/* Is this sync the one that the mistake leaves out? rec_lock held. */
static bool skip_sync(uint64_t file)
{
    bool cut = rec.cutting == file;
    if (cut)
        rec.cutting = 0;
    switch (rec.mistake) {
    case MISTAKE_NO_SYNC:
        return strstr(name_of(file), ".tmp-") == NULL;
    case MISTAKE_NO_SYNC_TEMP:
        return strstr(name_of(file), ".tmp-") != NULL;
    case MISTAKE_NO_SYNC_CUT:
        return cut;
    default:
        return false;
    }
}

static int rec_sync_data(vfs_fd fd)
{
    size_t upto = trace_mark_now();
    int rc = rec.below->sync_data(fd);
    pthread_mutex_lock(&rec_lock);
    uint64_t file = file_of(fd);
    if (rc == 0 && rec.trace && !skip_sync(file))
        add(EFFECT_SYNC, file)->upto = upto;
    pthread_mutex_unlock(&rec_lock);
    return rc;
}

/* ---------------------------------------------------------------- calls on names */

static int rec_sync_dir(const char *path)
{
    size_t upto = trace_mark_now();
    int rc = rec.below->sync_dir(path);
    pthread_mutex_lock(&rec_lock);
    if (rc == 0 && rec.trace && rec.mistake != MISTAKE_NO_SYNC_DIR)
        add(EFFECT_SYNC_DIR, 0)->upto = upto;
    pthread_mutex_unlock(&rec_lock);
    return rc;
}

/* What "open the old file with O_TRUNC and write it again, then sync" leaves in the trace. */
static void add_rewrite(uint64_t old, const char *from)
{
    struct vfs_stat st;
    vfs_fd fd = rec.below->open_file(from, VFS_READ);
    if (fd < 0 || rec.below->stat_fd(fd, &st) < 0)
        abort();
    uint8_t *bytes = malloc(st.size + 1);
    if (!bytes || rec.below->read_at(fd, bytes, st.size, 0) != (int64_t)st.size)
        abort();
    rec.below->close_file(fd);
    add(EFFECT_SIZE, old)->offset = 0;
    add_bytes(EFFECT_WRITE, old, 0, bytes, st.size);
    struct effect *sync = add(EFFECT_SYNC, old);
    sync->upto = rec.trace->count - 1;
    free(bytes);
}

/* Put the rename in front of the first write to its file, synced: what a careless order leaves. */
static void add_rename_early(uint64_t file, const char *from, const char *to)
{
    struct trace *t = rec.trace;
    size_t at = 0;
    while (at < t->count && !(t->effects[at].kind == EFFECT_WRITE && t->effects[at].file == file))
        at++;
    add_names(EFFECT_RENAME, file, from, to);
    add(EFFECT_SYNC_DIR, 0)->upto = at + 1;
    struct effect moved[2] = {t->effects[t->count - 2], t->effects[t->count - 1]};
    memmove(&t->effects[at + 2], &t->effects[at], (t->count - 2 - at) * sizeof moved[0]);
    memcpy(&t->effects[at], moved, sizeof moved);
    for (size_t i = at + 2; i < t->count; i++)
        if (t->effects[i].upto > at)
            t->effects[i].upto += 2;
}

static int rec_replace(const char *from, const char *to)
{
    pthread_mutex_lock(&rec_lock);
    uint64_t old = file_named(to), file = file_named(from);
    if (rec.trace && old && file && rec.mistake == MISTAKE_IN_PLACE) {
        add_rewrite(old, from);
        rec.alias = file;
        rec.alias_of = old;
    } else if (rec.trace && old && file && rec.mistake == MISTAKE_RENAME_FIRST) {
        add_rename_early(file, from, to);
    } else {
        old = 0;
    }
    pthread_mutex_unlock(&rec_lock);
    int rc = rec.below->replace_name(from, to);
    pthread_mutex_lock(&rec_lock);
    if (rc == 0 && rec.trace && !(old && file))
        add_names(EFFECT_RENAME, file, from, to);
    pthread_mutex_unlock(&rec_lock);
    return rc;
}

static int rec_give(const char *from, const char *to)
{
    uint64_t file = file_named(from);
    int rc = rec.below->give_name(from, to);
    pthread_mutex_lock(&rec_lock);
    if (rc == 0 && rec.trace) {
        add_names(EFFECT_LINK, file, from, to);
        if (!file_named(from))
            add_names(EFFECT_REMOVE, file, from, NULL);
    }
    pthread_mutex_unlock(&rec_lock);
    return rc;
}

static int rec_remove(const char *path)
{
    uint64_t file = file_named(path);
    int rc = rec.below->remove_name(path);
    pthread_mutex_lock(&rec_lock);
    if (rc == 0 && rec.trace)
        add_names(EFFECT_REMOVE, file, path, NULL);
    pthread_mutex_unlock(&rec_lock);
    return rc;
}

/* ---------------------------------------------------------------- stores into maps */

static void rec_note_store(vfs_fd fd, uint64_t offset, const void *bytes, size_t len)
{
    rec.below->note_store(fd, offset, bytes, len);
    pthread_mutex_lock(&rec_lock);
    record_bytes(EFFECT_STORE, fd, offset, bytes, len);
    pthread_mutex_unlock(&rec_lock);
}

/* ---------------------------------------------------------------- the rest is passed on */

static int rec_stat_fd(vfs_fd fd, struct vfs_stat *out)
{
    return rec.below->stat_fd(fd, out);
}
static int rec_stat_path(const char *path, struct vfs_stat *out)
{
    return rec.below->stat_path(path, out);
}
static int rec_copy_access(const char *path, vfs_fd to)
{
    return rec.below->copy_access(path, to);
}
static vfs_fd rec_open_dir(const char *path)
{
    return rec.below->open_dir(path);
}
static int rec_stat_in(vfs_fd dir, const char *path, struct vfs_stat *out)
{
    return rec.below->stat_in(dir, path, out);
}
static int rec_take_lock(vfs_fd fd)
{
    return rec.below->lock(fd);
}
static int rec_unlock(vfs_fd fd)
{
    return rec.below->unlock(fd);
}
static int rec_claim(vfs_fd fd)
{
    return rec.below->claim(fd);
}
static int rec_unclaim(vfs_fd fd)
{
    return rec.below->unclaim(fd);
}
static void *rec_reserve(size_t len)
{
    return rec.below->reserve(len);
}
static int rec_map(void *at, vfs_fd fd, uint64_t offset, size_t len, bool writable, bool shared)
{
    return rec.below->map(at, fd, offset, len, writable, shared);
}
static int rec_unmap(void *at, size_t len)
{
    return rec.below->unmap(at, len);
}
static void rec_advise(void *at, size_t len, enum vfs_advice advice)
{
    rec.below->advise(at, len, advice);
}
static int rec_list(const char *path, bool (*visit)(void *context, const char *name), void *context)
{
    return rec.below->list(path, visit, context);
}
static int rec_realpath(const char *path, char *out, size_t cap)
{
    return rec.below->realpath(path, out, cap);
}
static uint64_t rec_now(void)
{
    return rec.below->now_us();
}

static uint64_t rec_ticks(void)
{
    return rec.below->ticks_us();
}
static int rec_random(void *out, size_t len)
{
    return rec.below->random(out, len);
}
static int rec_pid(void)
{
    return rec.below->pid();
}
static bool rec_process_alive(int pid)
{
    return rec.below->process_alive(pid);
}
static void rec_pause(uint32_t us)
{
    rec.below->pause_us(us);
}

const struct vfs vfs_record = {
    .name = "record",
    .open_file = rec_open,
    .close_file = rec_close,
    .read_at = rec_read,
    .write_at = rec_write,
    .write_parts = rec_write_parts,
    .set_size = rec_set_size,
    .allocate = rec_allocate,
    .sync_data = rec_sync_data,
    .sync_dir = rec_sync_dir,
    .replace_name = rec_replace,
    .give_name = rec_give,
    .remove_name = rec_remove,
    .stat_fd = rec_stat_fd,
    .stat_path = rec_stat_path,
    .copy_access = rec_copy_access,
    .open_dir = rec_open_dir,
    .stat_in = rec_stat_in,
    .lock = rec_take_lock,
    .unlock = rec_unlock,
    .claim = rec_claim,
    .unclaim = rec_unclaim,
    .reserve = rec_reserve,
    .map = rec_map,
    .unmap = rec_unmap,
    .advise = rec_advise,
    .note_store = rec_note_store,
    .list = rec_list,
    .realpath = rec_realpath,
    .now_us = rec_now,
    .ticks_us = rec_ticks,
    .random = rec_random,
    .pid = rec_pid,
    .process_alive = rec_process_alive,
    .pause_us = rec_pause,
};
