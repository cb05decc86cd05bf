/* The JSON records of the model registry: read, checked, written. Pure: text in, text out. */
#ifndef SYNA_ENGINE_MODELS_JSON_H
#define SYNA_ENGINE_MODELS_JSON_H

#include "engine/run_json.h"

/* A version. Spans are JSON values inside the text that was read; at NULL: not there. */
struct model_record {
    struct json_span created_at, metadata, run_id, format;
    uint64_t size_bytes;
    uint64_t stage_us; /* since when it has this stage; 0 in files of the ancestor */
    int32_t stage;
    char checksum[65];
};

/* Is the text one JSON object whose values are strings? */
bool model_json_is_metadata(const char *text, size_t len);

/* Take the record of a version apart; false: it is none. */
bool model_json_read(const char *text, size_t len, struct model_record *out);
/* Append it as JSON. false = no memory. */
bool model_json_write(struct buf *to, const char *name, uint32_t version,
                      const struct model_record *record);

/* A field that is a whole number; false when there is none. */
bool model_json_number(const char *text, size_t len, const char *field, uint64_t *out);

#endif
