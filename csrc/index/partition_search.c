/* partition_search.c - searches: the nearest lists of each query, their codes, then the full rows of what
 * the codes did not rule out (exact_seeker.c).
 *
 * A single query scans its lists one after the other, nearest first, so that its limit falls early. Of
 * many queries each scans its nearest ones; then the lists are gone through once, each with all queries
 * that want it, as matrix products.
 *
 * How much the codes can be wrong by is bounded by the lengths of what they leave out. The bound is met
 * when those point the same way; by chance a product of two such is, in d dimensions, 1 / sqrt(d) of it.
 * Unless the result has to be certain, SIGMAS times that is taken as the bound. Where rows have a few
 * elements far beyond what a code can say, it is not by chance, which the measuring finds out
 * (partition_recall.c): then every search takes the bound itself. */
#include "base/internal.h"

#include "index/exact_core.h"
#include "index/partition_core.h"
#include <synadb/vector.h>

#include <float.h>
#include <math.h>

#define BLOCK_ROWS 128u
#define WIDE_ROWS 512u  /* of one query whose limit is known: longer pieces of memory come quicker */
#define BATCH 256u      /* queries that go through the lists together */
#define BATCH_LEAST 8u  /* fewer go one by one */
#define SHARED_LEAST 4u /* queries that make a product with a list worth while */
#define ALONE_SHARE 256u /* of its lists a query of many looks at this part alone, for an early limit */
#define LINE_ROWS 16u /* row numbers that memory brings at once */
#define NO_ROW UINT32_MAX
#define CACHE_LINE 64u
#define PREFETCH_BYTES 1024u /* of a list; the processor follows the rest by itself */
#define MET_FIRST 512u
#define SIGMAS 6.0

/* Rows that one query is still to look at. */
struct pending {
    uint32_t rows[WIDE_ROWS];
    int32_t integers[WIDE_ROWS];
    uint32_t count;
};

struct searching {
    const struct partition *p;
    const struct row_set *set;
    const struct partition_reach *reach;
    const uint64_t *chosen;
    const uint32_t *wells; /* PARTITION_COPIES a row: in products only its first list has it; NULL: all */
    float doubt; /* share of an error that is taken as possible */
    bool feeling; /* codes that are scanned say how hard the query is */
    struct nearest_codes felt;
    struct pending pending;
    struct partition_visits visits;
};

/* Rows that a query has met, by linear probing: a row stands in two lists, and counts once. */
struct met {
    uint32_t *rows; /* NO_ROW = free */
    uint32_t count, cap;
};

/* One query: what it found so far, and where it is to look. */
struct hunter {
    struct seeker seeker;
    struct met met;
    uint32_t *lists;
    uint32_t probes;
    uint32_t alone; /* of its lists those that a query of many looked into by itself */
    int32_t yard;   /* partition_first_lists */
};

/* ---------------------------------------------------------------- ranking lists */

static void rank_lists(const struct searching *s, struct hunter *h, struct well_ranking *r)
{
    const struct partition *p = s->p;
    partition_rank_near(p, s->set->kernels, &h->seeker.code, h->probes, r);
    if (s->reach->nearest)
        h->yard = partition_first_lists(r, h->probes);
    partition_ranked_wells(r, h->probes, h->lists);
    if (s->reach->codes > 0)
        h->probes = partition_within(p, h->lists, h->probes, s->reach->codes);
}

/* ---------------------------------------------------------------- rows met */

static bool met_put(struct met *met, uint32_t row)
{
    uint32_t mask = met->cap - 1, at = row * 0x9e3779b1u >> 7 & mask;
    while (met->rows[at] != NO_ROW && met->rows[at] != row)
        at = (at + 1) & mask;
    bool is_new = met->rows[at] == NO_ROW;
    met->rows[at] = row;
    met->count += is_new;
    return is_new;
}

static bool met_grow(struct met *met)
{
    struct met more = {.cap = met->cap ? met->cap * 4 : MET_FIRST};
    if (met->cap && met->count < met->cap / 2)
        return true;
    more.rows = mem_alloc(more.cap * sizeof *more.rows);
    if (!more.rows)
        return false;
    memset(more.rows, 0xff, more.cap * sizeof *more.rows);
    for (uint32_t i = 0; i < met->cap; i++)
        if (met->rows[i] != NO_ROW)
            met_put(&more, met->rows[i]);
    mem_free(met->rows);
    *met = more;
    return true;
}

/* ---------------------------------------------------------------- one list, one query */

static bool is_chosen(const struct searching *s, uint32_t row)
{
    return !s->chosen || (s->chosen[row / 64] >> row % 64 & 1);
}

static bool look_at(const struct searching *s, struct hunter *h, uint32_t row, int32_t integer)
{
    if (!is_chosen(s, row))
        return true;
    if (!met_grow(&h->met))
        return false;
    if (!met_put(&h->met, row))
        return true;
    float error = *(const float *)array_at(&s->p->errors, row) * s->doubt;
    float norm = s->p->codes.metric == SYNA_METRIC_DOT_PRODUCT /* others need none */
                     ? *(const float *)array_at(&s->set->norms, row)
                     : 0;
    return seeker_suspect(&h->seeker, row, integer, error, norm);
}

static bool look_at_pending(struct searching *s, struct hunter *h)
{
    for (uint32_t i = 0; i < s->pending.count; i++)
        if (!look_at(s, h, s->pending.rows[i], s->pending.integers[i]))
            return false;
    s->pending.count = 0;
    return true;
}

static void put_off(struct searching *s, uint32_t row, int32_t integer)
{
    struct pending *pending = &s->pending;
    __builtin_prefetch(array_at(&s->p->errors, row));
    if (s->chosen)
        __builtin_prefetch(&s->chosen[row / 64]);
    pending->rows[pending->count] = row;
    pending->integers[pending->count++] = integer;
}

static int32_t limit_for(const struct searching *s, const struct seeker *seeker,
                         const struct well *w)
{
    return codes_limit(&seeker->code_limit, w->error * s->doubt, w->norm);
}

/* What a block's codes did not rule out is looked at behind the next block's codes, when its errors have
 * come from memory. Blocks are short until there is a limit, which is then there early. */
static bool scan_rows(struct searching *s, struct hunter *h, const struct well *w,
                      const uint32_t *rows, const uint8_t *codes, uint32_t count)
{
    int32_t integers[WIDE_ROWS], limits[WIDE_ROWS];
    uint32_t within[WIDE_ROWS];
    for (uint32_t first = 0, some; first < count; first += some) {
        some = MIN(count - first, h->seeker.limit < FLT_MAX ? WIDE_ROWS : BLOCK_ROWS);
        for (uint32_t i = 0; i < some; i += LINE_ROWS)
            __builtin_prefetch(rows + first + i);
        codes_scan(&s->p->codes, s->set->kernels, &h->seeker.code,
                   codes + (size_t)first * s->p->codes.stride, some, integers);
        if (s->feeling)
            nearest_codes_take(&s->felt, integers, rows + first, some);
        if (!look_at_pending(s, h))
            return false;
        int32_t limit = limit_for(s, &h->seeker, w);
        for (uint32_t i = 0; i < some; i++)
            limits[i] = limit;
        size_t found = s->set->kernels->int8->within(integers, limits, some, within);
        for (size_t i = 0; i < found; i++)
            put_off(s, rows[first + within[i]], integers[within[i]]);
    }
    return true;
}

static bool scan_list(struct searching *s, struct hunter *h, uint32_t list)
{
    const struct well *w = &s->p->wells[list];
    s->visits.lists++;
    s->visits.codes += well_rows(w);
    return scan_rows(s, h, w, w->head_rows, w->head_codes, w->head_count) &&
           scan_rows(s, h, w, w->rows, w->codes, w->count);
}

/* Lists lie anywhere: the beginning of the next one is asked for while this one is scanned. */
static void prefetch_list(const struct partition *p, uint32_t list)
{
    const struct well *w = &p->wells[list];
    const uint8_t *codes = w->head_count ? w->head_codes : w->codes;
    const uint32_t *rows = w->head_count ? w->head_rows : w->rows;
    if (well_rows(w) == 0)
        return;
    __builtin_prefetch(rows);
    for (uint32_t at = 0; at < PREFETCH_BYTES; at += CACHE_LINE)
        __builtin_prefetch(codes + at);
}

/* Where the list after that lies. */
static void prefetch_well(const struct partition *p, uint32_t list)
{
    const char *w = (const char *)&p->wells[list];
    __builtin_prefetch(w);
    __builtin_prefetch(w + sizeof *p->wells - 1);
}

/* The query's lists at places [from, to). */
static bool scan_lists(struct searching *s, struct hunter *h, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        if (i + 2 < to)
            prefetch_well(s->p, h->lists[i + 2]);
        if (i + 1 < to)
            prefetch_list(s->p, h->lists[i + 1]);
        if (!scan_list(s, h, h->lists[i]))
            return false;
    }
    return look_at_pending(s, h);
}

/* The first `least` lists at least, and those that say how hard it is: then it is known how many there are
 * to be. Returns how many it looked into, 0 = no memory. */
static uint32_t scan_first_lists(struct searching *s, struct hunter *h, uint32_t least)
{
    if (!s->reach->nearest)
        return scan_lists(s, h, 0, least) ? least : 0;
    uint32_t first = MIN(CLASS_LISTS, h->probes);
    nearest_codes_init(&s->felt, s->reach->nearest, NO_ROW);
    s->feeling = true;
    bool enough = scan_lists(s, h, 0, first);
    s->feeling = false;
    float hardness = partition_hardness(&h->seeker.code, &s->felt, h->yard);
    uint32_t lists = s->reach->by_class[partition_class_of(s->reach->bounds, hardness)];
    h->probes = MAX(MIN(lists, h->probes), first);
    return enough ? first : 0;
}

/* ---------------------------------------------------------------- one list, many queries */

/* Queries that want a list, as columns of a product. */
struct shared {
    struct hunter *hunters[BATCH];
    size_t count;
    uint8_t *columns;  /* stride each */
    void *room;
    int32_t *integers; /* BLOCK_ROWS x BATCH */
};

static void shared_free(struct shared *shared)
{
    if (!shared)
        return;
    mem_free_aligned(shared->columns);
    mem_free_aligned(shared->room);
    mem_free_aligned(shared->integers);
    mem_free(shared);
}

static struct shared *shared_new(size_t stride)
{
    struct shared *shared = mem_zalloc(sizeof *shared);
    if (!shared)
        return NULL;
    shared->columns = mem_alloc_aligned(BATCH * stride, 64);
    shared->room = mem_alloc_aligned(int8_room(BATCH, stride), 64);
    shared->integers = mem_alloc_aligned((size_t)BLOCK_ROWS * BATCH * sizeof(int32_t), 64);
    if (shared->columns && shared->room && shared->integers)
        return shared;
    shared_free(shared);
    return NULL;
}

/* Columns are made of rows, and a query's code is a negated one, except for differences. */
static void pack_columns(const struct searching *s, struct shared *shared, struct int8_panels *out)
{
    size_t stride = s->p->codes.stride;
    bool difference = s->p->codes.metric == SYNA_METRIC_EUCLIDEAN;
    const uint8_t *pointers[BATCH];
    for (size_t q = 0; q < shared->count; q++) {
        uint8_t *column = shared->columns + q * stride;
        const uint8_t *code = shared->hunters[q]->seeker.code.bytes;
        pointers[q] = column;
        for (size_t i = 0; i < stride; i++)
            column[i] = difference ? code[i] : (uint8_t)(128 - code[i]);
    }
    int8_pack(s->set->kernels->int8, difference, pointers, shared->count, stride, shared->room, out);
}

/* Rows of a list for one product. */
struct rows_block {
    const uint8_t *codes[BLOCK_ROWS];
    uint32_t rows[BLOCK_ROWS];
    uint32_t count;
};

/* From row `at` of `count` on; how far it came. */
static uint32_t next_rows(const struct searching *s, uint32_t list, const uint32_t *rows,
                          const uint8_t *codes, uint32_t at, uint32_t count, struct rows_block *b)
{
    for (b->count = 0; at < count && b->count < BLOCK_ROWS; at++) {
        if (s->wells && s->wells[PARTITION_COPIES * (size_t)rows[at]] != list)
            continue;
        b->codes[b->count] = codes + (size_t)at * s->p->codes.stride;
        b->rows[b->count++] = rows[at];
    }
    return at;
}

static bool multiply_rows(const struct searching *s, struct shared *shared,
                          const struct int8_panels *panels, uint32_t list, const uint32_t *rows,
                          const uint8_t *codes, uint32_t count)
{
    struct rows_block b;
    int32_t limits[BATCH];
    uint32_t within[BATCH];
    for (uint32_t at = 0; at < count;) {
        at = next_rows(s, list, rows, codes, at, count, &b);
        s->set->kernels->int8->tile(panels, 0, b.codes, b.count, shared->integers, BATCH);
        for (size_t q = 0; q < shared->count; q++)
            limits[q] = limit_for(s, &shared->hunters[q]->seeker, &s->p->wells[list]);
        for (uint32_t i = 0; i < b.count; i++) {
            const int32_t *integers = shared->integers + (size_t)i * BATCH;
            size_t found =
                s->set->kernels->int8->within(integers, limits, shared->count, within);
            for (size_t f = 0; f < found; f++)
                if (!look_at(s, shared->hunters[within[f]], b.rows[i], integers[within[f]]))
                    return false;
        }
    }
    return true;
}

static bool multiply_list(struct searching *s, struct shared *shared, uint32_t list)
{
    const struct well *w = &s->p->wells[list];
    struct int8_panels panels;
    if (shared->count < SHARED_LEAST) {
        for (size_t q = 0; q < shared->count; q++)
            if (!scan_list(s, shared->hunters[q], list) || !look_at_pending(s, shared->hunters[q]))
                return false;
        return true;
    }
    s->visits.lists += shared->count;
    s->visits.codes += (uint64_t)well_rows(w) * shared->count;
    pack_columns(s, shared, &panels);
    return multiply_rows(s, shared, &panels, list, w->head_rows, w->head_codes, w->head_count) &&
           multiply_rows(s, shared, &panels, list, w->rows, w->codes, w->count);
}

/* Who wants which list, without each query's first ones: wants[starts[l]] .. are numbers of hunters. */
static void list_wants(const struct searching *s, const struct hunter *hunters, size_t count,
                       uint32_t *starts, uint32_t *wants)
{
    uint32_t wells = s->p->count;
    memset(starts, 0, ((size_t)wells + 2) * sizeof *starts);
    for (size_t q = 0; q < count; q++)
        for (uint32_t i = hunters[q].alone; i < hunters[q].probes; i++)
            starts[hunters[q].lists[i] + 2]++;
    for (uint32_t l = 2; l <= wells; l++)
        starts[l] += starts[l - 1];
    for (size_t q = 0; q < count; q++)
        for (uint32_t i = hunters[q].alone; i < hunters[q].probes; i++)
            wants[starts[hunters[q].lists[i] + 1]++] = (uint32_t)q;
}

static size_t wants_of(const struct hunter *hunters, size_t count)
{
    size_t wants = 0;
    for (size_t q = 0; q < count; q++)
        wants += hunters[q].probes;
    return wants;
}

static bool hunt_together(struct searching *s, struct hunter *hunters, size_t count)
{
    uint32_t wells = s->p->count;
    struct shared *shared = shared_new(s->p->codes.stride);
    uint32_t *starts = mem_alloc(((size_t)wells + 2) * sizeof *starts);
    uint32_t *wants = mem_alloc(MAX(wants_of(hunters, count), (size_t)1) * sizeof *wants);
    bool enough = shared && starts && wants;
    for (size_t q = 0; enough && q < count; q++) {
        hunters[q].alone = scan_first_lists(s, &hunters[q], 1 + hunters[q].probes / ALONE_SHARE);
        enough = hunters[q].alone > 0;
    }
    if (enough)
        list_wants(s, hunters, count, starts, wants);
    for (uint32_t l = 0; enough && l < wells; l++) {
        shared->count = 0;
        for (uint32_t i = starts[l]; i < starts[l + 1]; i++)
            shared->hunters[shared->count++] = &hunters[wants[i]];
        enough = multiply_list(s, shared, l);
    }
    shared_free(shared);
    mem_free(starts);
    mem_free(wants);
    return enough;
}

/* ---------------------------------------------------------------- the search */

static bool hunt_alone(struct searching *s, struct hunter *h)
{
    uint32_t first = scan_first_lists(s, h, 1);
    return first > 0 && scan_lists(s, h, first, h->probes);
}

/* Codes say nothing about this query: its lists' rows are all scored. */
static bool score_lists(struct searching *s, struct hunter *h)
{
    for (uint32_t w = 0; w < s->p->count; w++) {
        const struct well *well = &s->p->wells[w];
        for (uint32_t i = 0; i < well_rows(well); i++) {
            uint32_t row = i < well->head_count ? well->head_rows[i]
                                                : well->rows[i - well->head_count];
            if (!met_grow(&h->met))
                return false;
            if (is_chosen(s, row) && met_put(&h->met, row) && !seeker_score(&h->seeker, &row, 1))
                return false;
        }
    }
    return true;
}

static bool hunt(struct searching *s, struct hunter *hunters, size_t count, struct hunter *plain,
                 size_t plain_count)
{
    bool enough = true;
    if (count >= BATCH_LEAST)
        enough = hunt_together(s, hunters, count);
    for (size_t q = 0; enough && count < BATCH_LEAST && q < count; q++)
        enough = hunt_alone(s, &hunters[q]);
    for (size_t q = 0; enough && q < count; q++)
        enough = seeker_settle(&hunters[q].seeker);
    for (size_t q = 0; enough && q < plain_count; q++)
        enough = score_lists(s, &plain[q]);
    return enough;
}

struct rooms {
    struct hunter *hunters;
    uint8_t *codes;  /* stride a query */
    uint32_t *lists; /* probes a query */
    struct well_ranking ranking;
};

static void rooms_free(struct rooms *r)
{
    mem_free(r->hunters);
    mem_free_aligned(r->codes);
    mem_free(r->lists);
    partition_ranking_dispose(&r->ranking);
}

static bool rooms_make(struct rooms *r, const struct partition *p, size_t count, uint32_t probes)
{
    r->hunters = mem_zalloc(count * sizeof *r->hunters);
    r->codes = mem_alloc_aligned(count * p->codes.stride, 64);
    r->lists = mem_alloc(count * probes * sizeof *r->lists);
    return partition_ranking_init(&r->ranking, p->count) && r->hunters && r->codes && r->lists;
}

/* At most BATCH queries. Those that codes say nothing about go to the end of the hunters. */
static bool search_some(struct searching *s, const float *queries, size_t count, uint32_t probes,
                        struct topk *tops)
{
    const struct partition *p = s->p;
    struct rooms r = {.hunters = NULL};
    bool enough = rooms_make(&r, p, count, probes);
    size_t used = 0, plain = 0;
    for (size_t q = 0; enough && q < count; q++) {
        if (tops[q].k == 0)
            continue;
        struct hunter h = {.lists = r.lists + q * probes, .probes = probes};
        seeker_init(&h.seeker, s->set, queries + q * p->codes.dims, r.codes + q * p->codes.stride,
                    &tops[q], p->rows);
        if (h.seeker.plain) {
            r.hunters[count - ++plain] = h;
            continue;
        }
        h.seeker.code.error *= s->doubt;
        rank_lists(s, &h, &r.ranking);
        r.hunters[used++] = h;
    }
    enough = enough && hunt(s, r.hunters, used, r.hunters + (count - plain), plain);
    for (size_t q = 0; r.hunters && q < count; q++) {
        s->visits.full += r.hunters[q].seeker.scored;
        seeker_dispose(&r.hunters[q].seeker);
        mem_free(r.hunters[q].met.rows);
    }
    rooms_free(&r);
    return enough;
}

static syna_rc search(struct searching *s, const float *queries, size_t count,
                      const struct partition_reach *reach, struct topk *tops)
{
    const struct partition *p = s->p;
    bool enough = true;
    uint32_t probes = MIN(MAX(reach->lists, reach->nearest ? CLASS_YARD + 1 : 1u), p->count);
    s->reach = reach;
    s->doubt = reach->exact || p->certain ? 1 : (float)MIN(1.0, SIGMAS / sqrt((double)p->codes.dims));
    for (size_t q = 0; enough && q < count; q += BATCH)
        enough = search_some(s, queries + q * p->codes.dims, MIN(count - q, (size_t)BATCH), probes,
                             tops + q);
    return enough ? SYNA_SUCCESS : syna_no_memory(BATCH * p->codes.stride);
}

syna_rc partition_search(const struct partition *p, const struct row_set *set, const float *queries,
                         size_t count, const struct partition_reach *reach, const uint64_t *chosen,
                         struct topk *tops, struct partition_visits *visits)
{
    struct searching s = {.p = p, .set = set, .chosen = chosen};
    syna_rc rc = search(&s, queries, count, reach, tops);
    if (visits) {
        visits->lists += s.visits.lists;
        visits->codes += s.visits.codes;
        visits->full += s.visits.full;
    }
    return rc;
}

syna_rc partition_search_all(const struct partition *p, const struct row_set *set,
                             const uint32_t *wells, const float *queries, size_t count, bool exact,
                             const uint64_t *chosen, struct topk *tops)
{
    struct searching s = {.p = p, .set = set, .chosen = chosen, .wells = wells};
    struct partition_reach reach = {.lists = p->count, .exact = exact};
    return search(&s, queries, count, &reach, tops);
}
