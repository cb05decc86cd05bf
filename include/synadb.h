/* synadb.h - SynaDB, the embedded database for AI work: the umbrella header.
 *
 * A complete program (tests/docs/test_examples.py compiles and runs it):
 *
 *     #include <stdio.h>
 *     #include <synadb.h>
 *
 *     int main(void)
 *     {
 *         if (syna_open("sensors.db") != SYNA_SUCCESS) {
 *             fprintf(stderr, "%s\n", syna_last_error());
 *             return 1;
 *         }
 *         syna_put_float("sensors.db", "temperature", 23.5);
 *         syna_put_float("sensors.db", "temperature", 24.1);
 *
 *         double now;
 *         if (syna_get_float("sensors.db", "temperature", &now) == SYNA_SUCCESS)
 *             printf("now %.1f\n", now);
 *
 *         size_t count;
 *         double *history = syna_get_history_tensor("sensors.db", "temperature", &count);
 *         for (size_t i = 0; i < count; i++)
 *             printf("was %.1f\n", history[i]);
 *         syna_free_tensor(history, count);
 *
 *         return syna_close("sensors.db") == SYNA_SUCCESS ? 0 : 1;
 *     }
 *
 * Compile with:  cc program.c $(pkg-config --cflags --libs synadb)  */
#ifndef SYNADB_H
#define SYNADB_H

#include "synadb/arrow.h"
#include "synadb/base.h"
#include "synadb/cascade.h"
#include "synadb/experiment.h"
#include "synadb/gwi.h"
#include "synadb/hybrid.h"
#include "synadb/kv.h"
#include "synadb/migrate.h"
#include "synadb/registry.h"
#include "synadb/sparse.h"
#include "synadb/tensor.h"
#include "synadb/text.h"
#include "synadb/vector.h"

#endif
