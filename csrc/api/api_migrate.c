/* Migration of the ancestor's logs (synadb/migrate.h): check pointers, call the engine. */
#include "base/internal.h"

#include "api/api_args.h"
#include "engine/db_ancestor_copy.h"

/* What the first release had of the struct. A later one may only add. */
#define FIRST_MIGRATION sizeof(syna_migration)

static syna_rc check_names(const char *const *leave_out, size_t count)
{
    if (count > 0)
        REQUIRE(leave_out);
    for (size_t i = 0; i < count; i++)
        if (!leave_out[i])
            return null_pointer("a key of leave_out");
    return SYNA_SUCCESS;
}

int32_t syna_migrate(const char *path, const char *to, const char *const *leave_out,
                     size_t leave_out_count, syna_finding_fn visit, void *context,
                     syna_progress_fn progress, syna_migration *out)
{
    syna_migration found;
    REQUIRE(out);
    SYNA_TRY(check_path(path));
    SYNA_TRY(check_path(to));
    SYNA_TRY(check_names(leave_out, leave_out_count));
    uint32_t size = out->size ? out->size : (uint32_t)FIRST_MIGRATION;
    if (size < FIRST_MIGRATION)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_migration.size is %u, expected sizeof(syna_migration), which was never "
                         "less than %zu",
                         size, FIRST_MIGRATION);
    SYNA_TRY(db_migrate(path, to, leave_out, leave_out_count, visit, context, progress, &found));
    size = (uint32_t)MIN((size_t)size, sizeof found);
    memcpy(out, &found, size);
    out->size = size;
    return SYNA_SUCCESS;
}
