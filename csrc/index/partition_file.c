/* partition_file.c - a partition in a snapshot. Everything is checked when it is loaded: what does not
 * fit together is as if it were not there.
 *
 *   "wells"    struct head, then per curve: k, lists, total, found[lists]
 *   "classes"  per curve: struct class_head, by_class[PARTITION_CLASSES * lists]; without it the curves serve
 *              until they are measured again
 *   "stops"    per curve: stopped[lists]; without it as without classes
 *   "groups"   the share of the wells that is compared, starts of their groups, and the end of the last;
 *              without it all wells are compared
 *   "sizes"    count uint32: rows of each list; count float errors, count float lengths, weights
 *   "centers"  count code rows
 *   "wellrows" row numbers, list by list      "wellcode" their codes
 *   "errors"   a float for each row below `end` */
#include "base/internal.h"

#include "base/vec.h"
#include "index/partition_core.h"

#define PARTITION_VERSION 1u

struct head {
    uint32_t version, dims;
    int32_t metric;
    float step, low;
    uint32_t count, end, rows, entries, trained, calibrated, certain;
    uint64_t splits;
};

struct curve_head {
    uint32_t k, lists;
    uint64_t total;
};

struct class_head {
    uint64_t totals[PARTITION_CLASSES];
    float bounds[PARTITION_CLASSES - 1];
    uint32_t reserved;
};

/* What there is of each list, in the order of "sizes". */
struct size {
    uint32_t rows;
    float error, norm;
    int32_t weight;
};

/* ---------------------------------------------------------------- writing */

static syna_rc save_head(const struct partition *p, struct snapshot_writer *w)
{
    struct head head = {.version = PARTITION_VERSION, .dims = p->codes.dims,
                        .metric = p->codes.metric, .step = p->codes.step, .low = p->codes.low,
                        .count = p->count, .end = p->end, .rows = p->rows, .entries = p->entries,
                        .trained = p->trained,
                        .calibrated = p->calibrated, .certain = p->certain, .splits = p->splits};
    SYNA_TRY(snapshot_section(w, "wells"));
    SYNA_TRY(snapshot_append(w, &head, sizeof head));
    for (size_t c = 0; p->calibrated && c < PARTITION_CURVES; c++) {
        const struct probe_curve *curve = &p->curves[c];
        struct curve_head one = {curve->k, curve->lists, curve->total};
        SYNA_TRY(snapshot_append(w, &one, sizeof one));
        SYNA_TRY(snapshot_append(w, curve->found, curve->lists * sizeof *curve->found));
    }
    return SYNA_SUCCESS;
}

static size_t class_bytes(const struct probe_curve *curve)
{
    return PARTITION_CLASSES * (size_t)curve->lists * sizeof *curve->by_class;
}

static syna_rc save_classes(const struct partition *p, struct snapshot_writer *w)
{
    if (!p->calibrated || !p->curves[0].by_class)
        return SYNA_SUCCESS;
    SYNA_TRY(snapshot_section(w, "classes"));
    for (size_t c = 0; c < PARTITION_CURVES; c++) {
        const struct probe_curve *curve = &p->curves[c];
        struct class_head head = {.reserved = 0};
        memcpy(head.totals, curve->totals, sizeof head.totals);
        memcpy(head.bounds, curve->bounds, sizeof head.bounds);
        SYNA_TRY(snapshot_append(w, &head, sizeof head));
        SYNA_TRY(snapshot_append(w, curve->by_class, class_bytes(curve)));
    }
    return SYNA_SUCCESS;
}

static syna_rc save_stops(const struct partition *p, struct snapshot_writer *w)
{
    if (!p->calibrated || !p->curves[0].stopped)
        return SYNA_SUCCESS;
    SYNA_TRY(snapshot_section(w, "stops"));
    for (size_t c = 0; c < PARTITION_CURVES; c++) {
        const struct probe_curve *curve = &p->curves[c];
        SYNA_TRY(snapshot_append(w, curve->stopped, curve->lists * sizeof *curve->stopped));
    }
    return SYNA_SUCCESS;
}

static syna_rc save_groups(const struct partition *p, struct snapshot_writer *w)
{
    if (p->groups.count == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(snapshot_section(w, "groups"));
    SYNA_TRY(snapshot_append(w, &p->groups.share, sizeof p->groups.share));
    return snapshot_append(w, p->groups.starts, (p->groups.count + (size_t)1) * sizeof *p->groups.starts);
}

static syna_rc save_sizes(const struct partition *p, struct snapshot_writer *w)
{
    SYNA_TRY(snapshot_section(w, "sizes"));
    for (uint32_t i = 0; i < p->count; i++) {
        const struct well *well = &p->wells[i];
        struct size size = {well_rows(well), well->error, well->norm, p->weights[i]};
        SYNA_TRY(snapshot_append(w, &size, sizeof size));
    }
    SYNA_TRY(snapshot_section(w, "centers"));
    return snapshot_append(w, p->centroids, p->count * (size_t)p->codes.stride);
}

static syna_rc save_lists(const struct partition *p, struct snapshot_writer *w)
{
    size_t stride = p->codes.stride;
    SYNA_TRY(snapshot_section(w, "wellrows"));
    for (uint32_t i = 0; i < p->count; i++) {
        const struct well *well = &p->wells[i];
        SYNA_TRY(snapshot_append(w, well->head_rows, well->head_count * sizeof *well->head_rows));
        SYNA_TRY(snapshot_append(w, well->rows, well->count * sizeof *well->rows));
    }
    SYNA_TRY(snapshot_section(w, "wellcode"));
    for (uint32_t i = 0; i < p->count; i++) {
        const struct well *well = &p->wells[i];
        SYNA_TRY(snapshot_append(w, well->head_codes, well->head_count * stride));
        SYNA_TRY(snapshot_append(w, well->codes, well->count * stride));
    }
    return SYNA_SUCCESS;
}

syna_rc partition_save(const struct partition *p, struct snapshot_writer *w)
{
    SYNA_TRY(save_head(p, w));
    SYNA_TRY(save_classes(p, w));
    SYNA_TRY(save_stops(p, w));
    SYNA_TRY(save_groups(p, w));
    SYNA_TRY(save_sizes(p, w));
    SYNA_TRY(save_lists(p, w));
    SYNA_TRY(snapshot_section(w, "errors"));
    return array_save(&p->errors, p->end, w);
}

/* ---------------------------------------------------------------- reading */

/* Sections, each touched: their checksums are good. */
struct sections {
    const uint8_t *head, *classes, *stops, *groups; /* not there: NULL */
    size_t head_len, classes_len, stops_len, groups_len;
    const struct size *sizes;
    const uint8_t *centers, *codes;
    const uint32_t *rows;
    float *errors;
};

static void *section(struct snapshot *s, const char *name, size_t len)
{
    size_t found;
    void *bytes = snapshot_find(s, name, &found);
    return bytes && found == len && snapshot_touch(s, bytes, len) ? bytes : NULL;
}

/* One that need not be there. */
static const uint8_t *sound_section(struct snapshot *s, const char *name, size_t *len)
{
    const uint8_t *bytes = snapshot_find(s, name, len);
    return bytes && snapshot_touch(s, bytes, *len) ? bytes : NULL;
}

static bool read_head(struct snapshot *s, const struct partition *p, uint32_t rows, struct head *head,
                      struct sections *out)
{
    out->head = snapshot_find(s, "wells", &out->head_len);
    if (!out->head || out->head_len < sizeof *head || !snapshot_touch(s, out->head, out->head_len))
        return false;
    memcpy(head, out->head, sizeof *head);
    return head->version == PARTITION_VERSION && head->dims == p->codes.dims &&
           head->metric == p->codes.metric && head->step > 0 && head->count >= 1 &&
           head->count <= PARTITION_WELLS_MAX && head->end <= rows && head->rows <= head->end &&
           head->entries <= PARTITION_COPIES * (uint64_t)head->rows;
}

/* An empty section is not stored with bytes to point to. */
static bool read_sections(struct snapshot *s, const struct partition *p, const struct head *head,
                          struct sections *out)
{
    size_t stride = p->codes.stride;
    out->sizes = section(s, "sizes", head->count * sizeof *out->sizes);
    out->centers = section(s, "centers", head->count * stride);
    if (!out->sizes || !out->centers)
        return false;
    if (head->entries > 0) {
        out->rows = section(s, "wellrows", head->entries * sizeof *out->rows);
        out->codes = section(s, "wellcode", head->entries * stride);
        if (!out->rows || !out->codes)
            return false;
    }
    out->classes = sound_section(s, "classes", &out->classes_len);
    out->stops = sound_section(s, "stops", &out->stops_len);
    out->groups = sound_section(s, "groups", &out->groups_len);
    if (head->end > 0)
        out->errors = section(s, "errors", head->end * sizeof *out->errors);
    return head->end == 0 || out->errors;
}

/* Sizes add up, and each row stands in two lists at most. seen: two bits a row. */
static bool lists_sound(const struct head *head, const struct sections *s, uint64_t *seen)
{
    uint64_t total = 0;
    for (uint32_t w = 0; w < head->count; w++)
        total += s->sizes[w].rows;
    if (total != head->entries)
        return false;
    for (uint32_t i = 0; i < head->entries; i++) {
        uint32_t row = s->rows[i], bit = row % 32 * 2;
        if (row >= head->end || (seen[row / 32] >> bit & 3) == PARTITION_COPIES)
            return false;
        seen[row / 32] += (uint64_t)1 << bit;
    }
    return true;
}

static bool next_curve(const struct sections *s, size_t *at, struct probe_curve *out)
{
    struct curve_head one;
    if (s->head_len - *at < sizeof one)
        return false;
    memcpy(&one, s->head + *at, sizeof one);
    *at += sizeof one;
    if (one.lists < 1 || one.lists > PARTITION_WELLS_MAX ||
        s->head_len - *at < one.lists * sizeof *out->found)
        return false;
    *out = (struct probe_curve){.k = one.k, .lists = one.lists, .total = one.total};
    out->found = (uint32_t *)(uintptr_t)(s->head + *at);
    *at += one.lists * sizeof *out->found;
    return true;
}

/* The classes of all curves; none when they do not fit. */
static syna_rc load_classes(struct partition_curves *curves, const struct sections *s)
{
    size_t len = 0, at = 0;
    for (size_t c = 0; c < PARTITION_CURVES; c++)
        len += sizeof(struct class_head) + class_bytes(&curves->curves[c]);
    if (!s->classes || s->classes_len != len) {
        curves->rows = MIN(curves->rows, 1); /* measuring is due */
        return SYNA_SUCCESS;
    }
    for (size_t c = 0; c < PARTITION_CURVES; c++) {
        struct probe_curve *curve = &curves->curves[c];
        struct class_head head;
        memcpy(&head, s->classes + at, sizeof head);
        memcpy(curve->totals, head.totals, sizeof head.totals);
        memcpy(curve->bounds, head.bounds, sizeof head.bounds);
        at += sizeof head;
        curve->by_class = mem_alloc(class_bytes(curve));
        if (!curve->by_class)
            return syna_no_memory(class_bytes(curve));
        memcpy(curve->by_class, s->classes + at, class_bytes(curve));
        at += class_bytes(curve);
    }
    return SYNA_SUCCESS;
}

static syna_rc load_stops(struct partition_curves *curves, const struct sections *s)
{
    size_t len = 0, at = 0;
    for (size_t c = 0; c < PARTITION_CURVES; c++)
        len += curves->curves[c].lists * sizeof *curves->curves[c].stopped;
    if (!s->stops || s->stops_len != len) {
        curves->rows = MIN(curves->rows, 1); /* measuring is due */
        return SYNA_SUCCESS;
    }
    for (size_t c = 0; c < PARTITION_CURVES; c++) {
        struct probe_curve *curve = &curves->curves[c];
        size_t bytes = curve->lists * sizeof *curve->stopped;
        curve->stopped = mem_alloc(bytes);
        if (!curve->stopped)
            return syna_no_memory(bytes);
        memcpy(curve->stopped, s->stops + at, bytes);
        at += bytes;
    }
    return SYNA_SUCCESS;
}

/* Curves that cannot be read are measured again. */
static syna_rc load_curves(struct partition *p, const struct head *head, const struct sections *s)
{
    struct partition_curves curves = {.rows = head->calibrated, .certain = head->certain != 0,
                                      .near_share = p->groups.share};
    size_t at = sizeof *head;
    for (size_t c = 0; head->calibrated && c < PARTITION_CURVES; c++) {
        struct probe_curve curve;
        if (!next_curve(s, &at, &curve))
            break;
        curves.curves[c] = curve;
        curves.curves[c].found = mem_alloc(curve.lists * sizeof *curve.found);
        if (!curves.curves[c].found) {
            partition_curves_dispose(&curves);
            return syna_no_memory(curve.lists * sizeof *curve.found);
        }
        memcpy(curves.curves[c].found, curve.found, curve.lists * sizeof *curve.found);
    }
    bool all = curves.curves[PARTITION_CURVES - 1].found != NULL;
    syna_rc rc = all ? load_classes(&curves, s) : SYNA_SUCCESS;
    if (rc == SYNA_SUCCESS && all)
        rc = load_stops(&curves, s);
    if (rc == SYNA_SUCCESS && all)
        partition_take_curves(p, &curves);
    partition_curves_dispose(&curves);
    return rc;
}

static void take_lists(struct partition *p, const struct head *head, const struct sections *s)
{
    size_t stride = p->codes.stride, at = 0;
    memcpy(p->centroids, s->centers, head->count * stride);
    for (uint32_t w = 0; w < head->count; w++) {
        const struct size *size = &s->sizes[w];
        p->wells[w] = (struct well){.head_rows = size->rows ? s->rows + at : NULL,
                                    .head_codes = size->rows ? s->codes + at * stride : NULL,
                                    .head_count = size->rows,
                                    .error = size->error,
                                    .norm = size->norm};
        p->weights[w] = size->weight;
        at += size->rows;
    }
    p->count = head->count;
    p->end = head->end;
    p->rows = head->rows;
    p->entries = head->entries;
    p->trained = head->trained;
    p->splits = head->splits;
    p->codes.step = head->step;
    p->codes.low = head->low;
}

/* Groups that have wells, one after the other. */
static bool groups_sound(const uint32_t *starts, uint32_t count, uint32_t wells)
{
    if (starts[0] != 0 || starts[count] > wells)
        return false;
    for (uint32_t g = 0; g < count; g++)
        if (starts[g] >= starts[g + 1])
            return false;
    return true;
}

static syna_rc load_groups(struct partition *p, const struct sections *s)
{
    uint32_t numbers[PARTITION_GROUPS_MAX + 2], *starts = numbers + 1; /* the share comes first */
    size_t entries = s->groups_len / sizeof *numbers;
    if (!s->groups || entries < 3 || entries > COUNT_OF(numbers) || s->groups_len % sizeof *numbers)
        return SYNA_SUCCESS;
    memcpy(numbers, s->groups, s->groups_len);
    if (numbers[0] < 1 || numbers[0] > PARTITION_SHARE_MOST ||
        !groups_sound(starts, (uint32_t)entries - 2, p->count))
        return SYNA_SUCCESS;
    SYNA_TRY(partition_set_groups(p, starts, (uint32_t)entries - 2));
    p->groups.share = numbers[0];
    return SYNA_SUCCESS;
}

static syna_rc load(struct partition *p, const struct head *head, const struct sections *s,
                    bool *found)
{
    uint64_t *seen = mem_zalloc(((size_t)head->end / 32 + 1) * sizeof *seen);
    if (!seen)
        return syna_no_memory((size_t)head->end / 4);
    *found = lists_sound(head, s, seen);
    mem_free(seen);
    if (!*found)
        return SYNA_SUCCESS;
    SYNA_TRY(partition_reserve_wells(p, head->count));
    SYNA_TRY(array_init_head(&p->errors, sizeof(float), PARTITION_ROWS_MAX, s->errors, head->end));
    take_lists(p, head, s);
    SYNA_TRY(load_groups(p, s));
    return load_curves(p, head, s);
}

syna_rc partition_load(struct partition *p, struct snapshot *snapshot, uint32_t rows, bool *found)
{
    struct head head;
    struct sections s = {.head = NULL};
    *found = read_head(snapshot, p, rows, &head, &s) && read_sections(snapshot, p, &head, &s);
    if (!*found)
        return SYNA_SUCCESS;
    syna_rc rc = load(p, &head, &s, found);
    if (rc == SYNA_SUCCESS)
        return rc;
    *found = false;
    partition_dispose(p);
    return rc;
}
