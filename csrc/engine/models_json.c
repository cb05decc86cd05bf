/* models_json.c - see models_json.h. Built on the cursor of run_json.c. */
#include "base/internal.h"

#include "engine/models.h"
#include "engine/models_json.h"

const char *const models_stage_names[MODELS_STAGES] = {"development", "staging", "production",
                                                       "archived"};

/* ---------------------------------------------------------------- metadata */

static size_t skip_space(const char *text, size_t at)
{
    while (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r')
        at++;
    return at;
}

/* Behind the string that starts at `at`, of a text that is valid JSON. */
static size_t skip_string(const char *text, size_t at)
{
    for (at++; text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return skip_space(text, at + 1);
}

bool model_json_is_metadata(const char *text, size_t len)
{
    if (!json_is_object(text, len))
        return false;
    size_t at = skip_space(text, skip_space(text, 0) + 1);
    while (text[at] != '}') {
        at = skip_space(text, skip_string(text, at) + 1); /* name and colon */
        if (text[at] != '"')
            return false;
        at = skip_string(text, at);
        if (text[at] == ',')
            at = skip_space(text, at + 1);
    }
    return true;
}

/* ---------------------------------------------------------------- reading */

static bool number_of(struct json_span span, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < span.len; i++) {
        unsigned digit = (unsigned)(unsigned char)span.at[i] - '0';
        if (digit > 9 || *out > (UINT64_MAX - digit) / 10)
            return false;
        *out = *out * 10 + digit;
    }
    return span.len > 0;
}

bool model_json_number(const char *text, size_t len, const char *field, uint64_t *out)
{
    return number_of(json_field(text, len, field), out);
}

/* Any case: the ancestor's two sides wrote different ones. */
static bool stage_of(struct json_span span, int32_t *out)
{
    for (int32_t i = 0; i < MODELS_STAGES; i++)
        if (json_equals_word(span, models_stage_names[i])) {
            *out = i;
            return true;
        }
    return false;
}

static bool checksum_of(struct json_span span, char out[65])
{
    if (span.len != 66 || span.at[0] != '"')
        return false;
    memcpy(out, span.at + 1, 64);
    out[64] = 0;
    return strspn(out, "0123456789abcdef") == 64;
}

static bool optional_text(struct json_span span)
{
    return !span.at || span.at[0] == '"' || (span.len == 4 && memcmp(span.at, "null", 4) == 0);
}

bool model_json_read(const char *text, size_t len, struct model_record *out)
{
    memset(out, 0, sizeof *out);
    if (!json_is_object(text, len))
        return false;
    out->created_at = json_field(text, len, "created_at");
    out->metadata = json_field(text, len, "metadata");
    out->run_id = json_field(text, len, "run_id");
    out->format = json_field(text, len, "format");
    struct json_span since = json_field(text, len, "stage_us");
    return model_json_number(text, len, "size_bytes", &out->size_bytes) &&
           stage_of(json_field(text, len, "stage"), &out->stage) &&
           checksum_of(json_field(text, len, "checksum"), out->checksum) &&
           (!since.at || number_of(since, &out->stage_us)) && optional_text(out->run_id) &&
           optional_text(out->format) &&
           (!out->metadata.at || model_json_is_metadata(out->metadata.at, out->metadata.len));
}

/* ---------------------------------------------------------------- writing */

static bool add_number(struct buf *to, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return json_add_text(to, text);
}

bool model_json_write(struct buf *to, const char *name, uint32_t version,
                      const struct model_record *r)
{
    return json_add_text(to, "{\"name\": ") && json_add_string(to, name, strlen(name)) &&
           json_add_text(to, ", \"version\": ") && add_number(to, version) &&
           json_add_text(to, ", \"created_at\": ") && json_add_span(to, r->created_at, "0") &&
           json_add_text(to, ", \"checksum\": \"") && json_add_text(to, r->checksum) &&
           json_add_text(to, "\", \"size_bytes\": ") && add_number(to, r->size_bytes) &&
           json_add_text(to, ", \"metadata\": ") && json_add_span(to, r->metadata, "{}") &&
           json_add_text(to, ", \"stage\": \"") &&
           json_add_text(to, models_stage_names[r->stage]) &&
           json_add_text(to, "\", \"stage_us\": ") && add_number(to, r->stage_us) &&
           json_add_text(to, ", \"format\": ") && json_add_span(to, r->format, "\"raw\"") &&
           json_add_text(to, ", \"run_id\": ") && json_add_span(to, r->run_id, "null") &&
           json_add_text(to, "}");
}
