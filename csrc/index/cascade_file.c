/* cascade_file.c - the index as sections of a snapshot:
 *
 *   "cascade"  struct cascade_head
 *   "centre"   stride bytes
 *   "planes", "nodes", "leaves", "leafof", "links"   the arrays, mapped and used in place
 *
 * Loading checks checksums, the head, and that the tree is one; a row number is checked where it is
 * followed. */
#include "base/internal.h"

#include "index/cascade_core.h"

#define CASCADE_VERSION 1u

struct cascade_head {
    uint32_t version;
    uint32_t hyperplanes, capacity, probes;
    uint64_t stride;
    uint32_t linked, filed, hash_bits, root;
    uint32_t plane_count, node_count, leaf_count, calibrated;
    struct cascade_curve curves[CASCADE_CURVES];
};

static syna_rc save_array(const struct array *a, size_t count, const char *name,
                          struct snapshot_writer *writer)
{
    SYNA_TRY(snapshot_section(writer, name));
    return array_save(a, count, writer);
}

syna_rc cascade_save(const struct cascade *c, struct snapshot_writer *writer)
{
    struct cascade_head head;
    memset(&head, 0, sizeof head);
    head.version = CASCADE_VERSION;
    head.hyperplanes = c->params.hyperplanes;
    head.capacity = c->params.capacity;
    head.probes = c->params.probes;
    head.stride = c->stride;
    head.linked = c->linked;
    head.filed = c->filed;
    head.hash_bits = c->hash_bits;
    head.root = c->root;
    head.plane_count = c->plane_count;
    head.node_count = c->node_count;
    head.leaf_count = c->leaf_count;
    head.calibrated = c->calibrated;
    memcpy(head.curves, c->curves, sizeof head.curves);
    SYNA_TRY(snapshot_section(writer, "cascade"));
    SYNA_TRY(snapshot_append(writer, &head, sizeof head));
    SYNA_TRY(snapshot_section(writer, "centre"));
    SYNA_TRY(snapshot_append(writer, c->centre, c->stride));
    SYNA_TRY(save_array(&c->planes, c->plane_count, "planes", writer));
    SYNA_TRY(save_array(&c->nodes, c->node_count, "nodes", writer));
    SYNA_TRY(save_array(&c->leaves, c->leaf_count, "leaves", writer));
    SYNA_TRY(save_array(&c->leaf_of, c->linked, "leafof", writer));
    return save_array(&c->links, c->linked, "links", writer);
}

/* ---------------------------------------------------------------- loading */

static bool curve_sound(const struct cascade_curve *curve)
{
    if (curve->count > CASCADE_CURVE_POINTS)
        return false;
    for (uint32_t i = 0; i < curve->count; i++)
        if (curve->ef[i] < 1 || curve->ef[i] > CASCADE_EF_MAX || !(curve->recall[i] >= 0) ||
            !(curve->recall[i] <= 1) || !(curve->codes[i] >= 0) ||
            (i > 0 && curve->ef[i] <= curve->ef[i - 1]))
            return false;
    return true;
}

static bool head_sound(const struct cascade_head *head, const struct row_set *set)
{
    const struct cascade_params params = {head->hyperplanes, head->capacity, head->probes};
    bool curves = true;
    for (uint32_t i = 0; i < CASCADE_CURVES; i++)
        curves &= curve_sound(&head->curves[i]);
    return head->version == CASCADE_VERSION && params.hyperplanes >= 1 &&
           params.hyperplanes <= CASCADE_HYPERPLANES_MAX && params.capacity >= CASCADE_CAPACITY_MIN &&
           params.capacity <= CASCADE_CAPACITY_MAX && params.probes >= 1 &&
           params.probes <= CASCADE_PROBES_MAX && head->stride == set->codes.stride &&
           head->linked <= set->count && head->filed <= head->linked &&
           head->hash_bits <= head->plane_count && head->leaf_count < LEAF_BIT &&
           head->node_count < LEAF_BIT && head->plane_count < LEAF_BIT && curves;
}

static bool reference_sound(const struct cascade_head *head, uint32_t reference, uint32_t least)
{
    if (reference & LEAF_BIT)
        return (reference & ~LEAF_BIT) < head->leaf_count;
    return reference >= least && reference < head->node_count;
}

/* A node's children are nodes with larger numbers: so there is no way round in a circle. */
static bool tree_sound(const struct cascade *c, const struct cascade_head *head)
{
    if (!reference_sound(head, head->root, 0))
        return false;
    for (uint32_t i = 0; i < head->node_count; i++) {
        const struct cascade_node *node = array_at(&c->nodes, i);
        if (node->plane >= head->plane_count || !reference_sound(head, node->child[0], i + 1) ||
            !reference_sound(head, node->child[1], i + 1))
            return false;
    }
    for (uint32_t i = 0; i < head->leaf_count; i++)
        if (leaf_at(c, i)->count > head->capacity)
            return false;
    for (uint32_t row = 0; row < head->linked; row++)
        if (*leaf_of(c, row) != CASCADE_NONE && *leaf_of(c, row) >= head->leaf_count)
            return false;
    return true;
}

/* Let an array begin with a section. *found: it is there and whole. */
static syna_rc load_array(struct array *a, size_t count, const char *name, struct snapshot *snapshot,
                          bool *found)
{
    size_t len, item = a->item, reserved = a->reserved;
    void *bytes = snapshot_find(snapshot, name, &len);
    *found = bytes && len == count * item && (len == 0 || snapshot_touch(snapshot, bytes, len));
    if (!*found)
        return SYNA_SUCCESS;
    array_dispose(a);
    syna_rc rc = array_init_head(a, item, count + reserved / item, bytes, count);
    return rc;
}

static syna_rc load_arrays(struct cascade *c, const struct cascade_head *head,
                           struct snapshot *snapshot, bool *found)
{
    size_t len;
    const void *centre = snapshot_find(snapshot, "centre", &len);
    *found = centre && len == c->stride && snapshot_touch(snapshot, centre, len);
    if (!*found)
        return SYNA_SUCCESS;
    memcpy(c->centre, centre, len);
    const struct {
        struct array *array;
        size_t count;
        const char *name;
    } parts[] = {{&c->planes, head->plane_count, "planes"},
                 {&c->nodes, head->node_count, "nodes"},
                 {&c->leaves, head->leaf_count, "leaves"},
                 {&c->leaf_of, head->linked, "leafof"},
                 {&c->links, head->linked, "links"}};
    for (size_t i = 0; *found && i < COUNT_OF(parts); i++)
        SYNA_TRY(load_array(parts[i].array, parts[i].count, parts[i].name, snapshot, found));
    return SYNA_SUCCESS;
}

static void take_head(struct cascade *c, const struct cascade_head *head)
{
    c->linked = head->linked;
    c->filed = head->filed;
    c->hash_bits = head->hash_bits;
    c->root = head->root;
    c->plane_count = head->plane_count;
    c->node_count = head->node_count;
    c->leaf_count = head->leaf_count;
    c->calibrated = head->calibrated;
    memcpy(c->curves, head->curves, sizeof c->curves);
}

syna_rc cascade_load(struct cascade *c, const struct row_set *set, struct snapshot *snapshot,
                     bool *found)
{
    struct cascade_head head;
    struct cascade fresh;
    size_t len;
    *found = false;
    const void *bytes = snapshot_find(snapshot, "cascade", &len);
    if (!bytes || len != sizeof head || !snapshot_touch(snapshot, bytes, len))
        return SYNA_SUCCESS;
    memcpy(&head, bytes, sizeof head);
    if (!head_sound(&head, set))
        return SYNA_SUCCESS;
    const struct cascade_params params = {head.hyperplanes, head.capacity, head.probes};
    SYNA_TRY(cascade_init(&fresh, &params, (size_t)head.stride));
    syna_rc rc = load_arrays(&fresh, &head, snapshot, found);
    if (rc != SYNA_SUCCESS || !*found || !tree_sound(&fresh, &head)) {
        *found = false;
        cascade_dispose(&fresh);
        return rc;
    }
    take_head(&fresh, &head);
    cascade_replace(c, &fresh);
    return SYNA_SUCCESS;
}
