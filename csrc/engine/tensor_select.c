/* tensor_select.c - from a pattern to a set: which tensors and plain values have keys that match, in the
 * order of their names.
 *
 * Keys of elements are never made one by one where the pattern ends in `*` and matches the prefix: then
 * it matches all of them. A tensor can have keys that match only if its prefix begins with the literal
 * start of the pattern, or is the beginning of it, so no others are looked at. */
#include "base/internal.h"

#include "base/glob.h"
#include "engine/tensor_core.h"

#define CHUNK_WORD "chunk_"
#define DIGITS_LEAST 4u
#define DIGITS_MAX 20u

/* A pattern being matched. */
struct search {
    syna_tensors *tensors;
    const char *pattern;
    size_t len, literal; /* bytes that match only themselves */
    struct buf runs;     /* struct tensor_run[] */
    struct buf numbers, key_at, names;
    char *key; /* room for a key being built */
};

uint64_t tensor_keys_of(const struct tensor_version *v)
{
    if (!v->chunked)
        return v->shape.count;
    return v->shape.count / v->shape.per_chunk + (v->shape.count % v->shape.per_chunk != 0);
}

uint32_t tensor_digits(uint64_t keys)
{
    uint32_t digits = DIGITS_LEAST;
    for (uint64_t top = keys ? (keys - 1) / 10000 : 0; top > 0; top /= 10)
        digits++;
    return digits;
}

/* ---------------------------------------------------------------- names */

/* What comes before the number in a tensor's keys. */
static size_t key_head(const struct tensor_version *v, char *key)
{
    memcpy(key, v->prefix, v->prefix_len);
    if (!v->chunked)
        return v->prefix_len;
    memcpy(key + v->prefix_len, CHUNK_WORD, strlen(CHUNK_WORD));
    return v->prefix_len + strlen(CHUNK_WORD);
}

static size_t put_number(char *to, uint64_t number, uint32_t digits)
{
    for (uint32_t i = digits; i > 0; i--, number /= 10)
        to[i - 1] = (char)('0' + number % 10);
    return digits;
}

/* The name of key `number` of a run, at `key` or where it is stored. */
static const char *run_key(const struct search *s, const struct tensor_run *run, uint64_t number,
                           char *key, size_t *len)
{
    if (!run->v) {
        const uint64_t *at = (const void *)s->key_at.bytes;
        *len = (size_t)(at[number + 1] - at[number] - 1);
        return (const char *)s->names.bytes + at[number];
    }
    *len = key_head(run->v, key);
    *len += put_number(key + *len, number, tensor_digits(tensor_keys_of(run->v)));
    return key;
}

/* ---------------------------------------------------------------- matching a tensor */

static syna_rc add_run(struct search *s, struct tensor_version *v, uint64_t first_key, uint64_t keys)
{
    uint64_t per = v->chunked ? v->shape.per_chunk : 1, all = tensor_keys_of(v);
    uint64_t first = first_key < all ? first_key * per : v->shape.count;
    uint64_t end = first_key + keys < all ? (first_key + keys) * per : v->shape.count;
    struct tensor_run run = {
        .v = v,
        .first_key = first_key,
        .keys = keys,
        .first = first,
        .count = end - first,
        .dtype = v->shape.dtype,
    };
    if (!buf_append(&s->runs, &run, sizeof run))
        return syna_no_memory(sizeof run);
    tensor_version_ref(v);
    return SYNA_SUCCESS;
}

static bool matches_all(const struct search *s, size_t head)
{
    return s->len > 0 && s->pattern[s->len - 1] == '*' &&
           glob_match(s->pattern, s->len, s->key, head);
}

/* The numbers that keys can have beginning like the literal start of the pattern; false = none. */
static bool number_range(const struct search *s, size_t head, uint32_t digits, uint64_t keys,
                         uint64_t *low, uint64_t *high)
{
    size_t same = MIN(head, s->literal);
    if (same && memcmp(s->pattern, s->key, same) != 0)
        return false;
    *low = 0;
    uint64_t span = 1;
    uint32_t given = 0;
    for (size_t i = head; i < s->literal; i++, given++) {
        char c = s->pattern[i];
        if (c < '0' || c > '9' || given == digits)
            return false;
        *low = *low * 10 + (uint64_t)(c - '0');
    }
    for (; given < digits; given++) {
        *low *= 10;
        if (__builtin_mul_overflow(span, 10, &span))
            span = UINT64_MAX; /* more numbers than there are */
    }
    *high = *low > keys || keys - *low < span ? keys : *low + span;
    return *low < keys;
}

static syna_rc match_numbers(struct search *s, struct tensor_version *v, size_t head)
{
    uint64_t low, high, keys = tensor_keys_of(v), run = 0;
    uint32_t digits = tensor_digits(keys);
    if (!number_range(s, head, digits, keys, &low, &high))
        return SYNA_SUCCESS;
    for (uint64_t i = low; i < high; i++) {
        put_number(s->key + head, i, digits);
        if (glob_match(s->pattern, s->len, s->key, head + digits)) {
            run++;
        } else if (run) {
            SYNA_TRY(add_run(s, v, i - run, run));
            run = 0;
        }
    }
    return run ? add_run(s, v, high - run, run) : SYNA_SUCCESS;
}

static syna_rc match_tensor(struct search *s, struct tensor_version *v)
{
    size_t head = key_head(v, s->key);
    if (matches_all(s, head))
        return add_run(s, v, 0, tensor_keys_of(v));
    return match_numbers(s, v, head);
}

static syna_rc try_prefix(struct search *s, bool chunked, const char *prefix, size_t len, bool whole)
{
    struct tensor_version *v;
    syna_rc rc = tensor_version_find(s->tensors, chunked, prefix, len, &v);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    rc = whole ? add_run(s, v, 0, tensor_keys_of(v)) : match_tensor(s, v);
    tensor_version_unref(v);
    return rc;
}

/* ---------------------------------------------------------------- looking for tensors */

/* Visit the keys that begin with `prefix`. The end of a scan is no error to remember. */
static syna_rc scan_keys(struct search *s, const char *prefix, size_t prefix_len,
                         syna_rc (*visit)(struct search *s, const syna_record *record, bool flag),
                         bool flag)
{
    syna_scan *scan;
    syna_record record;
    struct status_record before = *status_get();
    SYNA_TRY(db_scan_new(s->tensors->db, prefix, prefix_len, NULL, 0, NULL, 0, SYNA_SCAN_KEYS, &scan));
    syna_rc rc;
    while ((rc = db_scan_next(scan, &record)) == SYNA_SUCCESS)
        if ((rc = visit(s, &record, flag)) != SYNA_SUCCESS)
            break;
    db_scan_free(scan);
    return rc == SYNA_ERR_KEY_NOT_FOUND ? (status_set(&before), SYNA_SUCCESS) : rc;
}

static syna_rc visit_tensor(struct search *s, const syna_record *record, bool chunked)
{
    size_t head = strlen(chunked ? TENSOR_CHUNKS_PREFIX : TENSOR_PREFIX);
    if (record->type != SYNA_TYPE_BLOB)
        return SYNA_SUCCESS;
    return try_prefix(s, chunked, record->key + head, record->key_len - head, false);
}

static syna_rc find_tensors(struct search *s, bool chunked, bool name)
{
    if (name)
        return try_prefix(s, chunked, s->pattern, s->len, true);
    for (size_t len = 0; len < s->literal; len++)
        SYNA_TRY(try_prefix(s, chunked, s->pattern, len, false));
    char *from = mem_alloc(TENSOR_KEY_PREFIX_MAX + s->literal);
    if (!from)
        return syna_no_memory(s->literal);
    size_t len = tensor_log_key(chunked, s->pattern, s->literal, from);
    syna_rc rc = scan_keys(s, from, len, visit_tensor, chunked);
    mem_free(from);
    return rc;
}

/* ---------------------------------------------------------------- plain values */

static syna_rc visit_plain(struct search *s, const syna_record *record, bool unused)
{
    (void)unused;
    uint64_t bits, at = s->names.len, number = s->numbers.len / sizeof bits;
    if ((record->type != SYNA_TYPE_FLOAT && record->type != SYNA_TYPE_INT) ||
        !glob_match(s->pattern, s->len, record->key, record->key_len))
        return SYNA_SUCCESS;
    syna_rc rc = db_get_number(s->tensors->db, record->key, record->key_len, record->type, &bits);
    if (rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH)
        return SYNA_SUCCESS; /* deleted or replaced just now */
    SYNA_TRY(rc);
    struct tensor_run run = {
        .first_key = number,
        .keys = 1,
        .count = 1,
        .dtype = record->type == SYNA_TYPE_INT ? SYNA_DTYPE_INT64 : SYNA_DTYPE_FLOAT64,
    };
    if (!buf_append(&s->numbers, &bits, sizeof bits) || !buf_append(&s->key_at, &at, sizeof at) ||
        !buf_append(&s->names, record->key, record->key_len) || !buf_append(&s->names, "", 1) ||
        !buf_append(&s->runs, &run, sizeof run))
        return syna_no_memory(record->key_len);
    return SYNA_SUCCESS;
}

static syna_rc find_plain(struct search *s)
{
    struct status_record before = *status_get();
    SYNA_TRY(scan_keys(s, s->pattern, s->literal, visit_plain, false));
    status_set(&before);
    uint64_t end = s->names.len;
    return buf_append(&s->key_at, &end, sizeof end) ? SYNA_SUCCESS : syna_no_memory(sizeof end);
}

/* ---------------------------------------------------------------- the order of names */

static int compare_keys(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = MIN(a_len, b_len) ? memcmp(a, b, MIN(a_len, b_len)) : 0;
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* Key `x` of run a against key `y` of run b; of equal names that of a tensor comes first. */
static int compare_runs(const struct search *s, const struct tensor_run *a, uint64_t x,
                        const struct tensor_run *b, uint64_t y, char *room)
{
    size_t a_len, b_len;
    const char *key_a = run_key(s, a, x, room, &a_len);
    const char *key_b = run_key(s, b, y, room + SYNA_KEY_MAX + DIGITS_MAX, &b_len);
    return compare_keys(key_a, a_len, key_b, b_len);
}

struct sorting {
    const struct search *s;
    char *room;
};

static int by_first_key(const void *a, const void *b, void *context)
{
    const struct tensor_run *x = a, *y = b;
    const struct sorting *sorting = context;
    /* A run without keys has a place all the same: that of its first key if it had one. */
    int order = compare_runs(sorting->s, x, x->first_key, y, y->first_key, sorting->room);
    return order ? order : (x->v == NULL) - (y->v == NULL);
}

/* Do the runs, sorted by their first keys, follow each other? */
static bool in_order(const struct sorting *sorting, const struct tensor_run *runs, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        const struct tensor_run *a = &runs[i - 1];
        uint64_t last = a->first_key + (a->keys ? a->keys - 1 : 0);
        if (compare_runs(sorting->s, a, last, &runs[i], runs[i].first_key, sorting->room) >= 0)
            return false;
    }
    return true;
}

/* Take the first `keys` keys off a run. */
static struct tensor_run split(struct tensor_run *run, uint64_t keys)
{
    struct tensor_run head = *run;
    uint64_t per = run->v && run->v->chunked ? run->v->shape.per_chunk : 1;
    head.keys = keys;
    head.count = MIN(keys * per, run->count);
    run->first_key += keys;
    run->keys -= keys;
    run->first += head.count;
    run->count -= head.count;
    return head;
}

/* Keys of `run` before the first key of `next`; at least one. */
static uint64_t keys_before(const struct sorting *sorting, const struct tensor_run *run,
                            const struct tensor_run *next)
{
    uint64_t low = 1, high = run->keys;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (compare_runs(sorting->s, run, run->first_key + middle, next, next->first_key,
                         sorting->room) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void sift_down(struct sorting *sorting, struct tensor_run *heap, size_t count)
{
    for (size_t i = 0;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < count; child++)
            if (by_first_key(&heap[child], &heap[least], sorting) < 0)
                least = child;
        if (least == i)
            return;
        struct tensor_run moved = heap[i];
        heap[i] = heap[least];
        heap[least] = moved;
        i = least;
    }
}

/* The second smallest run in a heap of two or more. */
static const struct tensor_run *second(struct sorting *sorting, const struct tensor_run *heap,
                                       size_t count)
{
    return count == 2 || by_first_key(&heap[1], &heap[2], sorting) < 0 ? &heap[1] : &heap[2];
}

static bool same_name(struct sorting *sorting, const struct tensor_run *a, const struct tensor_run *b)
{
    return compare_runs(sorting->s, a, a->first_key + a->keys - 1, b, b->first_key,
                        sorting->room) == 0;
}

/* Runs whose names lie between each other: cut them into pieces that do not. `heap` is sorted, so it is
 * a heap. Takes the references of its runs. */
static bool interleave(struct sorting *sorting, struct tensor_run *heap, size_t count,
                       struct buf *out)
{
    const struct tensor_run *last = NULL;
    while (count > 0) {
        uint64_t keys = count > 1 && heap[0].keys > 1
                            ? keys_before(sorting, &heap[0], second(sorting, heap, count))
                            : heap[0].keys;
        struct tensor_run head = split(&heap[0], keys);
        bool dropped = !head.v && last && last->v && last->keys && same_name(sorting, last, &head);
        if (!dropped) {
            if (!buf_append(out, &head, sizeof head))
                return false;
            if (head.v)
                tensor_version_ref(head.v);
            last = (const struct tensor_run *)(const void *)(out->bytes + out->len) - 1;
        }
        if (heap[0].keys == 0) {
            struct tensor_version *done = heap[0].v;
            heap[0] = heap[--count];
            heap[count].v = done; /* released with the rest of the old list */
        }
        sift_down(sorting, heap, count);
    }
    return true;
}

static size_t run_count(const struct buf *runs)
{
    return runs->len / sizeof(struct tensor_run);
}

static void drop_runs(struct buf *runs)
{
    struct tensor_run *run = (void *)runs->bytes;
    for (size_t i = 0; i < run_count(runs); i++)
        tensor_version_unref(run[i].v);
    buf_dispose(runs);
}

static syna_rc arrange(struct search *s)
{
    size_t count = run_count(&s->runs);
    if (count < 2)
        return SYNA_SUCCESS;
    char *room = mem_alloc(2 * (SYNA_KEY_MAX + (size_t)DIGITS_MAX));
    if (!room)
        return syna_no_memory(2 * (size_t)SYNA_KEY_MAX);
    struct sorting sorting = {s, room};
    struct tensor_run *runs = (void *)s->runs.bytes;
    struct buf ordered = {0};
    bool enough = true;
    qsort_r(runs, count, sizeof *runs, by_first_key, &sorting);
    if (!in_order(&sorting, runs, count)) {
        enough = interleave(&sorting, runs, count, &ordered);
        struct buf old = enough ? s->runs : ordered;
        if (enough)
            s->runs = ordered;
        drop_runs(&old);
    }
    mem_free(room);
    return enough ? SYNA_SUCCESS : syna_no_memory(count * sizeof *runs);
}

/* Plain values that follow each other are one run. */
static void join_plain(struct buf *runs)
{
    struct tensor_run *run = (void *)runs->bytes;
    size_t kept = 0;
    for (size_t i = 0; i < run_count(runs); i++) {
        struct tensor_run *before = kept ? &run[kept - 1] : NULL;
        if (before && !run[i].v && !before->v && run[i].dtype == before->dtype &&
            before->first_key + before->keys == run[i].first_key) {
            before->keys += run[i].keys;
            before->count += run[i].count;
        } else {
            run[kept++] = run[i];
        }
    }
    runs->len = kept * sizeof *run;
}

/* ---------------------------------------------------------------- sets */

static void search_dispose(struct search *s)
{
    drop_runs(&s->runs);
    buf_dispose(&s->numbers);
    buf_dispose(&s->key_at);
    buf_dispose(&s->names);
    mem_free(s->key);
}

/* Everything that matches, run by run, in no order. */
static syna_rc collect(struct search *s, syna_tensors *tensors, const char *pattern, size_t len,
                       uint32_t select)
{
    bool name = (select & SYNA_SELECT_NAME) != 0;
    *s = (struct search){.tensors = tensors, .pattern = pattern, .len = len};
    if (memchr(pattern, 0, len))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "the pattern contains a NUL byte");
    s->literal = MIN(glob_literal_prefix(pattern, len),
                     (size_t)SYNA_KEY_MAX - TENSOR_KEY_PREFIX_MAX);
    s->key = mem_alloc(SYNA_KEY_MAX + (size_t)DIGITS_MAX);
    if (!s->key)
        return syna_no_memory(SYNA_KEY_MAX);
    if (select & SYNA_SELECT_ELEMENTS)
        SYNA_TRY(find_tensors(s, false, name));
    if (select & SYNA_SELECT_CHUNKS)
        SYNA_TRY(find_tensors(s, true, name));
    return select & SYNA_SELECT_PLAIN && !name ? find_plain(s) : SYNA_SUCCESS;
}

static syna_rc count_up(struct syna_tensor_set *set)
{
    uint64_t sum = 0;
    set->starts = mem_alloc((set->run_count + 1) * sizeof *set->starts);
    if (!set->starts)
        return syna_no_memory(set->run_count * sizeof *set->starts);
    set->dtype = set->run_count ? set->runs[0].dtype : SYNA_DTYPE_FLOAT32;
    for (size_t i = 0; i < set->run_count; i++) {
        set->starts[i] = sum;
        sum += set->runs[i].count;
        if (set->runs[i].dtype != set->dtype)
            set->dtype = -1;
    }
    set->starts[set->run_count] = sum;
    return SYNA_SUCCESS;
}

syna_rc tensors_select(syna_tensors *tensors, const char *pattern, size_t pattern_len,
                       uint32_t select, syna_tensor_set **out)
{
    struct search s;
    struct syna_tensor_set *set = NULL;
    syna_rc rc = collect(&s, tensors, pattern, pattern_len, select);
    if (rc == SYNA_SUCCESS)
        rc = arrange(&s);
    if (rc == SYNA_SUCCESS) {
        set = mem_zalloc(sizeof *set);
        rc = set ? SYNA_SUCCESS : syna_no_memory(sizeof *set);
    }
    if (rc == SYNA_SUCCESS) {
        join_plain(&s.runs);
        set->db = tensors->db;
        set->run_count = run_count(&s.runs);
        set->runs = (void *)s.runs.bytes;
        set->plain_count = s.numbers.len / sizeof *set->numbers;
        set->numbers = (void *)s.numbers.bytes;
        set->key_at = (void *)s.key_at.bytes;
        set->names = (char *)s.names.bytes;
        s.runs = s.numbers = s.key_at = s.names = (struct buf){0};
        rc = count_up(set);
    }
    search_dispose(&s);
    if (rc == SYNA_SUCCESS)
        *out = set;
    else
        tensor_set_free(set);
    return db_note_damage(tensors->db, rc);
}

void tensor_set_free(syna_tensor_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->run_count; i++)
        tensor_version_unref(set->runs[i].v);
    mem_free(set->runs);
    mem_free(set->starts);
    mem_free(set->numbers);
    mem_free(set->key_at);
    mem_free(set->names);
    mem_free(set);
}

/* ---------------------------------------------------------------- deleting */

/* The runs of one tensor from run i on; they stand together. */
static syna_rc delete_tensor(const struct tensor_run *runs, size_t count, size_t *i,
                             struct buf *frames, uint64_t *deleted)
{
    char key[SYNA_KEY_MAX];
    struct tensor_version *v = runs[*i].v;
    uint64_t keys = 0;
    for (; *i < count && runs[*i].v == v; ++*i)
        keys += runs[*i].keys;
    if (keys != tensor_keys_of(v))
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, v->gen->log.file.path, -1, 0,
                            "the pattern matches %llu of the %llu keys of tensor \"%.*s\"; expected "
                            "all of them",
                            (unsigned long long)keys, (unsigned long long)tensor_keys_of(v),
                            (int)MIN(v->prefix_len, (size_t)200), v->prefix);
    size_t len = tensor_log_key(v->chunked, v->prefix, v->prefix_len, key);
    *deleted += keys;
    return db_encode_tombstone(frames, key, len) ? SYNA_SUCCESS : syna_no_memory(len);
}

static syna_rc encode_deletes(const struct search *s, struct buf *frames, size_t *records,
                              uint64_t *deleted)
{
    const struct tensor_run *runs = (const void *)s->runs.bytes;
    size_t count = run_count(&s->runs);
    for (size_t i = 0; i < count; ++*records) {
        size_t len;
        if (runs[i].v) {
            SYNA_TRY(delete_tensor(runs, count, &i, frames, deleted));
            continue;
        }
        const char *key = run_key(s, &runs[i], runs[i].first_key, NULL, &len);
        if (!db_encode_tombstone(frames, key, len))
            return syna_no_memory(len);
        i++;
        ++*deleted;
    }
    return SYNA_SUCCESS;
}

syna_rc tensors_delete(syna_tensors *tensors, const char *pattern, size_t pattern_len,
                       uint32_t select, uint64_t *deleted)
{
    struct search s;
    struct buf frames = {0};
    uint64_t keys = 0;
    size_t records = 0;
    *deleted = 0;
    SYNA_TRY(db_check_writable(tensors->db));
    syna_rc rc = collect(&s, tensors, pattern, pattern_len, select);
    if (rc == SYNA_SUCCESS)
        rc = encode_deletes(&s, &frames, &records, &keys);
    if (rc == SYNA_SUCCESS && records > 0)
        rc = db_commit(tensors->db, &frames, records, 0, NULL);
    buf_dispose(&frames);
    search_dispose(&s);
    if (rc == SYNA_SUCCESS)
        *deleted = keys;
    return db_note_damage(tensors->db, rc);
}
