/* partition_recall.c - how many lists find what share of the nearest rows, measured on the rows.
 *
 * Queries are rows of the store without themselves. Their truth is exact search. For every one of the
 * true nearest it is counted at which place of the query's order of lists the list stands that has it:
 * the sum up to a place is the recall of so many lists, for every number at once. */
#include "base/internal.h"

#include "index/partition_core.h"
#include <synadb/vector.h>

#include <float.h>
#include <math.h>

#define QUERIES 320u
#define NO_WELL UINT32_MAX
#define MARGIN 0.009 /* queries of users are a little harder than rows of the store */

/* What the seeds promise for nprobe, and what is aimed at. */
#define PROBES_GOOD 50u
#define PROBES_FULL 100u
#define RECALL_GOOD 0.989
#define RESERVE 1.1 /* times the lists measured */
#define RESERVE_FULL 1.4 /* times those in which the measuring saw all of them */
#define UNMEASURED 2.0 /* times the share of rows in lists where the measuring saw none of them */
/* Where less is enough, PROBES_GOOD looks into no more than this share of the lists: a quarter of the
 * rows, because each stands in two lists and the lists near a query are the longer ones. */
#define RECALL_ENOUGH 0.985
#define SHARE_GOOD 0.08
/* Which rows come first decides how long the lists near a query are. So where a share of the lists that is
 * not far above that is enough, a query stops at a quarter of the rows: fresh ones and rounding included. */
#define SHARE_STOPPED 0.12
#define ROWS_GOOD 0.245

static const uint32_t curve_ks[PARTITION_CURVES] = {10, 100};

struct measuring {
    const struct partition *p;
    const struct row_set *set;
    uint32_t rows[QUERIES]; /* that are queries */
    uint32_t count;
    float *queries;
    struct topk tops[QUERIES];
    uint32_t *well_of; /* PARTITION_COPIES a row */
    int32_t *keys;     /* of all wells for one query */
    struct partition_curves *out;
};

/* ---------------------------------------------------------------- queries and truth */

/* Live rows that are in lists, evenly spread. */
static void choose_rows(struct measuring *m, const uint64_t *live)
{
    uint32_t end = m->p->end;
    for (uint32_t q = 0; q < QUERIES; q++) {
        uint32_t row = (uint32_t)((uint64_t)q * end / QUERIES);
        uint32_t stop = (uint32_t)((uint64_t)(q + 1) * end / QUERIES);
        while (row < stop && (m->well_of[PARTITION_COPIES * (size_t)row] == NO_WELL ||
                              (live && !(live[row / 64] >> row % 64 & 1))))
            row++;
        if (row < stop)
            m->rows[m->count++] = row;
    }
    for (uint32_t q = 0; q < m->count; q++)
        memcpy(m->queries + (size_t)q * m->p->codes.dims,
               m->set->full(m->set->context, m->rows[q]), m->p->codes.dims * sizeof(float));
}

static void note_well(struct measuring *m, uint32_t row, uint32_t well)
{
    uint32_t *wells = m->well_of + PARTITION_COPIES * (size_t)row;
    wells[wells[0] == NO_WELL ? 0 : PARTITION_COPIES - 1] = well;
}

static void note_wells(struct measuring *m)
{
    memset(m->well_of, 0xff, (size_t)m->p->end * PARTITION_COPIES * sizeof *m->well_of);
    for (uint32_t w = 0; w < m->p->count; w++) {
        const struct well *well = &m->p->wells[w];
        for (uint32_t i = 0; i < well->head_count; i++)
            note_well(m, well->head_rows[i], w);
        for (uint32_t i = 0; i < well->count; i++)
            note_well(m, well->rows[i], w);
    }
}

static syna_rc find_truth(struct measuring *m, const uint64_t *live)
{
    for (uint32_t q = 0; q < m->count; q++) /* one more: the query itself */
        topk_init(&m->tops[q], curve_ks[PARTITION_CURVES - 1] + 1, FLT_MAX);
    SYNA_TRY(partition_search_all(m->p, m->set, m->well_of, m->queries, m->count, live, m->tops));
    for (uint32_t q = 0; q < m->count; q++)
        topk_sort(&m->tops[q]);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- places */

static bool comes_first(const struct measuring *m, uint32_t a, uint32_t b)
{
    return m->keys[a] < m->keys[b] || (m->keys[a] == m->keys[b] && a < b);
}

/* Of the first list that has the row. */
static uint32_t place_of(const struct measuring *m, uint32_t row)
{
    const uint32_t *wells = m->well_of + PARTITION_COPIES * (size_t)row;
    uint32_t place = 0, well = wells[0];
    if (wells[1] != NO_WELL && comes_first(m, wells[1], well))
        well = wells[1];
    for (uint32_t w = 0; w < m->p->count; w++)
        place += comes_first(m, w, well);
    return place;
}

static void count_query(struct measuring *m, uint32_t q, uint8_t *room)
{
    const struct codes *codes = &m->p->codes;
    const struct kernels *kernels = m->set->kernels;
    struct code_query code;
    uint32_t seen = 0;
    codes_query(codes, kernels, m->queries + (size_t)q * codes->dims, room, &code);
    codes_scan(codes, kernels, &code, m->p->centroids, m->p->count, m->keys);
    for (size_t i = 0; i < m->tops[q].count; i++) {
        uint32_t row = m->tops[q].items[i].row;
        if (row == m->rows[q] || m->well_of[PARTITION_COPIES * (size_t)row] == NO_WELL)
            continue;
        uint32_t place = place_of(m, row);
        for (size_t c = 0; c < PARTITION_CURVES; c++)
            if (seen < curve_ks[c]) {
                m->out->curves[c].found[place]++;
                m->out->curves[c].total++;
            }
        seen++;
    }
}

static syna_rc measure(struct measuring *m, const uint64_t *live)
{
    uint8_t *room = mem_alloc_aligned(m->p->codes.stride, 64);
    if (!room)
        return syna_no_memory(m->p->codes.stride);
    note_wells(m);
    choose_rows(m, live);
    syna_rc rc = find_truth(m, live);
    for (uint32_t q = 0; rc == SYNA_SUCCESS && q < m->count; q++)
        count_query(m, q, room);
    for (uint32_t q = 0; q < m->count; q++)
        topk_dispose(&m->tops[q]);
    mem_free_aligned(room);
    return rc;
}

static bool make_rooms(struct measuring *m)
{
    bool enough = true;
    m->queries = mem_alloc((size_t)QUERIES * m->p->codes.dims * sizeof(float));
    m->well_of = mem_alloc((size_t)m->p->end * PARTITION_COPIES * sizeof *m->well_of);
    m->keys = mem_alloc(m->p->count * sizeof *m->keys);
    for (size_t c = 0; c < PARTITION_CURVES; c++) {
        m->out->curves[c] = (struct probe_curve){.k = curve_ks[c], .lists = m->p->count};
        m->out->curves[c].found = mem_zalloc(m->p->count * sizeof(uint32_t));
        enough = enough && m->out->curves[c].found;
    }
    return enough && m->queries && m->well_of && m->keys;
}

syna_rc partition_measure(const struct partition *p, const struct row_set *set, const uint64_t *live,
                          uint32_t count, struct partition_curves *out)
{
    struct measuring *m = mem_zalloc(sizeof *m);
    *out = (struct partition_curves){.rows = count};
    if (!m)
        return syna_no_memory(sizeof *m);
    m->p = p;
    m->set = set;
    m->out = out;
    syna_rc rc = make_rooms(m) ? measure(m, live)
                               : syna_no_memory((size_t)p->end * PARTITION_COPIES * sizeof(uint32_t));
    mem_free(m->queries);
    mem_free(m->well_of);
    mem_free(m->keys);
    mem_free(m);
    if (rc != SYNA_SUCCESS)
        partition_curves_dispose(out);
    return rc;
}

void partition_curves_dispose(struct partition_curves *curves)
{
    for (size_t c = 0; c < PARTITION_CURVES; c++) {
        mem_free(curves->curves[c].found);
        curves->curves[c].found = NULL;
    }
}

void partition_take_curves(struct partition *p, struct partition_curves *curves)
{
    for (size_t c = 0; c < PARTITION_CURVES; c++) {
        mem_free(p->curves[c].found);
        p->curves[c] = curves->curves[c];
        curves->curves[c].found = NULL;
    }
    p->calibrated = curves->rows;
    p->drift_measured = p->drift;
}

/* ---------------------------------------------------------------- reading the curves */

static const struct probe_curve *curve_for(const struct partition *p, uint64_t k)
{
    const struct probe_curve *curve = &p->curves[k <= curve_ks[0] ? 0 : 1];
    return p->calibrated && curve->found && curve->total ? curve : NULL;
}

/* The fewest lists with a share of what was counted. */
static uint32_t lists_at(const struct probe_curve *curve, double share)
{
    double wanted = MIN(share, 1.0) * (double)curve->total;
    uint64_t found = 0;
    for (uint32_t place = 0; place < curve->lists; place++) {
        found += curve->found[place];
        if ((double)found >= wanted)
            return place + 1;
    }
    return curve->lists;
}

/* So many times the lists, for rows that came from where no query of the measuring was. */
static double unmeasured(const struct partition *p)
{
    return 1 + UNMEASURED * MAX((double)p->drift - (double)p->drift_measured, 0);
}

/* Lists of then as lists of now, which splits made more. */
static uint32_t in_lists_of_now(const struct partition *p, const struct probe_curve *curve,
                                double lists)
{
    double now = ceil(lists * p->count / curve->lists);
    return now >= p->count ? p->count : MAX((uint32_t)now, 1u);
}

uint32_t partition_lists_for(const struct partition *p, uint64_t k, float recall)
{
    const struct probe_curve *curve = curve_for(p, k);
    if (!curve || recall >= 1)
        return p->count;
    /* Of what is missing a part, so that high recalls keep a margin of their own. */
    double margin = MIN(MARGIN, (1 - (double)recall) / 4);
    double lists = lists_at(curve, (double)recall + margin) * unmeasured(p);
    if (k > curve_ks[PARTITION_CURVES - 1])
        lists *= sqrt((double)k / curve_ks[PARTITION_CURVES - 1]);
    return in_lists_of_now(p, curve, lists);
}

float partition_recall_at(const struct partition *p, uint64_t k, uint32_t lists)
{
    const struct probe_curve *curve = curve_for(p, k);
    uint64_t found = 0;
    if (lists >= p->count)
        return 1;
    if (!curve)
        return 0;
    uint32_t then = (uint32_t)((uint64_t)lists * curve->lists / p->count);
    for (uint32_t place = 0; place < MIN(then, curve->lists); place++)
        found += curve->found[place];
    return (float)((double)found / (double)curve->total);
}

uint32_t partition_lists_of(const struct partition *p, uint64_t nprobe)
{
    const struct probe_curve *curve = curve_for(p, curve_ks[0]);
    if (!curve || nprobe >= p->count)
        return p->count;
    double enough = MAX((double)lists_at(curve, RECALL_ENOUGH), SHARE_GOOD * curve->lists);
    double good = MAX(MIN(lists_at(curve, RECALL_GOOD) * RESERVE, enough), PROBES_GOOD);
    double full = MAX(lists_at(curve, 1) * RESERVE_FULL * unmeasured(p), MAX(good, PROBES_FULL));
    double lists = nprobe <= PROBES_GOOD
                       ? good * (double)nprobe / PROBES_GOOD
                   : nprobe <= PROBES_FULL
                       ? good + (full - good) * (double)(nprobe - PROBES_GOOD) /
                                    (PROBES_FULL - PROBES_GOOD)
                       : full * (double)nprobe / PROBES_FULL;
    return in_lists_of_now(p, curve, lists);
}

uint64_t partition_codes_of(const struct partition *p, uint64_t nprobe, uint32_t lists)
{
    bool stopped = nprobe <= PROBES_GOOD && (double)lists <= SHARE_STOPPED * p->count;
    return stopped ? (uint64_t)(ROWS_GOOD * p->rows) : 0;
}
