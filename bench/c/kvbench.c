/* kvbench - one task on one store, timed; bench.py runs it for every peer in turn.
 *
 *   kvbench ENGINE load DIR KEYS VALUE_BYTES          fill the store: ids 0..KEYS-1, in batches
 *   kvbench ENGINE get  DIR KEYS VALUE_BYTES OPS      random gets, after a pass over all keys
 *   kvbench ENGINE put  DIR KEYS VALUE_BYTES          KEYS new keys, one commit each
 *   kvbench ENGINE batch DIR KEYS VALUE_BYTES SIZE    the same in commits of SIZE
 *   kvbench ENGINE over DIR TIMES VALUE_BYTES OPS     gets of a key written once, then of one that
 *                                                     was written TIMES times: two results
 *   kvbench ENGINE ycsb DIR KEYS VALUE_BYTES TRACE    the operations of a trace (workloads.py)
 *   kvbench limit durable DIR COMMITS VALUE_BYTES THREADS ROUNDS   durable writes without a store, by
 *                                                     one thread and by many, in turns (limit.c)
 *   kvbench list                                      the engines of this build, one a line
 *
 * Each result is one line of JSON: operations, wall and CPU seconds. CPU is that of the whole
 * process, kernel time and background threads included. A wrong answer ends the program. */
#include "engine.h"
#include "limit.h"

#include <time.h>

static const struct engine *const engines[] = {
    &engine_synadb,
#ifdef HAVE_LMDB
    &engine_lmdb,   &engine_lmdb_map, &engine_lmdb_fresh,
#endif
#ifdef HAVE_ROCKSDB
    &engine_rocksdb,
#endif
#ifdef HAVE_SQLITE
    &engine_sqlite,
#endif
    &engine_table,
};
#define ENGINE_COUNT (sizeof engines / sizeof *engines)
#define VALUE_POOL 1024u /* power of two: values are taken from it in turn */
#define LOAD_BATCH 1000u

struct bench {
    const struct engine *engine;
    void *store;
    size_t value_len;
    char *pool; /* VALUE_POOL values */
    char *buf;  /* one value */
};

/* ---------------------------------------------------------------- clocks */

struct clocks {
    double wall, cpu;
};

static double seconds(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct clocks now(void)
{
    return (struct clocks){seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

static void report(struct clocks begin, size_t ops)
{
    struct clocks end = now();
    printf("{\"ops\": %zu, \"wall\": %.9f, \"cpu\": %.9f}\n", ops, end.wall - begin.wall,
           end.cpu - begin.cpu);
}

/* ---------------------------------------------------------------- data */

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* The key of record `id`: a bijection of the id, so that ids in order give keys in no order. The
 * same as workloads.key in Python. */
static void make_key(char key[KEY_BYTES], uint64_t id)
{
    uint64_t n = (uint64_t)((unsigned __int128)id * 387420489u % 1000000000000u);
    memcpy(key, "user", 4);
    for (size_t i = KEY_BYTES; i-- > 4; n /= 10)
        key[i] = (char)('0' + n % 10);
}

static void make_pair(const struct bench *b, struct pair *p, uint64_t id, uint64_t version)
{
    make_key(p->key, id);
    p->value = b->pool + ((id + version) & (VALUE_POOL - 1)) * b->value_len;
    p->len = b->value_len;
}

/* Printable, random, and not compressible by LZ4. */
static void fill_pool(struct bench *b)
{
    uint64_t state = 88172645463325252u;
    b->pool = malloc(VALUE_POOL * b->value_len);
    b->buf = malloc(b->value_len);
    if (!b->pool || !b->buf)
        die("kvbench", "out of memory");
    for (size_t i = 0; i < VALUE_POOL * b->value_len; i++)
        b->pool[i] = (char)(' ' + next_random(&state) % 95);
}

/* ---------------------------------------------------------------- tasks */

static void must_get(const struct bench *b, uint64_t id)
{
    char key[KEY_BYTES];
    make_key(key, id);
    if (b->engine->get(b->store, key, b->buf, b->value_len) != (long)b->value_len)
        die(b->engine->name, "a key is missing or has a value of another length");
}

static void must_put(const struct bench *b, uint64_t id, uint64_t version)
{
    struct pair p;
    make_pair(b, &p, id, version);
    if (!b->engine->put(b->store, &p))
        die(b->engine->name, "put failed");
}

static void put_in_batches(const struct bench *b, size_t keys, size_t size)
{
    struct pair *pairs = malloc(size * sizeof *pairs);
    if (!pairs)
        die("kvbench", "out of memory");
    for (size_t id = 0; id < keys;) {
        size_t count = 0;
        while (count < size && id < keys)
            make_pair(b, &pairs[count++], id++, 0);
        if (!b->engine->batch(b->store, pairs, count))
            die(b->engine->name, "batch failed");
    }
    free(pairs);
}

static void task_get(const struct bench *b, size_t keys, size_t ops)
{
    for (size_t id = 0; id < keys; id++)
        must_get(b, id);
    uint64_t state = 0x9e3779b97f4a7c15u;
    struct clocks begin = now();
    for (size_t i = 0; i < ops; i++)
        must_get(b, next_random(&state) % keys);
    report(begin, ops);
}

static void task_put(const struct bench *b, size_t keys)
{
    struct clocks begin = now();
    for (size_t id = 0; id < keys; id++)
        must_put(b, id, 0);
    report(begin, keys);
}

static void task_batch(const struct bench *b, size_t keys, size_t size)
{
    struct clocks begin = now();
    put_in_batches(b, keys, size);
    report(begin, keys);
}

static void task_over(const struct bench *b, size_t times, size_t ops)
{
    must_put(b, 0, 0);
    for (size_t i = 0; i < times; i++)
        must_put(b, 1, i);
    for (uint64_t id = 0; id < 2; id++) {
        for (size_t i = 0; i < ops / 10; i++)
            must_get(b, id);
        struct clocks begin = now();
        for (size_t i = 0; i < ops; i++)
            must_get(b, id);
        report(begin, ops);
    }
}

/* ---------------------------------------------------------------- YCSB */

enum op { OP_READ, OP_UPDATE, OP_INSERT, OP_SCAN, OP_READ_MODIFY_WRITE };

/* One operation of a trace file; little-endian, 8 bytes. */
struct step {
    uint8_t op, zero;
    uint16_t len; /* of a scan, in records */
    uint32_t id;
};

static struct step *read_trace(const char *path, size_t *count)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        die(path, "cannot read the trace");
    long bytes = ftell(file);
    rewind(file);
    *count = (size_t)bytes / sizeof(struct step);
    struct step *steps = malloc(*count * sizeof *steps);
    if (!steps || fread(steps, sizeof *steps, *count, file) != *count)
        die(path, "cannot read the trace");
    fclose(file);
    return steps;
}

static void run_step(const struct bench *b, const struct step *s, uint64_t version)
{
    char key[KEY_BYTES];
    switch (s->op) {
    case OP_READ:
        must_get(b, s->id);
        break;
    case OP_UPDATE:
    case OP_INSERT:
        must_put(b, s->id, version);
        break;
    case OP_SCAN:
        make_key(key, s->id);
        if (b->engine->scan(b->store, key, s->len, b->buf, b->value_len) < 1)
            die(b->engine->name, "scan failed");
        break;
    case OP_READ_MODIFY_WRITE:
        must_get(b, s->id);
        must_put(b, s->id, version);
        break;
    default:
        die("kvbench", "unknown operation in the trace");
    }
}

/* The first tenth of the trace warms up. */
static void task_ycsb(const struct bench *b, size_t keys, const char *path)
{
    size_t count;
    struct step *steps = read_trace(path, &count);
    for (size_t id = 0; id < keys; id++)
        must_get(b, id);
    size_t warm = count / 10;
    for (size_t i = 0; i < warm; i++)
        run_step(b, &steps[i], i);
    struct clocks begin = now();
    for (size_t i = warm; i < count; i++)
        run_step(b, &steps[i], i);
    report(begin, count - warm);
    free(steps);
}

/* ---------------------------------------------------------------- the program */

static const struct engine *find_engine(const char *name)
{
    for (size_t i = 0; i < ENGINE_COUNT; i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    die(name, "no such engine in this build");
    return NULL;
}

static size_t number(const char *text)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    if (*end || n == 0)
        die(text, "expected a positive number");
    return (size_t)n;
}

static void run(const struct bench *b, const char *task, size_t keys, const char *last)
{
    if (strcmp(task, "load") == 0)
        put_in_batches(b, keys, LOAD_BATCH);
    else if (strcmp(task, "put") == 0)
        task_put(b, keys);
    else if (!last)
        die(task, "an argument is missing, or there is no such task");
    else if (strcmp(task, "get") == 0)
        task_get(b, keys, number(last));
    else if (strcmp(task, "batch") == 0)
        task_batch(b, keys, number(last));
    else if (strcmp(task, "over") == 0)
        task_over(b, keys, number(last));
    else if (strcmp(task, "ycsb") == 0)
        task_ycsb(b, keys, last);
    else
        die(task, "no such task");
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (size_t i = 0; i < ENGINE_COUNT; i++)
            puts(engines[i]->name);
        return 0;
    }
    if (argc == 8 && strcmp(argv[1], "limit") == 0) {
        limit_durable(argv[3], number(argv[4]), number(argv[5]), number(argv[6]), number(argv[7]));
        return 0;
    }
    if (argc < 6)
        die("usage", "kvbench ENGINE TASK DIR KEYS VALUE_BYTES [OPS|SIZE|TRACE]; kvbench list");
    struct bench b = {.engine = find_engine(argv[1]), .value_len = number(argv[5])};
    fill_pool(&b);
    b.store = b.engine->open(argv[3]);
    run(&b, argv[2], number(argv[4]), argc > 6 ? argv[6] : NULL);
    b.engine->close(b.store);
    free(b.pool);
    free(b.buf);
    return 0;
}
