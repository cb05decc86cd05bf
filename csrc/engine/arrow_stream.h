/* Records of a database as an Arrow stream: arrow.h of the C interface, "as Arrow batches". */
#ifndef SYNA_ENGINE_ARROW_STREAM_H
#define SYNA_ENGINE_ARROW_STREAM_H

#include "engine/arrow_records.h"

syna_rc arrow_stream(syna_db *db, const syna_records_options *options, struct ArrowArrayStream *out);
syna_rc arrow_stream_schema(const syna_records_options *options, struct ArrowSchema *out);

#endif
