/* synadb/registry.h - the model registry: versions of models with checksums, stages and aliases.
 *
 * A registry lives in an ordinary SynaDB log (csrc/FORMATS.md, "Models"); what Python's
 * `ModelRegistry` writes is read here and the reverse. Two faces, as in kv.h:
 *
 *   path-keyed   syna_model_registry_open(path) once, then the path with every call.
 *   handles      syna_models_* take any open `syna_db *`.
 *
 * Versions of a name are 1, 2, 3 ... in the order in which saves finished, and never given twice, not
 * even after the newest or all of them were deleted. A save is one commit: a failed or killed one leaves
 * no version, and at most unnamed chunks that the next compaction drops. Several processes may save to
 * one file that all of them opened `shared`.
 *
 * The checksum is the SHA-256 of the stored bytes. Reading a version to its end compares it; bytes that
 * do not match are an error and not a model.
 *
 * Stages: a version is in development until it is promoted. Several versions may be in production; the
 * one promoted last is *the* production version, and when it is archived, demoted or deleted the one
 * promoted before it is again. Every change of a stage is kept with its time, also when the version is
 * deleted.
 *
 * Names are 1..65000 bytes of UTF-8, '/' included. Errors beside those of kv.h: -5 no such version, -2
 * null pointer or bad UTF-8, 0 with reason ARGUMENT for other bad arguments. All arguments are borrowed;
 * JSON that is given goes back through syna_free_text. */
#ifndef SYNADB_REGISTRY_H
#define SYNADB_REGISTRY_H

#include "kv.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYNA_STAGE_DEVELOPMENT 0
#define SYNA_STAGE_STAGING 1
#define SYNA_STAGE_PRODUCTION 2
#define SYNA_STAGE_ARCHIVED 3

#define SYNA_MODEL_NAME_MAX 65000u /* bytes in a name */
#define SYNA_MODEL_ALIAS_MAX 200u  /* bytes in an alias */

/* A version as JSON: name, version, created_at (seconds since 1970), checksum (64 hexadecimal digits),
 * size_bytes, metadata (an object of strings), stage ("development", "staging", "production",
 * "archived"), stage_us (microseconds since 1970: since when; 0 = not known), format (what kind of bytes,
 * "raw" unless said otherwise), run_id (text or null). Read the same whether this library or the ancestor
 * wrote the file. */

/* ---------------------------------------------------------------- path-keyed face (the seeds') */

/* Open or create the file. Openings are counted. Several processes may have it open. When this process
 * has the file open already, that database is used as it is. */
SYNA_API int32_t syna_model_registry_open(const char *path);
SYNA_API int32_t syna_model_registry_close(const char *path);

/* Save `data` as the next version of `name`. metadata_json: a JSON object of strings, or NULL for none;
 * anything else is refused. Returns SYNA_SUCCESS with the version number; *out_checksum is given
 * (syna_free_text). The last three may be NULL. */
SYNA_API int64_t syna_model_save(const char *path, const char *name, const uint8_t *data,
                                 size_t data_len, const char *metadata_json, uint32_t *out_version,
                                 char **out_checksum, size_t *out_checksum_len);

/* Load a version, 0 = the newest. *out_data is given (syna_free_bytes), and so is *out_meta_json, the
 * version as JSON (syna_free_text); both lengths and out_meta_json may be NULL. -5 when there is no such
 * version; 0 with reason CORRUPT when the bytes do not match their checksum. */
SYNA_API int32_t syna_model_load(const char *path, const char *name, uint32_t version,
                                 uint8_t **out_data, size_t *out_data_len, char **out_meta_json,
                                 size_t *out_meta_len);

/* The versions of `name`, ascending, as a JSON list; of a name that is not there an empty one. *out_json
 * is given (syna_free_json of vector.h). Returns their number or a negative code. */
SYNA_API int32_t syna_model_list(const char *path, const char *name, char **out_json,
                                 size_t *out_len);

/* stage: SYNA_STAGE_*; another number is refused. */
SYNA_API int32_t syna_model_set_stage(const char *path, const char *name, uint32_t version,
                                      int32_t stage);

/* ---------------------------------------------------------------- handles: saving */

/* What is remembered with a version. Set size = sizeof(syna_model_facts); NULL for what is not wanted. */
typedef struct syna_model_facts {
    uint32_t size;
    const char *metadata_json; /* a JSON object of strings */
    const char *run_id;        /* the run that made it */
    const char *format;        /* what kind of bytes; NULL = "raw" */
} syna_model_facts;

typedef struct syna_model_saved {
    uint32_t size;
    uint32_t version;
    uint64_t size_bytes;
    char checksum[65];
    char reserved[7];
} syna_model_saved;

typedef struct syna_model_writer syna_model_writer;

/* Save in pieces: create, write as often as needed, then commit, which gives the version its number and
 * makes it visible. Free in any case; what was not committed is forgotten. One thread at a time; no lock
 * is held between the calls. Memory: some 8 MiB whatever the size. facts may be NULL. */
SYNA_API int32_t syna_models_create(syna_db *db, const char *name, const syna_model_facts *facts,
                                    syna_model_writer **out);
SYNA_API int32_t syna_models_write(syna_model_writer *writer, const void *data, size_t len);
SYNA_API int32_t syna_models_commit(syna_model_writer *writer, syna_model_saved *out);
SYNA_API void syna_models_writer_free(syna_model_writer *writer);

/* ---------------------------------------------------------------- handles: reading */

typedef struct syna_model_reader syna_model_reader;

/* Open a version, 0 = the newest, to read its bytes. It stays readable when it is deleted meanwhile. Free
 * before the database is closed. */
SYNA_API int32_t syna_models_open(syna_db *db, const char *name, uint32_t version,
                                  syna_model_reader **out);
SYNA_API uint64_t syna_models_size(const syna_model_reader *reader);
/* Up to `len` bytes from `offset` on. Every piece of the file is checked by its CRC32C before it is given
 * out. Reads that go through the whole model from its start, with whatever overlaps, also compare the
 * SHA-256; the read that completes it fails when that does not match. One thread at a time. */
SYNA_API int32_t syna_models_read(syna_model_reader *reader, uint64_t offset, void *buf, size_t len,
                                  size_t *got);
/* The version as JSON, borrowed from the reader. */
SYNA_API const char *syna_models_reader_json(const syna_model_reader *reader, size_t *len);
SYNA_API void syna_models_reader_free(syna_model_reader *reader);

/* A version as JSON; version 0 = the newest. *out_json is given (syna_free_text). */
SYNA_API int32_t syna_models_info(syna_db *db, const char *name, uint32_t version, char **out_json,
                                  size_t *out_len);

/* Visit the versions of a name, ascending, or with NULL of all names in byte order. `json` is
 * NUL-terminated and valid during the visit. Return 0 to go on; anything else ends the call, which then
 * succeeds. */
typedef int32_t (*syna_model_fn)(void *context, const char *name, uint32_t version,
                                 const char *json, size_t json_len);
SYNA_API int32_t syna_models_list(syna_db *db, const char *name, syna_model_fn visit,
                                  void *context);

/* ---------------------------------------------------------------- handles: stages, aliases, deletion */

SYNA_API int32_t syna_models_set_stage(syna_db *db, const char *name, uint32_t version,
                                       int32_t stage);
/* The production version; -5 when there is none. */
SYNA_API int32_t syna_models_production(syna_db *db, const char *name, uint32_t *version);
/* Every change of a stage, oldest first, as a JSON list of {"version", "stage", "at"}: at in microseconds
 * since 1970, stage "deleted" when the version was deleted. *out_json is given (syna_free_text). */
SYNA_API int32_t syna_models_stages(syna_db *db, const char *name, char **out_json,
                                    size_t *out_len);

/* Let `alias` (1..200 bytes, without '/') mean this version; 0 takes the alias away. It goes with the
 * version when that is deleted. */
SYNA_API int32_t syna_models_set_alias(syna_db *db, const char *name, const char *alias,
                                       uint32_t version);
SYNA_API int32_t syna_models_alias(syna_db *db, const char *name, const char *alias,
                                   uint32_t *version);
/* Visit the aliases of a name in byte order; `json` is the alias itself. */
SYNA_API int32_t syna_models_aliases(syna_db *db, const char *name, syna_model_fn visit,
                                     void *context);

/* Delete one version, or with 0 all of a name, in one commit. *deleted: how many there were. */
SYNA_API int32_t syna_models_delete(syna_db *db, const char *name, uint32_t version,
                                    uint32_t *deleted);

#ifdef __cplusplus
}
#endif
#endif
