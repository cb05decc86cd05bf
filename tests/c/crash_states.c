/* crash_states.c - from a trace to the images that a crash can leave.
 *
 * While the trace is walked, `certain` is the image of everything that syncs have made certain, and
 * `pending` lists the effects since. A state is `certain` plus one choice for each pending effect,
 * applied in order. Choice 0 is always "complete", choice 1 "absent". */
#include "check.h"

#include "base/rng.h"
#include "crash_states.h"

enum { COMPLETE = 0, ABSENT = 1, FIRST_SPECIAL = 2, PENDING_MAX = CRASH_CHOICES };
enum { PAGE = 4096, SECTOR = 512, FINE = 64 };
enum tear { TEAR_HEAD, TEAR_TAIL, TEAR_HEAD_ZEROS, TEARS };

/* One uncertain effect; for bytes, one piece of one. */
struct pending {
    const struct effect *effect;
    size_t index;    /* in the trace */
    uint64_t offset; /* bytes: this piece */
    const uint8_t *bytes;
    size_t len;
    bool grows;    /* zeros in its place differ from its absence */
    uint32_t cuts; /* places to tear it at */
    uint32_t choices;
};

struct walk {
    const struct trace *trace;
    struct mem_fs *certain;
    struct pending pending[PENDING_MAX];
    size_t count;
    uint64_t marks[CRASH_MARKS];
    bool crowded; /* more uncertain effects than there is room for: the oldest became certain */
};

/* ---------------------------------------------------------------- choices */

static bool has_bytes(const struct effect *e)
{
    return e->kind == EFFECT_WRITE || e->kind == EFFECT_STORE;
}

/* The n-th place to tear [offset, offset+len) at, as bytes that the head keeps: every byte of the
 * first FINE, then the sector edges. */
static size_t cut_place(const struct pending *p, uint32_t n)
{
    size_t fine = MIN(p->len - 1, (size_t)FINE);
    if (n < fine)
        return n + 1;
    uint64_t edge = (p->offset + FINE) / SECTOR * SECTOR + SECTOR;
    return (size_t)(edge + (uint64_t)(n - fine) * SECTOR - p->offset);
}

static uint32_t cut_places(const struct pending *p)
{
    if (p->len < 2)
        return 0;
    uint32_t n = (uint32_t)MIN(p->len - 1, (size_t)FINE);
    while (cut_place(p, n) < p->len)
        n++;
    return n;
}

static bool was_zero(const struct mem_fs *certain, const struct pending *p)
{
    size_t size;
    const uint8_t *bytes = mem_fs_bytes(certain, p->effect->file, &size);
    if (p->offset + p->len > size)
        return false;
    for (size_t i = 0; i < p->len; i++)
        if (bytes[p->offset + i])
            return false;
    return true;
}

static void count_choices(const struct mem_fs *certain, struct pending *p)
{
    p->choices = 2;
    if (p->effect->kind == EFFECT_RENAME)
        p->choices = 3; /* both names */
    if (!has_bytes(p->effect))
        return;
    size_t size;
    mem_fs_bytes(certain, p->effect->file, &size);
    p->grows = p->offset + p->len > size && !was_zero(certain, p);
    p->cuts = cut_places(p);
    p->choices += p->grows + p->cuts * (p->grows ? TEARS : TEARS - 1u);
}

static void apply_bytes(struct mem_fs *fs, const struct pending *p, uint32_t choice)
{
    uint64_t file = p->effect->file;
    size_t size;
    if (choice == COMPLETE) {
        mem_fs_write(fs, file, p->offset, p->bytes, p->len);
        return;
    }
    choice -= FIRST_SPECIAL;
    mem_fs_bytes(fs, file, &size);
    if (p->grows) { /* the size came first */
        if (choice == 0) {
            mem_fs_resize(fs, file, MAX(p->offset + p->len, (uint64_t)size));
            return;
        }
        choice--;
    }
    uint32_t tears = p->grows ? TEARS : TEARS - 1u;
    size_t cut = cut_place(p, choice / tears);
    switch ((enum tear)(choice % tears)) {
    case TEAR_HEAD_ZEROS:
        mem_fs_resize(fs, file, MAX(p->offset + p->len, (uint64_t)size));
        mem_fs_write(fs, file, p->offset, p->bytes, cut);
        break;
    case TEAR_HEAD:
        mem_fs_write(fs, file, p->offset, p->bytes, cut);
        break;
    case TEAR_TAIL:
    default:
        mem_fs_write(fs, file, p->offset + cut, p->bytes + cut, p->len - cut);
        break;
    }
}

static void apply(struct mem_fs *fs, const struct pending *p, uint32_t choice)
{
    const struct effect *e = p->effect;
    size_t size;
    if (choice == ABSENT)
        return;
    if (e->file)
        mem_fs_ensure(fs, e->file);
    switch (e->kind) {
    case EFFECT_WRITE:
    case EFFECT_STORE:
        apply_bytes(fs, p, choice);
        break;
    case EFFECT_SIZE:
        mem_fs_resize(fs, e->file, e->offset);
        break;
    case EFFECT_ALLOCATE:
        mem_fs_bytes(fs, e->file, &size);
        mem_fs_resize(fs, e->file, MAX(e->offset, (uint64_t)size));
        break;
    case EFFECT_CREATE:
        mem_fs_set_name(fs, e->path, e->file);
        break;
    case EFFECT_RENAME:
        mem_fs_set_name(fs, e->to, e->file);
        if (choice == COMPLETE)
            mem_fs_remove_name(fs, e->path);
        break;
    case EFFECT_LINK:
        mem_fs_set_name(fs, e->to, e->file);
        break;
    case EFFECT_REMOVE:
        mem_fs_remove_name(fs, e->path);
        break;
    case EFFECT_SYNC:
    case EFFECT_SYNC_DIR:
    case EFFECT_MARK:
        break;
    }
}

/* ---------------------------------------------------------------- walking the trace */

static void drop_pending(struct walk *w, size_t at)
{
    w->count--;
    memmove(&w->pending[at], &w->pending[at + 1], (w->count - at) * sizeof w->pending[0]);
}

static void add_pending(struct walk *w, struct pending p)
{
    if (w->count == PENDING_MAX) {
        apply(w->certain, &w->pending[0], COMPLETE);
        drop_pending(w, 0);
        w->crowded = true;
    }
    count_choices(w->certain, &p);
    w->pending[w->count++] = p;
}

static void add_pages(struct walk *w, const struct effect *e, size_t index)
{
    for (size_t done = 0; done < e->len;) {
        uint64_t at = e->offset + done;
        size_t len = e->len - done;
        if (e->kind == EFFECT_STORE)
            len = MIN(len, (size_t)(PAGE - at % PAGE));
        add_pending(
            w,
            (struct pending){
                .effect = e, .index = index, .offset = at, .bytes = e->bytes + done, .len = len});
        done += len;
    }
}

static bool is_name(const struct effect *e)
{
    return e->kind == EFFECT_CREATE || e->kind == EFFECT_RENAME || e->kind == EFFECT_LINK ||
           e->kind == EFFECT_REMOVE;
}

/* A sync makes pending effects certain: those of one file, or those on names. */
static void settle(struct walk *w, const struct effect *sync)
{
    for (size_t i = 0; i < w->count;) {
        const struct pending *p = &w->pending[i];
        bool mine = sync->kind == EFFECT_SYNC_DIR
                        ? is_name(p->effect)
                        : !is_name(p->effect) && p->effect->file == sync->file;
        if (!mine || p->index >= sync->upto) {
            i++;
            continue;
        }
        apply(w->certain, p, COMPLETE);
        drop_pending(w, i);
    }
    for (size_t i = 0; i < w->count; i++)
        count_choices(w->certain, &w->pending[i]);
}

static void step(struct walk *w, size_t index)
{
    const struct effect *e = &w->trace->effects[index];
    if (e->file)
        mem_fs_ensure(w->certain, e->file);
    switch (e->kind) {
    case EFFECT_MARK:
        if (e->mark >= 0 && e->mark < CRASH_MARKS)
            w->marks[e->mark] = e->value;
        break;
    case EFFECT_SYNC:
    case EFFECT_SYNC_DIR:
        settle(w, e);
        break;
    case EFFECT_WRITE:
    case EFFECT_STORE:
        add_pages(w, e, index);
        break;
    default:
        add_pending(w, (struct pending){.effect = e, .index = index});
    }
}

static void walk_init(struct walk *w, const struct trace *trace, const struct mem_fs *start)
{
    memset(w, 0, sizeof *w);
    w->trace = trace;
    w->certain = mem_fs_new(0);
    if (start)
        mem_fs_copy(w->certain, start);
}

static uint64_t combinations(const struct walk *w)
{
    uint64_t n = 1;
    for (size_t i = 0; i < w->count; i++) {
        if (n > UINT64_MAX / w->pending[i].choices)
            return UINT64_MAX;
        n *= w->pending[i].choices;
    }
    return n;
}

static void build(const struct walk *w, const uint32_t *choices, struct mem_fs *image)
{
    mem_fs_copy(image, w->certain);
    for (size_t i = 0; i < w->count; i++)
        apply(image, &w->pending[i], choices[i]);
}

/* ---------------------------------------------------------------- enumerating */

struct run {
    const struct crash_plan *plan;
    struct crash_result *out;
    struct mem_fs *image;
    struct walk walk;
    size_t prefix;
    uint64_t random;
};

static void describe(const struct run *r, const uint32_t *choices, struct crash_point *at)
{
    at->prefix = r->prefix;
    memcpy(at->marks, r->walk.marks, sizeof at->marks);
    at->complete = true;
    for (size_t i = 0; i < r->walk.count; i++)
        at->complete = at->complete && choices[i] == COMPLETE;
    at->choices = choices;
    at->choice_count = r->walk.count;
    at->number = r->out->states;
}

static bool try_state(struct run *r, const uint32_t *choices)
{
    struct crash_point at;
    struct crash_result *out = r->out;
    build(&r->walk, choices, r->image);
    describe(r, choices, &at);
    out->states++;
    if (r->plan->check(r->plan->context, r->image, &at, out->why, sizeof out->why))
        return true;
    out->failed = true;
    out->prefix = r->prefix;
    out->choice_count = r->walk.count;
    memcpy(out->choices, choices, r->walk.count * sizeof choices[0]);
    return false;
}

static bool try_all(struct run *r)
{
    uint32_t choices[PENDING_MAX] = {0};
    for (;;) {
        if (!try_state(r, choices))
            return false;
        size_t i = 0;
        while (i < r->walk.count && ++choices[i] == r->walk.pending[i].choices)
            choices[i++] = 0;
        if (i == r->walk.count)
            return true;
    }
}

static void fill(const struct walk *w, uint32_t *choices, uint32_t with)
{
    for (size_t i = 0; i < w->count; i++)
        choices[i] = with;
}

/* All complete, all absent; each effect alone missing, each alone there. */
static bool try_telling(struct run *r, uint64_t *left)
{
    uint32_t choices[PENDING_MAX];
    for (uint32_t base = COMPLETE; base <= ABSENT; base++) {
        fill(&r->walk, choices, base);
        for (size_t i = 0; i <= r->walk.count && *left > 0; i++, (*left)--) {
            if (i < r->walk.count)
                choices[i] = !base;
            if (!try_state(r, choices))
                return false;
            if (i < r->walk.count)
                choices[i] = base;
        }
    }
    return true;
}

static uint32_t random_choice(uint64_t *random, const struct pending *p, uint32_t mood)
{
    uint64_t dice = rng_next(random);
    uint32_t roll = (uint32_t)(dice % 100);
    if (roll < mood)
        return COMPLETE;
    if (roll < mood + 15)
        return ABSENT;
    return (uint32_t)((dice >> 32) % p->choices);
}

static void random_choices(const struct walk *w, uint64_t *random, uint32_t *choices)
{
    uint32_t mood = (uint32_t)(rng_next(random) % 85);
    for (size_t i = 0; i < w->count; i++)
        choices[i] = random_choice(random, &w->pending[i], mood);
}

static bool try_sample(struct run *r, uint64_t left)
{
    uint32_t choices[PENDING_MAX];
    for (; left > 0; left--) {
        random_choices(&r->walk, &r->random, choices);
        if (!try_state(r, choices))
            return false;
    }
    return true;
}

static bool try_prefix(struct run *r, uint64_t cap)
{
    r->out->prefixes++;
    if (combinations(&r->walk) <= cap)
        return try_all(r);
    uint64_t left = cap;
    return try_telling(r, &left) && try_sample(r, left);
}

/* A prefix whose states are all among those of the next one, under the same promises, is skipped:
 * the next effect is neither a sync nor a mark, and absent it leaves exactly this. */
static bool same_as_next(const struct trace *trace, size_t prefix, uint64_t next_combinations,
                         uint64_t cap)
{
    if (prefix >= trace->count || next_combinations > cap)
        return false;
    enum effect_kind kind = trace->effects[prefix].kind;
    return kind != EFFECT_MARK && kind != EFFECT_SYNC && kind != EFFECT_SYNC_DIR;
}

/* Combinations after each prefix. */
static uint64_t *survey(const struct crash_plan *plan, struct crash_result *out)
{
    struct walk w;
    uint64_t *counts = calloc(plan->trace->count + 2, sizeof *counts);
    if (!counts)
        abort();
    walk_init(&w, plan->trace, plan->start);
    counts[0] = 1;
    for (size_t i = 0; i < plan->trace->count; i++) {
        step(&w, i);
        counts[i + 1] = combinations(&w);
        out->combinations = counts[i + 1] > UINT64_MAX - out->combinations
                                ? UINT64_MAX
                                : out->combinations + counts[i + 1];
    }
    mem_fs_free(w.certain);
    return counts;
}

/* The largest number of states per prefix that keeps the whole within the budget. */
static uint64_t fair_cap(const uint64_t *counts, size_t prefixes, uint64_t budget)
{
    uint64_t low = 16, high = CRASH_COMBINATIONS;
    if (budget == 0)
        return high;
    while (low < high) {
        uint64_t middle = (low + high + 1) / 2, sum = 0;
        for (size_t i = 0; i < prefixes; i++)
            sum += MIN(counts[i], middle);
        if (sum <= budget)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

void crash_enumerate(const struct crash_plan *plan, struct crash_result *out)
{
    struct run r = {.plan = plan, .out = out, .random = plan->seed};
    memset(out, 0, sizeof *out);
    uint64_t *counts = survey(plan, out);
    uint64_t cap = fair_cap(counts, plan->trace->count + 1, plan->budget);
    walk_init(&r.walk, plan->trace, plan->start);
    r.image = mem_fs_new(0);
    for (r.prefix = 0; r.prefix <= plan->trace->count; r.prefix++) {
        if (r.prefix > 0)
            step(&r.walk, r.prefix - 1);
        if (same_as_next(plan->trace, r.prefix, counts[r.prefix + 1], cap))
            continue;
        if (!try_prefix(&r, cap))
            break;
    }
    mem_fs_free(r.image);
    mem_fs_free(r.walk.certain);
    free(counts);
}

/* ---------------------------------------------------------------- one state again */

bool crash_image(const struct trace *trace, const struct mem_fs *start, size_t prefix,
                 const uint32_t *choices, size_t count, struct mem_fs *image,
                 struct crash_point *at)
{
    struct walk w;
    if (prefix > trace->count)
        return false;
    walk_init(&w, trace, start);
    for (size_t i = 0; i < prefix; i++)
        step(&w, i);
    bool fits = w.count == count;
    for (size_t i = 0; fits && i < count; i++)
        fits = choices[i] < w.pending[i].choices;
    if (fits) {
        struct crash_result none = {0};
        struct run r = {.out = &none, .walk = w, .prefix = prefix};
        build(&w, choices, image);
        describe(&r, choices, at);
    }
    mem_fs_free(w.certain);
    return fits;
}

void crash_sample(const struct trace *trace, const struct mem_fs *start, uint64_t seed,
                  struct mem_fs *image)
{
    struct walk w;
    uint32_t choices[PENDING_MAX];
    walk_init(&w, trace, start);
    for (size_t i = 0; i < trace->count; i++)
        step(&w, i);
    random_choices(&w, &seed, choices);
    build(&w, choices, image);
    mem_fs_free(w.certain);
}

static bool still_fails(const struct crash_plan *plan, const struct crash_result *failure,
                        const uint32_t *choices, char *why, size_t cap)
{
    struct crash_point at;
    struct mem_fs *image = mem_fs_new(0);
    bool fails = crash_image(plan->trace, plan->start, failure->prefix, choices,
                             failure->choice_count, image, &at) &&
                 !plan->check(plan->context, image, &at, why, cap);
    mem_fs_free(image);
    return fails;
}

void crash_simplify(const struct crash_plan *plan, struct crash_result *failure)
{
    char why[sizeof failure->why];
    for (size_t i = 0; i < failure->choice_count; i++) {
        for (uint32_t simple = COMPLETE; simple <= ABSENT; simple++) {
            uint32_t was = failure->choices[i];
            if (was <= simple)
                break;
            failure->choices[i] = simple;
            if (still_fails(plan, failure, failure->choices, why, sizeof why)) {
                memcpy(failure->why, why, sizeof why);
                break;
            }
            failure->choices[i] = was;
        }
    }
}

static void print_choice(const struct pending *p, uint32_t choice, FILE *to)
{
    static const char *const tears[] = {"head of", "without its first", "zeros behind the head of"};
    if (choice == COMPLETE)
        fprintf(to, "complete");
    else if (choice == ABSENT)
        fprintf(to, "absent");
    else if (!has_bytes(p->effect))
        fprintf(to, "both names");
    else if (p->grows && choice == FIRST_SPECIAL)
        fprintf(to, "zeros");
    else {
        uint32_t n = choice - FIRST_SPECIAL - p->grows, kinds = p->grows ? TEARS : TEARS - 1u;
        fprintf(to, "%s %zu bytes", tears[n % kinds], cut_place(p, n / kinds));
    }
}

void crash_print(const struct trace *trace, const struct mem_fs *start,
                 const struct crash_result *failure, FILE *to)
{
    struct walk w;
    char text[512];
    walk_init(&w, trace, start);
    for (size_t i = 0; i < failure->prefix && i < trace->count; i++) {
        effect_print(&trace->effects[i], text, sizeof text);
        fprintf(to, "# %4zu %s\n", i, text);
        step(&w, i);
    }
    fprintf(to, "# crash; what no sync had made certain:\n");
    for (size_t i = 0; i < w.count && i < failure->choice_count; i++) {
        effect_print(w.pending[i].effect, text, sizeof text);
        fprintf(to, "# %4zu %s: ", w.pending[i].index, text);
        print_choice(&w.pending[i], failure->choices[i], to);
        fprintf(to, "\n");
    }
    mem_fs_free(w.certain);
}

bool crash_survives(const char *name, const struct trace *trace, uint64_t seed, uint64_t budget,
                    crash_check check, void *context)
{
    struct crash_result result;
    struct crash_plan plan = {trace, NULL, seed, budget, check, context};
    crash_enumerate(&plan, &result);
    syna_test_set_vfs(NULL);
    printf("%-10s %6llu states at %llu points: %s %s\n", name, (unsigned long long)result.states,
           (unsigned long long)result.prefixes, result.failed ? "fails," : "good", result.why);
    return !result.failed;
}

bool crash_left_nothing(const struct mem_fs *image, int64_t blocks, char *why, size_t cap)
{
    const char *faults = mem_fs_faults(image);
    bool leaked = mem_fs_open_count(image) > 0 || syna_test_live_blocks() != blocks;
    if (leaked || faults[0])
        snprintf(why, cap, "%s", leaked ? "descriptors or memory leaked" : faults);
    return !leaked && !faults[0];
}
