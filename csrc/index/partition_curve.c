/* partition_curve.c - what the curves that were measured (partition_recall.c) say: how many lists find what
 * share, and what that makes of `recall` and `nprobe`.
 *
 * A share of the nearest of all queries is found with the fewest lists when the last list that each class
 * looks into brings each as much. So the curve of every class is taken as its concave hull, and the edges
 * of all hulls are sorted by what they bring a list: a prefix of them is the best for some share. */
#include "base/internal.h"

#include "index/partition_core.h"

#include <math.h>

/* Queries of users are a little harder than rows of the store, also among those that look as hard. */
#define MARGIN 0.018
#define MARGIN_SHARE 1.9 /* or so much of what is missing, if that is less */

/* What the seeds promise for nprobe, and what is aimed at. */
#define PROBES_GOOD 50u
#define PROBES_FULL 100u
#define RECALL_GOOD 0.991
#define RESERVE 1.1 /* times the lists measured */
#define RESERVE_FULL 1.4 /* times those in which the measuring saw all of them */
#define UNMEASURED 2.0 /* times the share of rows in lists where the measuring saw none of them */
/* Where less is enough, PROBES_GOOD looks into no more than this share of the lists: a quarter of the
 * rows, because each stands in two lists and the lists near a query are the longer ones. */
#define RECALL_ENOUGH 0.988
#define SHARE_GOOD 0.08
/* Which rows come first decides how long the lists near a query are. So where a share of the lists that is
 * not far above that is enough, a query stops at a quarter of the rows: fresh ones and rounding included. */
#define SHARE_STOPPED 0.12
#define ROWS_GOOD 0.245
#define STOP_LOSS 0.005 /* of the nearest, as measured: where a stop misses more, queries are not stopped */

bool partition_make_curve(struct probe_curve *curve)
{
    curve->found = mem_zalloc(curve->lists * sizeof *curve->found);
    curve->stopped = mem_zalloc(curve->lists * sizeof *curve->stopped);
    curve->by_class = mem_zalloc(PARTITION_CLASSES * (size_t)curve->lists * sizeof *curve->by_class);
    return curve->found && curve->stopped && curve->by_class;
}

void partition_free_curve(struct probe_curve *curve)
{
    mem_free(curve->found);
    mem_free(curve->stopped);
    mem_free(curve->by_class);
    mem_free(curve->steps);
    *curve = (struct probe_curve){.k = curve->k};
}

static const struct probe_curve *curve_for(const struct partition *p, uint64_t k)
{
    const struct probe_curve *curve = &p->curves[k <= partition_curve_ks[0] ? 0 : 1];
    return p->calibrated && curve->found && curve->total ? curve : NULL;
}

/* The fewest of `lists` with so many of what was counted. */
static uint32_t lists_with(const uint32_t *counted, uint32_t lists, double wanted)
{
    uint64_t found = 0;
    for (uint32_t place = 0; place < lists; place++) {
        found += counted[place];
        if ((double)found >= wanted)
            return place + 1;
    }
    return lists;
}

static uint32_t lists_at(const struct probe_curve *curve, double share)
{
    return lists_with(curve->found, curve->lists, MIN(share, 1.0) * (double)curve->total);
}

/* For the queries of a class; of one that none was in, as for all. */
static uint32_t class_lists_at(const struct probe_curve *curve, uint32_t class, double share)
{
    uint64_t total = curve->totals[class];
    if (total == 0)
        return lists_at(curve, share);
    return lists_with(curve->by_class + (size_t)class * curve->lists, curve->lists,
                      MIN(share, 1.0) * (double)total);
}

/* Lists `from` to `to` of a class, which hold `gain` of what was counted. */
struct probe_step {
    uint32_t class, from, to, gain;
    double worth; /* of a list of one query */
};

static int by_worth(const void *a, const void *b)
{
    const struct probe_step *x = a, *y = b;
    if (x->worth != y->worth)
        return x->worth < y->worth ? 1 : -1;
    if (x->class != y->class)
        return x->class < y->class ? -1 : 1;
    return (x->from > y->from) - (x->from < y->from);
}

/* The hull of a class behind the lists that every query looks into; how many edges it has. */
static uint32_t hull_of(const struct probe_curve *curve, uint32_t class, struct probe_step *steps)
{
    const uint32_t *counted = curve->by_class + (size_t)class * curve->lists;
    uint32_t count = 0;
    for (uint32_t place = CLASS_LISTS; curve->totals[class] && place < curve->lists; place++) {
        struct probe_step step = {.class = class, .from = place, .to = place + 1, .gain = counted[place]};
        for (;; count--) {
            step.worth = (double)step.gain / ((step.to - step.from) * (double)curve->totals[class]);
            if (count == 0 || steps[count - 1].worth > step.worth)
                break;
            step.from = steps[count - 1].from;
            step.gain += steps[count - 1].gain;
        }
        steps[count++] = step;
    }
    if (count > 0 && steps[count - 1].gain == 0)
        count--;
    return count;
}

void partition_make_steps(struct probe_curve *curve)
{
    curve->steps = NULL;
    curve->step_count = 0;
    if (!curve->by_class || curve->lists <= CLASS_LISTS)
        return;
    curve->steps = mem_alloc(PARTITION_CLASSES * (size_t)curve->lists * sizeof *curve->steps);
    for (uint32_t class = 0; curve->steps && class < PARTITION_CLASSES; class++)
        curve->step_count += hull_of(curve, class, curve->steps + curve->step_count);
    if (curve->steps)
        qsort(curve->steps, curve->step_count, sizeof *curve->steps, by_worth);
}

/* The lists of a step that bring `wanted`. The step is a chord: its first ones may bring less than their
 * part of it. */
static uint32_t lists_of_step(const struct probe_curve *curve, const struct probe_step *step, double wanted)
{
    const uint32_t *counted = curve->by_class + (size_t)step->class * curve->lists;
    uint32_t place = step->from;
    for (double found = 0; place < step->to && found < wanted; place++)
        found += counted[place];
    return place;
}

/* The fewest lists for each class with which `share` is found. */
static void share_lists(const struct probe_curve *curve, double share, double *lists)
{
    double found = 0, wanted = share * (double)curve->total;
    for (uint32_t class = 0; class < PARTITION_CLASSES; class++) {
        const uint32_t *counted = curve->by_class + (size_t)class * curve->lists;
        lists[class] = curve->totals[class] ? CLASS_LISTS : lists_at(curve, share);
        for (uint32_t place = 0; place < CLASS_LISTS; place++)
            found += counted[place];
    }
    for (uint32_t i = 0; i < curve->step_count && found < wanted; i++) {
        const struct probe_step *step = &curve->steps[i];
        lists[step->class] = lists_of_step(curve, step, wanted - found);
        found += step->gain;
    }
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

/* Of what is missing a part more, so that high recalls keep a margin of their own. */
static double aim_of(float recall)
{
    return (double)recall + MIN(MARGIN, (1 - (double)recall) / MARGIN_SHARE);
}

/* So many times the lists: for rows from elsewhere, and for more of them than were counted. */
static double times_more(const struct partition *p, uint64_t k)
{
    double most = partition_curve_ks[PARTITION_CURVES - 1];
    return unmeasured(p) * ((double)k > most ? sqrt((double)k / most) : 1);
}

uint32_t partition_lists_for(const struct partition *p, uint64_t k, float recall)
{
    const struct probe_curve *curve = curve_for(p, k);
    if (!curve || recall >= 1)
        return p->count;
    double lists = lists_at(curve, aim_of(recall)) * times_more(p, k);
    return in_lists_of_now(p, curve, lists);
}

void partition_reach_for(const struct partition *p, uint64_t k, float recall,
                         struct partition_reach *reach)
{
    const struct probe_curve *curve = curve_for(p, k);
    *reach = (struct partition_reach){.lists = partition_lists_for(p, k, recall)};
    if (!curve || !curve->by_class || recall >= 1)
        return;
    reach->nearest = curve->k;
    reach->lists = 0;
    memcpy(reach->bounds, curve->bounds, sizeof reach->bounds);
    double lists[PARTITION_CLASSES];
    if (curve->steps)
        share_lists(curve, aim_of(recall), lists);
    for (uint32_t c = 0; c < PARTITION_CLASSES; c++) {
        if (!curve->steps)
            lists[c] = class_lists_at(curve, c, aim_of(recall));
        reach->by_class[c] = in_lists_of_now(p, curve, lists[c] * times_more(p, k));
        reach->lists = MAX(reach->lists, reach->by_class[c]);
    }
}

void partition_widen(struct partition_reach *reach, double times, uint32_t wells)
{
    reach->lists = (uint32_t)MIN(ceil(reach->lists * times), wells);
    for (uint32_t c = 0; c < PARTITION_CLASSES; c++)
        reach->by_class[c] = (uint32_t)MIN(ceil(reach->by_class[c] * times), wells);
}

/* Rows, of which the classes are, are spread over them evenly. */
uint32_t partition_usual_lists(const struct partition_reach *reach)
{
    uint64_t lists = 0;
    for (uint32_t c = 0; c < PARTITION_CLASSES; c++)
        lists += reach->by_class[c];
    return reach->nearest ? (uint32_t)(lists / PARTITION_CLASSES) : reach->lists;
}

static uint32_t in_lists_of_then(const struct partition *p, const struct probe_curve *curve,
                                 uint32_t lists)
{
    return (uint32_t)((uint64_t)MIN(lists, p->count) * curve->lists / p->count);
}

static uint64_t found_within(const uint32_t *counted, uint32_t lists)
{
    uint64_t found = 0;
    for (uint32_t place = 0; place < lists; place++)
        found += counted[place];
    return found;
}

float partition_recall_at(const struct partition *p, uint64_t k, uint32_t lists)
{
    const struct probe_curve *curve = curve_for(p, k);
    if (lists >= p->count)
        return 1;
    if (!curve)
        return 0;
    uint64_t found = found_within(curve->found, in_lists_of_then(p, curve, lists));
    return (float)((double)found / (double)curve->total);
}

float partition_recall_of(const struct partition *p, uint64_t k, const struct partition_reach *reach)
{
    const struct probe_curve *curve = curve_for(p, k);
    uint64_t found = 0;
    if (reach->codes > 0 && curve && curve->stopped)
        return (float)((double)found_within(curve->stopped, in_lists_of_then(p, curve, reach->lists)) /
                       (double)curve->total);
    if (!reach->nearest || !curve || !curve->by_class)
        return partition_recall_at(p, k, reach->lists);
    for (uint32_t c = 0; c < PARTITION_CLASSES; c++)
        found += found_within(curve->by_class + (size_t)c * curve->lists,
                              in_lists_of_then(p, curve, reach->by_class[c]));
    return (float)((double)found / (double)curve->total);
}

uint32_t partition_lists_of(const struct partition *p, uint64_t nprobe)
{
    const struct probe_curve *curve = curve_for(p, partition_curve_ks[0]);
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

uint64_t partition_stop(const struct partition *p)
{
    return (uint64_t)(ROWS_GOOD * p->rows);
}

/* Where codes do not tell rows apart one list has most of them, and the stop comes before it. */
static bool stop_misses(const struct partition *p, uint32_t lists)
{
    const struct probe_curve *curve = curve_for(p, partition_curve_ks[0]);
    if (!curve || !curve->stopped)
        return true;
    uint32_t then = in_lists_of_then(p, curve, lists);
    double less = (double)found_within(curve->found, then) - (double)found_within(curve->stopped, then);
    return less > STOP_LOSS * (double)curve->total;
}

uint64_t partition_codes_of(const struct partition *p, uint64_t nprobe, uint32_t lists)
{
    bool stopped = nprobe <= PROBES_GOOD && (double)lists <= SHARE_STOPPED * p->count &&
                   !stop_misses(p, lists);
    return stopped ? partition_stop(p) : 0;
}
