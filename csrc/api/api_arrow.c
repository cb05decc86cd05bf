/* api_arrow.c - the functions of synadb/arrow.h: check arguments, call the engine. */
#include "base/internal.h"

#include "api/api_args.h"
#include "engine/arrow_stream.h"

/* Options of any release's size as those of this one. */
static syna_rc take_options(const syna_records_options *given, syna_records_options *out)
{
    REQUIRE(given);
    memset(out, 0, sizeof *out);
    if (given->size < offsetof(syna_records_options, reserved))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "options of %u bytes, expected %zu",
                         given->size, sizeof *out);
    memcpy(out, given, MIN((size_t)given->size, sizeof *out));
    if (out->type < SYNA_TYPE_ANY || out->type > SYNA_TYPE_BLOB)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "type %d, expected a syna_type or SYNA_TYPE_ANY", out->type);
    if (out->key && out->pattern)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "a key and a pattern, expected one of them");
    if (out->pattern && !utf8_valid(out->pattern, out->pattern_len))
        return syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the pattern is not UTF-8");
    return SYNA_SUCCESS;
}

int32_t syna_records_new(syna_db *db, const syna_records_options *options, syna_records **out)
{
    syna_records_options o;
    REQUIRE(out);
    *out = NULL;
    REQUIRE(db);
    SYNA_TRY(take_options(options, &o));
    return records_new(db, &o, out);
}

int32_t syna_records_next(syna_records *records, syna_record *record)
{
    syna_record full;
    REQUIRE(records);
    REQUIRE(record);
    if (record->size && record->size < sizeof full)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_record.size is %u, expected sizeof(syna_record), which was never less "
                         "than %zu",
                         record->size, sizeof full);
    SYNA_TRY(records_next(records, &full));
    *record = full;
    return SYNA_SUCCESS;
}

void syna_records_free(syna_records *records)
{
    records_free(records);
}

int32_t syna_arrow_stream(syna_db *db, const syna_records_options *options, struct ArrowArrayStream *out)
{
    syna_records_options o;
    REQUIRE(out);
    REQUIRE(db);
    SYNA_TRY(take_options(options, &o));
    return arrow_stream(db, &o, out);
}

int32_t syna_arrow_schema(const syna_records_options *options, struct ArrowSchema *out)
{
    syna_records_options o;
    REQUIRE(out);
    SYNA_TRY(take_options(options, &o));
    return arrow_stream_schema(&o, out);
}

int32_t syna_db_let_go(syna_db *db)
{
    REQUIRE(db);
    records_let_go(db);
    return SYNA_SUCCESS;
}

int32_t syna_batch_delete_at(syna_batch *batch, const char *key, size_t key_len, uint64_t when_us)
{
    REQUIRE(batch);
    REQUIRE(key);
    return records_batch_delete(batch, key, key_len, when_us);
}
