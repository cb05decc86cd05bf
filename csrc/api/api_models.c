/* The C interface of the model registry (synadb/registry.h): check pointers, find the database, call the
 * engine. */
#include "base/internal.h"

#include "api/api_args.h"
#include "api/handles.h"
#include "engine/models.h"

/* ---------------------------------------------------------------- arguments */

static syna_rc check_struct(const char *name, uint32_t size, size_t first)
{
    if (size >= first)
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%s.size is %u, expected sizeof(%s) = %zu",
                     name, size, name, first);
}

/* ---------------------------------------------------------------- handles: saving and reading */

int32_t syna_models_create(syna_db *db, const char *name, const syna_model_facts *facts,
                           syna_model_writer **out)
{
    REQUIRE(out);
    *out = NULL;
    REQUIRE(db);
    REQUIRE_TEXT(name);
    if (facts)
        SYNA_TRY(check_struct("syna_model_facts", facts->size, sizeof *facts));
    return models_create(db, name, facts, out);
}

int32_t syna_models_write(syna_model_writer *writer, const void *data, size_t len)
{
    REQUIRE(writer);
    if (len > 0)
        REQUIRE(data);
    return models_write(writer, data, len);
}

int32_t syna_models_commit(syna_model_writer *writer, syna_model_saved *out)
{
    REQUIRE(writer);
    REQUIRE(out);
    SYNA_TRY(check_struct("syna_model_saved", out->size, sizeof *out));
    return models_commit(writer, out);
}

void syna_models_writer_free(syna_model_writer *writer)
{
    models_writer_free(writer);
}

int32_t syna_models_open(syna_db *db, const char *name, uint32_t version, syna_model_reader **out)
{
    REQUIRE(out);
    *out = NULL;
    REQUIRE(db);
    REQUIRE_TEXT(name);
    return models_open(db, name, version, out);
}

uint64_t syna_models_size(const syna_model_reader *reader)
{
    return reader ? models_size(reader) : 0;
}

int32_t syna_models_read(syna_model_reader *reader, uint64_t offset, void *buf, size_t len,
                         size_t *got)
{
    REQUIRE(reader);
    REQUIRE(got);
    if (len > 0)
        REQUIRE(buf);
    return models_read(reader, offset, buf, len, got);
}

const char *syna_models_reader_json(const syna_model_reader *reader, size_t *len)
{
    size_t ignored;
    return reader ? models_reader_json(reader, len ? len : &ignored) : NULL;
}

void syna_models_reader_free(syna_model_reader *reader)
{
    models_reader_free(reader);
}

int32_t syna_models_info(syna_db *db, const char *name, uint32_t version, char **out_json,
                         size_t *out_len)
{
    size_t ignored;
    REQUIRE(out_json);
    *out_json = NULL;
    REQUIRE(db);
    REQUIRE_TEXT(name);
    return models_info(db, name, version, out_json, out_len ? out_len : &ignored);
}

int32_t syna_models_list(syna_db *db, const char *name, syna_model_fn visit, void *context)
{
    REQUIRE(db);
    REQUIRE(visit);
    if (name)
        REQUIRE_TEXT(name);
    return models_list(db, name, visit, context, NULL);
}

/* ---------------------------------------------------------------- handles: stages, aliases, deletion */

int32_t syna_models_set_stage(syna_db *db, const char *name, uint32_t version, int32_t stage)
{
    REQUIRE(db);
    REQUIRE_TEXT(name);
    return models_set_stage(db, name, version, stage);
}

int32_t syna_models_production(syna_db *db, const char *name, uint32_t *version)
{
    REQUIRE(db);
    REQUIRE_TEXT(name);
    REQUIRE(version);
    return models_production(db, name, version);
}

int32_t syna_models_stages(syna_db *db, const char *name, char **out_json, size_t *out_len)
{
    size_t ignored;
    REQUIRE(out_json);
    *out_json = NULL;
    REQUIRE(db);
    REQUIRE_TEXT(name);
    return models_stages(db, name, out_json, out_len ? out_len : &ignored);
}

int32_t syna_models_set_alias(syna_db *db, const char *name, const char *alias, uint32_t version)
{
    REQUIRE(db);
    REQUIRE_TEXT(name);
    REQUIRE_TEXT(alias);
    return models_set_alias(db, name, alias, version);
}

int32_t syna_models_alias(syna_db *db, const char *name, const char *alias, uint32_t *version)
{
    REQUIRE(db);
    REQUIRE_TEXT(name);
    REQUIRE_TEXT(alias);
    REQUIRE(version);
    return models_alias(db, name, alias, version);
}

int32_t syna_models_aliases(syna_db *db, const char *name, syna_model_fn visit, void *context)
{
    REQUIRE(db);
    REQUIRE_TEXT(name);
    REQUIRE(visit);
    return models_aliases(db, name, visit, context);
}

int32_t syna_models_delete(syna_db *db, const char *name, uint32_t version, uint32_t *deleted)
{
    uint32_t ignored;
    REQUIRE(db);
    REQUIRE_TEXT(name);
    return models_delete(db, name, version, deleted ? deleted : &ignored);
}

/* ---------------------------------------------------------------- path-keyed face */

int32_t syna_model_registry_open(const char *path)
{
    SYNA_TRY(check_path(path));
    return handles_open_shared(path, &(syna_db_options){.size = sizeof(syna_db_options)});
}

int32_t syna_model_registry_close(const char *path)
{
    return handles_close_path(path);
}

static syna_rc save(syna_db *db, const char *name, const uint8_t *data, size_t len,
                    const char *metadata_json, syna_model_saved *saved)
{
    syna_model_writer *writer;
    syna_model_facts facts = {.size = sizeof facts, .metadata_json = metadata_json};
    SYNA_TRY(models_create(db, name, &facts, &writer));
    syna_rc rc = models_write(writer, data, len);
    if (rc == SYNA_SUCCESS)
        rc = models_commit(writer, saved);
    models_writer_free(writer);
    return rc;
}

int64_t syna_model_save(const char *path, const char *name, const uint8_t *data, size_t data_len,
                        const char *metadata_json, uint32_t *out_version, char **out_checksum,
                        size_t *out_checksum_len)
{
    syna_rc rc = SYNA_SUCCESS;
    syna_model_saved saved = {.size = sizeof saved};
    char *checksum = NULL;
    REQUIRE_TEXT(name);
    if (data_len > 0)
        REQUIRE(data);
    if (metadata_json)
        REQUIRE_TEXT(metadata_json);
    /* Before the save, which nothing takes back. */
    if (out_checksum && !(checksum = mem_alloc(sizeof saved.checksum)))
        return syna_no_memory(sizeof saved.checksum);
    syna_db *db = handles_enter(path, &rc);
    if (db) {
        rc = save(db, name, data, data_len, metadata_json, &saved);
        handles_leave(db);
    }
    if (rc != SYNA_SUCCESS) {
        mem_free(checksum);
        return rc;
    }
    if (out_version)
        *out_version = saved.version;
    if (out_checksum)
        *out_checksum = memcpy(checksum, saved.checksum, sizeof saved.checksum);
    if (out_checksum_len)
        *out_checksum_len = sizeof saved.checksum - 1;
    return rc;
}

static syna_rc read_all(syna_model_reader *reader, uint8_t **data, size_t *len)
{
    size_t got;
    uint64_t size = models_size(reader);
    uint8_t *room = size < SIZE_MAX ? mem_alloc((size_t)size + 1) : NULL;
    if (!room)
        return syna_no_memory((size_t)size);
    syna_rc rc = models_read(reader, 0, room, (size_t)size, &got);
    if (rc != SYNA_SUCCESS) {
        mem_free(room);
        return rc;
    }
    room[size] = 0;
    *data = room;
    *len = (size_t)size;
    return SYNA_SUCCESS;
}

/* The seeds' callers know a damaged model by the code 0. */
static syna_rc damaged_is_zero(syna_rc rc)
{
    if (rc != SYNA_ERR_SERIALIZATION || status_get()->reason != SYNA_WHY_CORRUPT)
        return rc;
    struct status_record why = *status_get();
    why.code = SYNA_ERR_GENERIC;
    return status_set(&why);
}

static syna_rc load(syna_db *db, const char *name, uint32_t version, uint8_t **data, size_t *len,
                    char **json, size_t *json_len)
{
    syna_model_reader *reader;
    SYNA_TRY(models_open(db, name, version, &reader));
    const char *text = models_reader_json(reader, json_len);
    syna_rc rc = SYNA_SUCCESS;
    if (json && !(*json = mem_dup(text, *json_len)))
        rc = syna_no_memory(*json_len);
    if (rc == SYNA_SUCCESS)
        rc = read_all(reader, data, len);
    if (rc != SYNA_SUCCESS && json) {
        mem_free(*json);
        *json = NULL;
    }
    models_reader_free(reader);
    return rc;
}

int32_t syna_model_load(const char *path, const char *name, uint32_t version, uint8_t **out_data,
                        size_t *out_data_len, char **out_meta_json, size_t *out_meta_len)
{
    syna_rc rc = SYNA_SUCCESS;
    size_t len = 0, json_len = 0;
    REQUIRE(out_data);
    *out_data = NULL;
    if (out_meta_json)
        *out_meta_json = NULL;
    REQUIRE_TEXT(name);
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = damaged_is_zero(load(db, name, version, out_data, &len, out_meta_json, &json_len));
    handles_leave(db);
    if (rc == SYNA_SUCCESS && out_data_len)
        *out_data_len = len;
    if (rc == SYNA_SUCCESS && out_meta_len)
        *out_meta_len = json_len;
    return rc;
}

struct listing {
    struct buf json;
    bool enough;
};

static int32_t add_version(void *context, const char *name, uint32_t version, const char *json,
                           size_t json_len)
{
    struct listing *list = context;
    (void)name, (void)version;
    list->enough = (list->json.len == 1 || buf_append(&list->json, ", ", 2)) &&
                   buf_append(&list->json, json, json_len);
    return !list->enough;
}

int32_t syna_model_list(const char *path, const char *name, char **out_json, size_t *out_len)
{
    syna_rc rc = SYNA_SUCCESS;
    size_t count = 0;
    struct listing list = {.enough = true};
    REQUIRE(out_json);
    *out_json = NULL;
    REQUIRE_TEXT(name);
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    list.enough = buf_append(&list.json, "[", 1);
    if (list.enough)
        rc = models_list(db, name, add_version, &list, &count);
    handles_leave(db);
    if (rc == SYNA_SUCCESS && !(list.enough && buf_append(&list.json, "]", 2)))
        rc = syna_no_memory(list.json.len);
    if (rc != SYNA_SUCCESS) {
        buf_dispose(&list.json);
        return not_zero(rc);
    }
    *out_json = (char *)list.json.bytes;
    if (out_len)
        *out_len = list.json.len - 1;
    return (int32_t)MIN(count, (size_t)INT32_MAX);
}

int32_t syna_model_set_stage(const char *path, const char *name, uint32_t version, int32_t stage)
{
    syna_rc rc = SYNA_SUCCESS;
    REQUIRE_TEXT(name);
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = models_set_stage(db, name, version, stage);
    handles_leave(db);
    return rc;
}
