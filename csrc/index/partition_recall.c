/* partition_recall.c - how many lists find what share of the nearest rows, measured on the rows.
 *
 * Queries are rows of the store without themselves. For every one of the true nearest it is counted at
 * which place of the query's order of lists the list stands that has it: the sum up to a place is the
 * recall of so many lists, for every number at once. The same sums are made for each class of queries
 * (partition_class.c), and for queries that are stopped before that list because the ones up to it have
 * too many rows. What it costs is to scan all codes for QUERIES of them.
 *
 * Before that it is found out how few wells a query that looks into few lists can be compared with
 * (partition_rank.c): a quarter, half or all of them.
 *
 * A search also loses rows of lists that it looks into when their codes are wrong by more than it takes as
 * possible (partition_search.c). The truth is found in the same way, so some queries ask for it once more
 * with all that is possible. If that finds other rows the truth is exact search, and so are from then on
 * searches in the lists that they look into: what the curves say is what is found. */
#include "base/internal.h"

#include "index/partition_core.h"
#include <synadb/vector.h>

#include <float.h>
#include <math.h>

#define QUERIES 512u
#define BLOCK_ROWS 128u
#define FAR_EVERY 2u /* of so many queries one is asked for MOST_NEAREST rows */
#define SURE_EVERY 8u /* of so many queries one asks again */
#define SURE_LOST 0.002 /* of their nearest: as much as the curves may be wrong by */
#define SHARE_EVERY 2u
#define SHARE_LOST 0.002 /* of them: as much may be missed because a query is compared with a part of the wells */
#define NO_WELL UINT32_MAX
#define NO_PLACE UINT32_MAX

#define MOST_NEAREST 100u
const uint32_t partition_curve_ks[PARTITION_CURVES] = {10, MOST_NEAREST};

/* What is known of a query: at which places the lists of its nearest rows come, and how hard it is. */
struct places {
    uint32_t count, at[MOST_NEAREST];
    bool reached[MOST_NEAREST]; /* by a query that is stopped */
    float hardness[PARTITION_CURVES];
};

struct measuring {
    const struct partition *p;
    const struct row_set *set;
    uint32_t rows[QUERIES]; /* that are queries */
    uint32_t count;
    float *queries;
    struct topk tops[QUERIES];
    uint32_t *well_of; /* PARTITION_COPIES a row */
    struct well_ranking all; /* wells for one query, by number */
    struct well_ranking near; /* those that it is compared with when it looks into few */
    uint32_t *ranked;  /* all wells, nearest first */
    uint32_t *place_of; /* of each well for one query, where it was asked for, else NO_PLACE */
    struct places *places; /* of each query */
    uint32_t share; /* of the wells, in `near` */
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

/* Every other query is for the first curve only: nearest rows far out are what most of the time goes to. */
static uint32_t nearest_of(uint32_t q)
{
    return q % FAR_EVERY ? partition_curve_ks[0] : MOST_NEAREST;
}

static syna_rc search_all(struct measuring *m, const uint64_t *live, bool exact)
{
    for (uint32_t q = 0; q < m->count; q++) /* one more: the query itself */
        topk_init(&m->tops[q], nearest_of(q) + 1, FLT_MAX);
    SYNA_TRY(partition_search_all(m->p, m->set, m->well_of, m->queries, m->count, exact, live, m->tops));
    for (uint32_t q = 0; q < m->count; q++)
        topk_sort(&m->tops[q]);
    return SYNA_SUCCESS;
}

/* Those of the exact nearest that are not in the truth, as numbers: of equally near rows any will do. */
static uint32_t missing(const struct topk *truth, const struct topk *exact)
{
    uint32_t missing = 0;
    for (size_t i = 0; i < exact->count; i++)
        missing += i >= truth->count || truth->items[i].rank > exact->items[i].rank;
    return missing;
}

/* Whether the truth is what looking at all that is possible finds. */
static syna_rc try_truth(struct measuring *m, const uint64_t *live, bool *sound)
{
    uint32_t dims = m->p->codes.dims, count = 0, lost = 0, wanted = 0;
    struct topk exact[QUERIES / SURE_EVERY];
    float *queries = mem_alloc(QUERIES / SURE_EVERY * (size_t)dims * sizeof *queries);
    if (!queries)
        return syna_no_memory(QUERIES / SURE_EVERY * (size_t)dims * sizeof *queries);
    for (uint32_t q = 1; q < m->count; q += SURE_EVERY, count++) {
        memcpy(queries + (size_t)count * dims, m->queries + (size_t)q * dims, dims * sizeof *queries);
        topk_init(&exact[count], m->tops[q].k, FLT_MAX);
    }
    syna_rc rc = partition_search_all(m->p, m->set, m->well_of, queries, count, true, live, exact);
    for (uint32_t i = 0; i < count; i++) {
        topk_sort(&exact[i]);
        lost += missing(&m->tops[1 + i * SURE_EVERY], &exact[i]);
        wanted += (uint32_t)exact[i].count;
        topk_dispose(&exact[i]);
    }
    mem_free(queries);
    *sound = lost <= SURE_LOST * wanted;
    return rc;
}

static syna_rc find_truth(struct measuring *m, const uint64_t *live)
{
    bool sound = true;
    SYNA_TRY(search_all(m, live, false));
    SYNA_TRY(try_truth(m, live, &sound));
    m->out->certain = !sound;
    if (sound)
        return SYNA_SUCCESS;
    for (uint32_t q = 0; q < m->count; q++)
        topk_dispose(&m->tops[q]);
    return search_all(m, live, true);
}

/* ---------------------------------------------------------------- places */

static bool comes_first(const struct measuring *m, uint32_t a, uint32_t b)
{
    const int32_t *keys = m->all.keys;
    return keys[a] < keys[b] || (keys[a] == keys[b] && a < b);
}

/* Among the wells that were compared; of one that was not, UINT32_MAX. */
static uint32_t place_among(const struct measuring *m, const struct well_ranking *compared, uint32_t well)
{
    uint32_t place = 0;
    bool is_there = false;
    for (uint32_t i = 0; i < compared->count; i++) {
        place += comes_first(m, compared->wells[i], well);
        is_there |= compared->wells[i] == well;
    }
    return is_there ? place : UINT32_MAX;
}

/* The place at which a search looks into the list: where it looks into more than that, it is compared with all
 * wells. Near rows are in few lists: each one's place is found once a query. */
static uint32_t list_place(const struct measuring *m, uint32_t well)
{
    uint32_t most = partition_near_most(m->p), place;
    if (m->place_of[well] != NO_PLACE)
        return m->place_of[well];
    place = place_among(m, &m->near, well);
    if (m->share > 1 && place >= most)
        place = MAX(place_among(m, &m->all, well), most);
    return m->place_of[well] = place;
}

/* Of the first list that has the row. */
static uint32_t place_of(const struct measuring *m, uint32_t row)
{
    const uint32_t *wells = m->well_of + PARTITION_COPIES * (size_t)row;
    uint32_t first = list_place(m, wells[0]);
    return wells[1] == NO_WELL ? first : MIN(first, list_place(m, wells[1]));
}

/* The same if all wells were compared. */
static uint32_t place_among_all(const struct measuring *m, uint32_t row)
{
    const uint32_t *wells = m->well_of + PARTITION_COPIES * (size_t)row;
    uint32_t first = place_among(m, &m->all, wells[0]);
    return wells[1] == NO_WELL ? first : MIN(first, place_among(m, &m->all, wells[1]));
}

static void note_places(struct measuring *m, uint32_t q)
{
    struct places *places = &m->places[q];
    const struct partition *p = m->p;
    memset(m->place_of, 0xff, p->count * sizeof *m->place_of);
    partition_rank(m->all.keys, p->count, p->count, m->ranked);
    uint32_t stop = partition_within(p, m->ranked, p->count, partition_stop(p));
    for (size_t i = 0; i < m->tops[q].count && places->count < nearest_of(q); i++) {
        uint32_t row = m->tops[q].items[i].row, at = places->count;
        if (row == m->rows[q] || m->well_of[PARTITION_COPIES * (size_t)row] == NO_WELL)
            continue;
        places->at[at] = place_of(m, row);
        places->reached[at] = places->at[at] < stop;
        places->count++;
    }
}

/* ---------------------------------------------------------------- hardness */

/* As a search sees them, without the query's own row. */
static void feel_rows(const struct measuring *m, const struct code_query *code, const uint32_t *rows,
                      const uint8_t *codes, uint32_t count, struct nearest_codes *near)
{
    int32_t integers[BLOCK_ROWS];
    size_t stride = m->p->codes.stride;
    for (uint32_t first = 0; first < count; first += BLOCK_ROWS) {
        uint32_t some = MIN(count - first, BLOCK_ROWS);
        codes_scan(&m->p->codes, m->set->kernels, code, codes + first * stride, some, integers);
        for (size_t c = 0; c < PARTITION_CURVES; c++)
            nearest_codes_take(&near[c], integers, rows + first, some);
    }
}

static void note_hardness(struct measuring *m, uint32_t q, const struct code_query *code)
{
    struct nearest_codes near[PARTITION_CURVES];
    uint32_t ranked = MIN(CLASS_YARD + 1, m->near.count);
    partition_rank(m->near.keys, m->near.count, ranked, m->near.order);
    int32_t yard = partition_first_lists(&m->near, ranked);
    for (size_t c = 0; c < PARTITION_CURVES; c++)
        nearest_codes_init(&near[c], partition_curve_ks[c], m->rows[q]);
    for (uint32_t i = 0; i < MIN(CLASS_LISTS, ranked); i++) {
        const struct well *w = &m->p->wells[m->near.wells[m->near.order[i]]];
        feel_rows(m, code, w->head_rows, w->head_codes, w->head_count, near);
        feel_rows(m, code, w->rows, w->codes, w->count, near);
    }
    for (size_t c = 0; c < PARTITION_CURVES; c++)
        m->places[q].hardness[c] = partition_hardness(code, &near[c], yard);
}

static void ask(struct measuring *m, uint32_t q, uint8_t *room, struct code_query *code)
{
    const struct codes *codes = &m->p->codes;
    const struct kernels *kernels = m->set->kernels;
    codes_query(codes, kernels, m->queries + (size_t)q * codes->dims, room, code);
    partition_compare_near(m->p, kernels, code, 1, &m->all);
    partition_compare_near(m->p, kernels, code, m->share, &m->near);
}

static void look_at_query(struct measuring *m, uint32_t q, uint8_t *room)
{
    struct code_query code;
    ask(m, q, room, &code);
    note_places(m, q);
    note_hardness(m, q, &code);
}

/* ---------------------------------------------------------------- the share of the wells */

/* Of the query's nearest, those that a search in few lists finds when it is compared with all wells; *less: not
 * when it is compared with a share of them. */
static uint32_t count_found(struct measuring *m, uint32_t q, uint32_t *less)
{
    uint32_t most = partition_near_most(m->p), found = 0;
    memset(m->place_of, 0xff, m->p->count * sizeof *m->place_of);
    for (size_t i = 0; i < m->tops[q].count && i <= partition_curve_ks[0]; i++) {
        uint32_t row = m->tops[q].items[i].row;
        if (row == m->rows[q] || m->well_of[PARTITION_COPIES * (size_t)row] == NO_WELL)
            continue;
        uint32_t near = place_of(m, row), all = place_among_all(m, row);
        found += all < most;
        *less += all < most && near >= most;
    }
    return found;
}

/* The smallest part of the wells that loses hardly anything. */
static void choose_share(struct measuring *m, uint8_t *room)
{
    struct code_query code;
    m->share = m->p->groups.count ? PARTITION_SHARE_MOST : 1;
    for (; m->share > 1; m->share /= 2) {
        uint32_t found = 0, less = 0;
        for (uint32_t q = 0; q < m->count; q += SHARE_EVERY) {
            ask(m, q, room, &code);
            found += count_found(m, q, &less);
        }
        if (less <= SHARE_LOST * found)
            break;
    }
    m->out->near_share = m->share;
}

/* ---------------------------------------------------------------- curves */

static int by_value(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* As many of the queries in each class, but for equally hard ones, which are in one. */
static void part_classes(const struct measuring *m, size_t c, float *bounds)
{
    float sorted[QUERIES];
    uint32_t count = 0;
    for (uint32_t q = 0; q < m->count; q++)
        if (nearest_of(q) >= partition_curve_ks[c])
            sorted[count++] = m->places[q].hardness[c];
    qsort(sorted, count, sizeof *sorted, by_value);
    for (uint32_t class = 1; count > 0 && class < PARTITION_CLASSES; class++)
        bounds[class - 1] = sorted[(class * count - 1) / PARTITION_CLASSES];
}

static void make_curve(const struct measuring *m, size_t c)
{
    struct probe_curve *curve = &m->out->curves[c];
    part_classes(m, c, curve->bounds);
    for (uint32_t q = 0; q < m->count; q++) {
        const struct places *places = &m->places[q];
        uint32_t class = partition_class_of(curve->bounds, places->hardness[c]);
        uint32_t count = nearest_of(q) >= curve->k ? MIN(places->count, curve->k) : 0;
        for (uint32_t i = 0; i < count; i++) {
            curve->found[places->at[i]]++;
            curve->stopped[places->at[i]] += places->reached[i];
            curve->by_class[(size_t)class * curve->lists + places->at[i]]++;
        }
        curve->total += count;
        curve->totals[class] += count;
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
    if (rc == SYNA_SUCCESS)
        choose_share(m, room);
    for (uint32_t q = 0; rc == SYNA_SUCCESS && q < m->count; q++)
        look_at_query(m, q, room);
    for (size_t c = 0; rc == SYNA_SUCCESS && c < PARTITION_CURVES; c++)
        make_curve(m, c);
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
    enough = partition_ranking_init(&m->all, m->p->count);
    enough = partition_ranking_init(&m->near, m->p->count) && enough;
    m->ranked = mem_alloc(m->p->count * sizeof *m->ranked);
    m->place_of = mem_alloc(m->p->count * sizeof *m->place_of);
    m->places = mem_zalloc(QUERIES * sizeof *m->places);
    for (size_t c = 0; c < PARTITION_CURVES; c++) {
        m->out->curves[c] = (struct probe_curve){.k = partition_curve_ks[c], .lists = m->p->count};
        enough = partition_make_curve(&m->out->curves[c]) && enough;
    }
    return enough && m->queries && m->well_of && m->ranked && m->place_of && m->places;
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
    partition_ranking_dispose(&m->all);
    partition_ranking_dispose(&m->near);
    mem_free(m->ranked);
    mem_free(m->place_of);
    mem_free(m->places);
    mem_free(m);
    if (rc != SYNA_SUCCESS)
        partition_curves_dispose(out);
    return rc;
}

void partition_curves_dispose(struct partition_curves *curves)
{
    for (size_t c = 0; c < PARTITION_CURVES; c++)
        partition_free_curve(&curves->curves[c]);
}

void partition_take_curves(struct partition *p, struct partition_curves *curves)
{
    for (size_t c = 0; c < PARTITION_CURVES; c++) {
        partition_free_curve(&p->curves[c]);
        p->curves[c] = curves->curves[c];
        partition_make_steps(&p->curves[c]);
        curves->curves[c] = (struct probe_curve){.k = 0};
    }
    p->calibrated = curves->rows;
    p->certain = curves->certain;
    p->groups.share = curves->near_share;
    p->drift_measured = p->drift;
}
