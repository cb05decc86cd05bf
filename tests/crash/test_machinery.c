/* Proof that the crash-state machinery can fail: a toy log passes every state, and each classic
 * mistake (RELIABILITY 2) made in it is caught. The toy: u32 length, u32 checksum, payload; a new
 * file is made by temp, sync, link, directory sync; a torn tail is zeroed whole and synced. */
#include "check.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "crash_states.h"

#define TOY MEM_DIR "/toy"
#define TOY_TEMP MEM_DIR "/toy.tmp-1-1"
#define TOY_SIZE 2048u

enum toy_mistake { TOY_RIGHT, TOY_NO_CHECKSUM };

struct toy {
    vfs_fd fd;
    uint64_t end, count;
    uint32_t sum; /* over the payloads, in order: equal only for equal histories */
    enum toy_mistake mistake;
};

static void put_all(vfs_fd fd, uint64_t at, const void *bytes, size_t len)
{
    CHECK_EQ(syna_vfs->write_at(fd, bytes, len, at), (int64_t)len);
}

static void toy_create(void)
{
    static const uint8_t zeros[TOY_SIZE];
    struct vfs_stat st;
    if (syna_vfs->stat_path(TOY, &st) == 0)
        return;
    syna_vfs->remove_name(TOY_TEMP);
    vfs_fd fd = syna_vfs->open_file(TOY_TEMP, VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE);
    CHECK(fd >= 0);
    put_all(fd, 0, zeros, sizeof zeros);
    syna_vfs->sync_data(fd);
    CHECK_EQ(syna_vfs->give_name(TOY_TEMP, TOY), 0);
    syna_vfs->remove_name(TOY_TEMP);
    syna_vfs->sync_dir(TOY);
    syna_vfs->close_file(fd);
}

static uint32_t payload_of(uint64_t n, uint8_t out[40])
{
    uint32_t len = 8 + (uint32_t)(n * 7 % 32);
    for (uint32_t i = 0; i < len; i++)
        out[i] = (uint8_t)(n * 31 + i + 1);
    return len;
}

/* Read the frame at toy->end; false: there is none. */
static bool toy_next(struct toy *toy, const uint8_t *bytes)
{
    uint64_t at = toy->end;
    if (at + 8 > TOY_SIZE)
        return false;
    uint32_t len = load_u32(bytes + at), sum = load_u32(bytes + at + 4);
    if (len == 0 || len > 40 || at + 8 + len > TOY_SIZE)
        return false;
    if (toy->mistake == TOY_RIGHT && crc32c((uint32_t)at, bytes + at + 8, len) != sum)
        return false;
    toy->sum = crc32c(toy->sum, bytes + at + 8, len);
    toy->end += 8 + len;
    toy->count++;
    return true;
}

static void toy_open(struct toy *toy, enum toy_mistake mistake)
{
    uint8_t bytes[TOY_SIZE] = {0};
    static const uint8_t zeros[TOY_SIZE];
    toy_create();
    *toy = (struct toy){.mistake = mistake};
    toy->fd = syna_vfs->open_file(TOY, VFS_WRITE);
    CHECK(toy->fd >= 0);
    syna_vfs->read_at(toy->fd, bytes, sizeof bytes, 0);
    while (toy_next(toy, bytes))
        continue;
    if (memcmp(bytes + toy->end, zeros, TOY_SIZE - toy->end) != 0) {
        put_all(toy->fd, toy->end, zeros, (size_t)(TOY_SIZE - toy->end));
        syna_vfs->sync_data(toy->fd);
    }
}

static void toy_put(struct toy *toy, uint64_t n, bool sync)
{
    uint8_t frame[48];
    uint32_t len = payload_of(n, frame + 8);
    store_u32(frame, len);
    store_u32(frame + 4, crc32c((uint32_t)toy->end, frame + 8, len));
    put_all(toy->fd, toy->end, frame, 8 + len);
    if (sync)
        syna_vfs->sync_data(toy->fd);
    toy->sum = crc32c(toy->sum, frame + 8, len);
    toy->end += 8 + len;
    toy->count++;
}

/* Write the log anew and put it in the place of the old one. */
static void toy_rewrite(struct toy *toy)
{
    uint8_t bytes[TOY_SIZE] = {0};
    syna_vfs->read_at(toy->fd, bytes, sizeof bytes, 0);
    syna_vfs->remove_name(TOY_TEMP);
    vfs_fd fd = syna_vfs->open_file(TOY_TEMP, VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE);
    put_all(fd, 0, bytes, sizeof bytes);
    syna_vfs->sync_data(fd);
    CHECK_EQ(syna_vfs->replace_name(TOY_TEMP, TOY), 0);
    syna_vfs->sync_dir(TOY);
    syna_vfs->close_file(toy->fd);
    toy->fd = fd;
}

/* ---------------------------------------------------------------- the workload and its check */

enum { PUTS = 6, MORE = 3, AGAIN = 8 };

struct toy_world {
    enum toy_mistake mistake;
    enum record_mistake record;
    uint32_t sums[PUTS + MORE + 1]; /* after n puts */
    uint64_t seed;
    uint64_t base; /* second crash: records that the first recovery found */
    uint64_t depth, second_states;
    bool found;
};

static void toy_sums(struct toy_world *w)
{
    uint8_t payload[40];
    for (uint64_t n = 0; n < PUTS + MORE; n++)
        w->sums[n + 1] = crc32c(w->sums[n], payload, payload_of(n, payload));
}

static bool twice(struct toy_world *w, const struct mem_fs *image);

static bool toy_check(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                      size_t cap)
{
    struct toy_world *w = context;
    struct toy toy;
    struct mem_fs *before = NULL;
    if (w->depth == 0 && at->number % AGAIN == 3) {
        before = mem_fs_new(0);
        mem_fs_copy(before, image);
    }
    mem_fs_use(image);
    syna_test_set_vfs(&vfs_mem);
    toy_open(&toy, w->mistake);
    syna_vfs->close_file(toy.fd);
    uint64_t low = MAX(w->base, at->marks[MARK_DURABLE]);
    bool good = toy.count >= low && toy.count <= MAX(low, at->marks[MARK_BEGUN]) &&
                toy.sum == w->sums[toy.count];
    if (!good)
        snprintf(why, cap, "%llu records, expected %llu to %llu, sum %s",
                 (unsigned long long)toy.count, (unsigned long long)at->marks[MARK_DURABLE],
                 (unsigned long long)at->marks[MARK_BEGUN],
                 toy.count <= PUTS + MORE && toy.sum == w->sums[toy.count] ? "right" : "wrong");
    if (good && before && !twice(w, before)) {
        snprintf(why, cap, "a second crash lost or changed a record");
        good = false;
    }
    mem_fs_free(before);
    return good;
}

static struct trace *toy_run(struct toy_world *w, struct mem_fs *fs, uint64_t puts)
{
    struct toy toy;
    mem_fs_use(fs);
    syna_test_set_vfs(&vfs_record);
    record_begin(&vfs_mem, w->record);
    toy_open(&toy, w->mistake);
    w->base = toy.count;
    for (uint64_t i = 0; i < puts; i++) {
        uint64_t n = toy.count;
        record_mark(MARK_BEGUN, n + 1);
        bool sync =
            n % 2 == 1 || i + 1 == puts; /* two puts to a sync: a tail can hold two frames */
        toy_put(&toy, n, sync);
        if (sync)
            record_mark(MARK_DURABLE, n + 1);
        if (i == puts / 2)
            toy_rewrite(&toy);
    }
    syna_vfs->close_file(toy.fd);
    syna_test_set_vfs(NULL);
    return record_end();
}

static bool toy_states(struct toy_world *w, const struct mem_fs *start, uint64_t puts,
                       uint64_t budget, struct crash_result *out)
{
    struct mem_fs *fs = mem_fs_new(w->seed);
    if (start)
        mem_fs_copy(fs, start);
    struct trace *trace = toy_run(w, fs, puts);
    struct crash_plan plan = {trace, start, w->seed, budget, toy_check, w};
    crash_enumerate(&plan, out);
    syna_test_set_vfs(NULL);
    trace_free(trace);
    mem_fs_free(fs);
    return !out->failed;
}

/* Crash again during and after the recovery from `image`. */
static bool twice(struct toy_world *w, const struct mem_fs *image)
{
    struct toy_world inner = *w;
    struct crash_result result;
    inner.depth = 1;
    bool good = toy_states(&inner, image, MORE, 200, &result);
    w->second_states += result.states;
    return good;
}

static bool toy_survives(enum toy_mistake mistake, enum record_mistake record, uint64_t *states)
{
    struct toy_world w = {.mistake = mistake, .record = record, .seed = check_random()};
    struct crash_result result;
    toy_sums(&w);
    bool good = toy_states(&w, NULL, PUTS, 0, &result);
    printf("toy log, %s%s: %llu states + %llu after a second crash, %s %s\n",
           record_mistake_name(record), mistake ? ", no checksum" : "",
           (unsigned long long)result.states, (unsigned long long)w.second_states,
           good ? "all good" : "caught:", result.why);
    *states = result.states;
    return good;
}

TEST(a_correct_log_passes_every_state_and_every_second_crash)
{
    uint64_t states;
    CHECK(toy_survives(TOY_RIGHT, MISTAKE_NONE, &states));
    CHECK(states > 500);
}

TEST(each_classic_mistake_is_caught)
{
    static const enum record_mistake mistakes[] = {
        MISTAKE_NO_SYNC_DIR, MISTAKE_NO_SYNC,  MISTAKE_NO_SYNC_TEMP, MISTAKE_NO_SYNC_CUT,
        MISTAKE_CUT_HEAD,    MISTAKE_IN_PLACE, MISTAKE_RENAME_FIRST};
    uint64_t states;
    for (size_t i = 0; i < COUNT_OF(mistakes); i++) {
        check_note("%s", record_mistake_name(mistakes[i]));
        CHECK(!toy_survives(TOY_RIGHT, mistakes[i], &states));
    }
    check_note("no checksum");
    CHECK(!toy_survives(TOY_NO_CHECKSUM, MISTAKE_NONE, &states));
}

TEST(the_same_prefix_and_choices_give_the_same_image)
{
    struct toy_world w = {.seed = 5};
    struct mem_fs *fs = mem_fs_new(1), *a = mem_fs_new(2), *b = mem_fs_new(3);
    struct trace *trace = toy_run(&w, fs, 3);
    struct crash_point at;
    size_t write = 0, size_a, size_b;
    for (size_t i = 0; i < trace->count; i++)
        if (trace->effects[i].kind == EFFECT_WRITE)
            write = i;
    const uint32_t choices[] = {7};
    CHECK(crash_image(trace, NULL, write + 1, choices, 1, a, &at));
    CHECK(crash_image(trace, NULL, write + 1, choices, 1, b, &at));
    CHECK(!crash_image(trace, NULL, write + 1, choices, 0, b, &at));
    const uint8_t *bytes_a = mem_fs_bytes(a, mem_fs_find(a, TOY), &size_a);
    const uint8_t *bytes_b = mem_fs_bytes(b, mem_fs_find(b, TOY), &size_b);
    CHECK_EQ(size_a, size_b);
    CHECK_MEM(bytes_a, bytes_b, size_a);
    trace_free(trace);
    mem_fs_free(fs);
    mem_fs_free(a);
    mem_fs_free(b);
}
