/* partition_class.c - queries by how hard they are.
 *
 * How many lists a query needs differs from query to query: one that has its nearest rows in its first
 * lists, much nearer than the centroids around are, needs few. So queries are parted into classes by one
 * number, known once a query has seen its first CLASS_LISTS lists: how far the k-th nearest of their codes
 * is, compared with the centroid at place CLASS_YARD. How many lists find what share is measured for each
 * class (partition_recall.c). Queries that are, as a whole, easier or harder than the rows that were
 * measured stand in other classes than those, and look at what these need. */
#include "base/internal.h"

#include "index/partition_core.h"

#include <math.h>

void nearest_codes_init(struct nearest_codes *n, uint32_t k, uint32_t without)
{
    n->k = MIN(k, NEAREST_CODES_MAX);
    n->count = 0;
    n->without = without;
}

/* A row has the same integer in both of its lists. */
static void insert(struct nearest_codes *n, int32_t integer, uint32_t row)
{
    uint32_t at = n->count;
    while (at > 0 && n->least[at - 1] > integer)
        at--;
    for (uint32_t same = at; same > 0 && n->least[same - 1] == integer; same--)
        if (n->rows[same - 1] == row)
            return;
    n->count = MIN(n->count + 1, n->k);
    for (uint32_t i = n->count - 1; i > at; i--) {
        n->least[i] = n->least[i - 1];
        n->rows[i] = n->rows[i - 1];
    }
    n->least[at] = integer;
    n->rows[at] = row;
}

void nearest_codes_take(struct nearest_codes *n, const int32_t *integers, const uint32_t *rows,
                        uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if ((n->count < n->k || integers[i] < n->least[n->k - 1]) && rows[i] != n->without)
            insert(n, integers[i], rows[i]);
}

/* Between -1 and 1, for ranks of either sign: (x - y) / (|x| + |y|) grows as x / y does. */
float partition_hardness(const struct code_query *query, const struct nearest_codes *n, int32_t yard)
{
    if (n->count < n->k)
        return INFINITY;
    double far = (double)codes_rank(query, n->least[n->k - 1]), near = (double)codes_rank(query, yard);
    double sum = fabs(far) + fabs(near);
    return sum > 0 ? (float)((far - near) / sum) : 0;
}

uint32_t partition_class_of(const float *bounds, float hardness)
{
    uint32_t class = 0;
    while (class < PARTITION_CLASSES - 1 && hardness > bounds[class])
        class++;
    return class;
}

/* The first few in order; those that only look equal to the last of them may be missing. */
int32_t partition_first_lists(struct well_ranking *r, uint32_t count)
{
    count = MIN(count, CLASS_YARD + 1);
    partition_sort(r->keys, r->order, count);
    return r->keys[r->order[count - 1]];
}
