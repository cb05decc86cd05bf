/* postings_upkeep.c - when windows are made, joined and written anew.
 *
 *   fresh rows --seal--> windows of ~1,000 rows --join 4--> ~4,000 --join 4-->
 * ... up to 65,536
 *
 * so that every posting is written a few times at most, however rows come in;
 * before a snapshot, neighbours that fit one window are joined, too. A window
 * of which three tenths are dead is written anew without them; one without a
 * live row is dropped. */
#include "base/internal.h"

#include "index/postings_core.h"

#define FRESH_ROWS 4096u
#define FRESH_VALUES (128u << 10) /* what a search reads in full: about 0.1 ms */
#define JOIN 4u
#define SETTLE_SHARE 16u /* a snapshot writes all postings in any case */
#define LEVEL_VALUES FRESH_VALUES

enum job_kind { JOB_SEAL, JOB_JOIN };

struct postings_job {
    enum job_kind kind;
    uint32_t first, count; /* JOIN: of these windows */
    bool empty;            /* nothing is live: no window comes */
    struct window window;
    struct window *room; /* SEAL: the windows with one place more */
};

/* ---------------------------------------------------------------- what is to
 * be done */

static bool seal_due(const struct postings *p)
{
    return p->count - p->sealed >= FRESH_ROWS || p->fresh_values >= FRESH_VALUES;
}

static bool rewrite_due(const struct window *w)
{
    uint32_t dead = w->held - MIN(w->held, w->live);
    return dead == w->held || (dead >= 64 && dead > w->held / 10 * 3);
}

/* Windows of about JOIN times as many rows or values are a level higher. */
static uint32_t level_of(const struct window *w)
{
    uint64_t size = MAX((uint64_t)w->rows * (FRESH_VALUES / FRESH_ROWS), w->posting_count);
    uint32_t level = 0;
    for (; size >= (uint64_t)LEVEL_VALUES * JOIN * 3 / 4; size /= JOIN)
        level++;
    return level;
}

/* How many windows from `first` on can be one: neighbours of one level.
 * *limited: the next one would be of that level, too, but the whole has too
 * many rows then. */
static uint32_t joinable(const struct postings *p, uint32_t first, bool *limited)
{
    const struct window *w = p->windows;
    uint32_t level = level_of(&w[first]), n = 1;
    uint64_t values = w[first].posting_count;
    *limited = false;
    for (; n < JOIN && first + n < p->window_count && level_of(&w[first + n]) == level; n++) {
        const struct window *next = &w[first + n];
        values += next->posting_count;
        if (next->first + next->rows - w[first].first > POSTINGS_WINDOW ||
            values > WINDOW_VALUES_MAX) {
            *limited = true;
            break;
        }
    }
    return n;
}

/* Would two neighbours make one window, none of them so small that the other is
 * written for little? */
static bool pair_fits(const struct postings *p, uint32_t first)
{
    if (first + 1 >= p->window_count)
        return false;
    const struct window *a = &p->windows[first], *b = a + 1;
    return b->first + b->rows - a->first <= POSTINGS_WINDOW &&
           (uint64_t)a->posting_count + b->posting_count <= WINDOW_VALUES_MAX &&
           MAX(a->rows, b->rows) / SETTLE_SHARE <= MIN(a->rows, b->rows);
}

/* The next windows to be made one, or one to be written anew. *count 0: none.
 */
static void find_join(const struct postings *p, bool settle, uint32_t *first, uint32_t *count)
{
    for (uint32_t i = 0; i < p->window_count; i++) {
        bool limited;
        uint32_t n = joinable(p, i, &limited);
        bool anew = rewrite_due(&p->windows[i]);
        if (anew || n == JOIN || (n >= 2 && limited) || (settle && pair_fits(p, i))) {
            *first = i;
            *count = anew ? 1 : MAX(n, 2u);
            return;
        }
    }
    *count = 0;
}

bool postings_due(const struct postings *p)
{
    uint32_t first, count;
    if (seal_due(p))
        return true;
    find_join(p, false, &first, &count);
    return count > 0;
}

/* ---------------------------------------------------------------- doing it */

static syna_rc prepare_seal(const struct postings *p, struct postings_job *job)
{
    uint32_t rows = MIN(p->count - p->sealed, POSTINGS_WINDOW);
    size_t bytes = (p->window_count + 1) * sizeof *job->room;
    job->kind = JOB_SEAL;
    job->room = mem_alloc(bytes);
    if (!job->room)
        return syna_no_memory(bytes);
    SYNA_TRY(window_build(p, p->sealed, rows, &job->window));
    job->empty = job->window.held == 0;
    return SYNA_SUCCESS;
}

static syna_rc prepare_join(const struct postings *p, struct postings_job *job)
{
    const struct window *parts = &p->windows[job->first];
    const struct window *last = &parts[job->count - 1];
    job->kind = JOB_JOIN;
    if (p->kind == POSTINGS_COUNTS)
        SYNA_TRY(window_join(p, parts, job->count, &job->window));
    else
        SYNA_TRY(
            window_build(p, parts->first, last->first + last->rows - parts->first, &job->window));
    job->empty = job->window.held == 0;
    return SYNA_SUCCESS;
}

static void job_free(struct postings_job *job)
{
    window_dispose(&job->window);
    mem_free(job->room);
    mem_free(job);
}

static syna_rc prepare(const struct postings *p, bool seal, bool settle, struct postings_job **out)
{
    struct postings_job *job = mem_zalloc(sizeof *job);
    *out = NULL;
    if (!job)
        return syna_no_memory(sizeof *job);
    syna_rc rc = SYNA_SUCCESS;
    if (seal)
        rc = prepare_seal(p, job);
    else
        find_join(p, settle, &job->first, &job->count);
    if (rc == SYNA_SUCCESS && job->count > 0)
        rc = prepare_join(p, job);
    if (rc != SYNA_SUCCESS || (!seal && job->count == 0))
        job_free(job);
    else
        *out = job;
    return rc;
}

syna_rc postings_prepare(const struct postings *p, struct postings_job **out)
{
    return prepare(p, seal_due(p), false, out);
}

/* Rows below `sealed` are not fresh any more. */
static void forget_fresh(struct postings *p, uint32_t sealed)
{
    uint32_t rows = sealed - p->sealed, left = p->count - sealed;
    p->fresh_values = left ? p->fresh_values / (rows + left) * left : 0;
    p->sealed = sealed;
    if (p->kind == POSTINGS_WEIGHTS)
        return;
    struct fresh_row *fresh = (void *)p->fresh_rows.bytes;
    size_t gone = left ? fresh[rows].at : p->fresh.len;
    memmove(p->fresh.bytes, p->fresh.bytes + gone, p->fresh.len - gone);
    p->fresh.len -= gone;
    memmove(fresh, fresh + rows, left * sizeof *fresh);
    p->fresh_rows.len = left * sizeof *fresh;
    for (uint32_t i = 0; i < left; i++)
        fresh[i].at -= gone;
}

static void install_seal(struct postings *p, struct postings_job *job)
{
    uint32_t sealed = job->window.first + job->window.rows;
    struct window *old = p->windows;
    if (p->window_count)
        memcpy(job->room, old, p->window_count * sizeof *old);
    p->windows = job->room;
    job->room = old; /* freed with the job */
    if (!job->empty) {
        p->windows[p->window_count++] = job->window;
        job->window = (struct window){0};
    }
    forget_fresh(p, sealed);
}

static void install_join(struct postings *p, struct postings_job *job)
{
    struct window *at = &p->windows[job->first];
    uint32_t behind = job->first + job->count, kept = job->empty ? 0 : 1;
    for (uint32_t i = 0; i < job->count; i++)
        window_dispose(&at[i]);
    if (kept) {
        *at = job->window;
        job->window = (struct window){0};
    }
    memmove(at + kept, p->windows + behind, (p->window_count - behind) * sizeof *at);
    p->window_count -= job->count - kept;
}

void postings_install(struct postings *p, struct postings_job *job)
{
    if (!job)
        return;
    job->window.live = postings_live_in(p, job->window.first, job->window.rows);
    if (job->kind == JOB_SEAL)
        install_seal(p, job);
    else
        install_join(p, job);
    job_free(job);
}

syna_rc postings_settle(struct postings *p)
{
    struct postings_job *job;
    do {
        SYNA_TRY(prepare(p, p->count > p->sealed, true, &job));
        postings_install(p, job);
    } while (job);
    return SYNA_SUCCESS;
}
