/* The C interface of the model registry: the seeds' path-keyed calls, handles, every kind of bad
 * argument. */
#include "check.h"

#include <synadb.h>

/* It returns an offset-sized code. */
#define SAVE(...) ((syna_rc)syna_model_save(__VA_ARGS__))

static const char *new_registry(const char *name)
{
    const char *path = check_path(name);
    CHECK_OK(syna_model_registry_open(path));
    return path;
}

static uint32_t save(const char *path, const char *name, const char *text, const char *metadata)
{
    uint32_t version = 0;
    CHECK_OK(SAVE(path, name, (const uint8_t *)text, strlen(text), metadata, &version,
                             NULL, NULL));
    return version;
}

TEST(the_seeds_calls_save_load_list_and_promote)
{
    const char *path = new_registry("m.db");
    uint32_t version = 0;
    char *checksum, *json;
    uint8_t *data;
    size_t len;
    CHECK_OK(SAVE(path, "clf", (const uint8_t *)"abc", 3, "{\"accuracy\": \"0.95\"}",
                             &version, &checksum, &len));
    CHECK_EQ(version, 1);
    CHECK_STR(checksum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_EQ(len, 64);
    syna_free_text(checksum, len);
    CHECK_EQ(save(path, "clf", "", NULL), 2);

    size_t data_len, json_len;
    CHECK_OK(syna_model_load(path, "clf", 1, &data, &data_len, &json, &json_len));
    CHECK_EQ(data_len, 3);
    CHECK_MEM(data, "abc", 4); /* a NUL stands behind it */
    CHECK_EQ(strlen(json), json_len);
    CHECK(strstr(json, "\"metadata\": {\"accuracy\": \"0.95\"}"));
    CHECK(strstr(json, "\"version\": 1"));
    syna_free_bytes(data, data_len);
    syna_free_text(json, json_len);
    CHECK_OK(syna_model_load(path, "clf", 0, &data, &data_len, NULL, NULL));
    CHECK(data != NULL); /* the newest is empty, not absent */
    CHECK_EQ(data_len, 0);
    syna_free_bytes(data, 0);

    CHECK_OK(syna_model_set_stage(path, "clf", 2, SYNA_STAGE_PRODUCTION));
    CHECK_EQ(syna_model_list(path, "clf", &json, &json_len), 2);
    CHECK_EQ(json[0], '[');
    CHECK_EQ(json[json_len - 1], ']');
    CHECK(strstr(json, "\"stage\": \"production\""));
    syna_free_json(json);
    CHECK_EQ(syna_model_list(path, "nobody", &json, NULL), 0);
    CHECK_STR(json, "[]");
    syna_free_json(json);
    CHECK_OK(syna_model_registry_close(path));
    CHECK_RC(syna_model_list(path, "clf", &json, NULL), SYNA_ERR_DB_NOT_FOUND);
    CHECK_RC(syna_model_registry_close(path), SYNA_ERR_DB_NOT_FOUND);
}

TEST(a_damaged_model_is_the_code_zero)
{
    const char *path = new_registry("m.db");
    uint8_t *data;
    char *json;
    save(path, "m", "abc", NULL);
    CHECK(syna_put_bytes(path, "model/m/v1/data", (const uint8_t *)"abd", 3) > 0);
    CHECK_FAILS(syna_model_load(path, "m", 1, &data, NULL, &json, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_CORRUPT);
    CHECK(data == NULL && json == NULL);
    CHECK(strstr(syna_last_error(), "checksum"));
    CHECK_EQ(save(path, "m", "abc", NULL), 2); /* the file is not damaged, only that model is */
    CHECK_OK(syna_model_registry_close(path));
}

TEST(what_is_not_there)
{
    const char *path = new_registry("m.db");
    uint8_t *data;
    save(path, "m", "x", NULL);
    CHECK_RC(syna_model_load(path, "m", 2, &data, NULL, NULL, NULL), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(syna_model_load(path, "n", 0, &data, NULL, NULL, NULL), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(syna_model_set_stage(path, "m", 2, 0), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(syna_model_set_stage(path, "m", 0, 0), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_OK(syna_model_registry_close(path));
}

TEST(bad_arguments_change_nothing)
{
    const char *path = new_registry("m.db");
    const uint8_t *x = (const uint8_t *)"x";
    static const char *const bad[] = {"", "[]", "{\"a\": 1}", "{", "x", "null"};
    uint32_t version = 77;
    uint8_t *data;
    char *json = (char *)"";
    CHECK_RC(syna_model_registry_open(NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(SAVE(NULL, "m", x, 1, NULL, &version, NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(SAVE(path, NULL, x, 1, NULL, &version, NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(SAVE(path, "m", NULL, 1, NULL, &version, NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(SAVE(path, "\xff", x, 1, NULL, &version, NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(SAVE(path, "", x, 1, NULL, &version, NULL, NULL), SYNA_ERR_EMPTY_KEY);
    CHECK_RC(SAVE(path, "m", x, 1, "{\"\xff\": \"\"}", &version, NULL, NULL),
             SYNA_ERR_INVALID_PATH);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        CHECK_FAILS(SAVE(path, "m", x, 1, bad[i], &version, NULL, NULL), SYNA_ERR_GENERIC,
                    SYNA_WHY_ARGUMENT);
    CHECK_EQ(version, 77);
    CHECK_RC(syna_model_load(path, "m", 1, NULL, NULL, NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_model_load(path, NULL, 1, &data, NULL, NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_model_list(path, "m", NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_model_list(path, NULL, &json, NULL), SYNA_ERR_INVALID_PATH);
    CHECK(json == NULL);
    CHECK_FAILS(syna_model_set_stage(path, "m", 1, 4), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_EQ(syna_model_list(path, "m", &json, NULL), 0);
    syna_free_json(json);
    CHECK_EQ(save(path, "m", "x", NULL), 1);
    CHECK_OK(syna_model_registry_close(path));
}

static int32_t remember(void *context, const char *name, uint32_t version, const char *text,
                        size_t len)
{
    char *seen = context;
    (void)len;
    snprintf(seen + strlen(seen), 200 - strlen(seen), "%s=%u:%c ", name, version, text[0]);
    return version == 9;
}

TEST(handles_stream_models_and_keep_aliases)
{
    syna_db *db;
    syna_model_writer *w;
    syna_model_reader *r;
    syna_model_facts facts = {sizeof facts, "{}", "run-1", "onnx"};
    syna_model_saved saved = {.size = sizeof saved};
    char room[8], seen[200] = "", *json;
    size_t got, len;
    uint32_t version, deleted;
    CHECK_OK(syna_db_open(check_path("m.db"), NULL, &db));
    CHECK_OK(syna_models_create(db, "m", &facts, &w));
    CHECK_OK(syna_models_write(w, "ab", 2));
    CHECK_OK(syna_models_write(w, NULL, 0));
    CHECK_OK(syna_models_write(w, "c", 1));
    CHECK_OK(syna_models_commit(w, &saved));
    CHECK_FAILS(syna_models_commit(w, &saved), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    syna_models_writer_free(w);
    CHECK_EQ(saved.version, 1);
    CHECK_EQ(saved.size_bytes, 3);
    CHECK_OK(syna_models_create(db, "m", NULL, &w));
    syna_models_writer_free(w); /* forgotten */
    CHECK_OK(syna_models_open(db, "m", 0, &r));
    CHECK_EQ(syna_models_size(r), 3);
    CHECK(strstr(syna_models_reader_json(r, NULL), "\"format\": \"onnx\", \"run_id\": \"run-1\""));
    CHECK_OK(syna_models_read(r, 1, room, sizeof room, &got));
    CHECK_EQ(got, 2);
    CHECK_OK(syna_models_read(r, 0, room, sizeof room, &got));
    CHECK_MEM(room, "abc", got);
    syna_models_reader_free(r);
    CHECK_OK(syna_models_set_alias(db, "m", "best", 1));
    CHECK_OK(syna_models_alias(db, "m", "best", &version));
    CHECK_EQ(version, 1);
    CHECK_OK(syna_models_aliases(db, "m", remember, seen));
    CHECK_OK(syna_models_list(db, NULL, remember, seen));
    CHECK_STR(seen, "m=1:b m=1:{ ");
    CHECK_RC(syna_models_production(db, "m", &version), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_OK(syna_models_set_stage(db, "m", 1, SYNA_STAGE_PRODUCTION));
    CHECK_OK(syna_models_production(db, "m", &version));
    CHECK_OK(syna_models_stages(db, "m", &json, &len));
    CHECK_EQ(strlen(json), len);
    syna_free_text(json, len);
    CHECK_OK(syna_models_info(db, "m", 1, &json, NULL));
    syna_free_text(json, 0);
    CHECK_OK(syna_models_set_alias(db, "m", "best", 0));
    CHECK_RC(syna_models_alias(db, "m", "best", &version), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_OK(syna_models_delete(db, "m", 0, &deleted));
    CHECK_EQ(deleted, 1);
    CHECK_OK(syna_models_delete(db, "m", 1, NULL));
    CHECK_OK(syna_db_close(db));
}

TEST(handles_refuse_what_is_missing)
{
    syna_db *db;
    syna_model_writer *w = (syna_model_writer *)8;
    syna_model_reader *r = (syna_model_reader *)8;
    syna_model_facts small = {.size = 4};
    uint32_t version;
    size_t got;
    char *json;
    CHECK_OK(syna_db_open(check_path("m.db"), NULL, &db));
    CHECK_RC(syna_models_create(NULL, "m", NULL, &w), SYNA_ERR_INVALID_PATH);
    CHECK(w == NULL);
    CHECK_RC(syna_models_create(db, NULL, NULL, &w), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_models_create(db, "m", NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_FAILS(syna_models_create(db, "m", &small, &w), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_RC(syna_models_write(NULL, "", 0), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_models_commit(NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_models_open(db, NULL, 1, &r), SYNA_ERR_INVALID_PATH);
    CHECK(r == NULL);
    CHECK_RC(syna_models_read(NULL, 0, NULL, 0, &got), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_models_size(NULL), 0);
    CHECK(syna_models_reader_json(NULL, NULL) == NULL);
    CHECK_RC(syna_models_info(db, "m", 1, NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_models_list(db, NULL, NULL, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_models_production(db, "m", NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_models_stages(db, NULL, &json, NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_models_alias(db, "m", NULL, &version), SYNA_ERR_INVALID_PATH);
    CHECK_FAILS(syna_models_set_alias(db, "m", "a/b", 1), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_models_set_alias(db, "m", "", 1), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_RC(syna_models_delete(NULL, "m", 1, NULL), SYNA_ERR_INVALID_PATH);
    syna_models_writer_free(NULL);
    syna_models_reader_free(NULL);
    CHECK_OK(syna_db_close(db));
}

TEST(a_registry_in_a_file_that_is_open_already)
{
    const char *path = check_path("m.db");
    CHECK_OK(syna_open(path)); /* for itself */
    CHECK_OK(syna_model_registry_open(path));
    CHECK_EQ(save(path, "m", "x", NULL), 1);
    CHECK_OK(syna_model_registry_close(path));
    CHECK_EQ(save(path, "m", "x", NULL), 2);
    CHECK_OK(syna_close(path));
}
