/* The seeds' names of the index, syna_hnsw_*: a vector store whose graph is made by syna_hnsw_save. */
#include "check.h"

#include <synadb/vector.h>
#include <unistd.h>

enum { ROWS = 1500, DIMS = 8 };

static void row_of(int i, float *out)
{
    uint32_t bits = (uint32_t)i * 2654435761u + 1;
    for (int d = 0; d < DIMS; d++) {
        bits = bits * 1664525u + 1013904223u;
        out[d] = (float)(bits >> 8) / (1 << 24) - 0.5f;
    }
}

static const char *filled(int rows)
{
    const char *path = check_path("graph.hnsw");
    float row[DIMS];
    CHECK_OK(syna_hnsw_create(path, DIMS, SYNA_METRIC_EUCLIDEAN, 12, 80));
    for (int i = 0; i < rows; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        row_of(i, row);
        CHECK_OK(syna_hnsw_insert(path, key, row, DIMS));
    }
    return path;
}

static void check_indexed(const char *path, int rows, int indexed)
{
    char *json = NULL, want[128];
    snprintf(want, sizeof want,
             "{\"num_vectors\":%d,\"dimensions\":%d,\"metric\":\"euclidean\",\"indexed\":%d,", rows,
             DIMS, indexed);
    CHECK_OK(syna_hnsw_stats(path, &json));
    CHECK_MEM(json, want, strlen(want));
    syna_free_json(json);
}

/* Every 50th row is the best answer to itself. */
static void check_found(const char *path, size_t ef)
{
    for (int i = 0; i < ROWS; i += 50) {
        char *json = NULL, want[64];
        float row[DIMS];
        row_of(i, row);
        int len = snprintf(want, sizeof want, "[{\"key\":\"k%d\",\"score\":0,\"vector\":[", i);
        CHECK_EQ(syna_hnsw_search(path, row, DIMS, 3, ef, &json), 3);
        CHECK_MEM(json, want, (size_t)len);
        syna_free_json(json);
    }
}

TEST(a_graph_is_made_saved_and_loaded_again)
{
    const char *path = filled(ROWS);
    check_indexed(path, ROWS, 0);
    check_found(path, 0);
    CHECK_OK(syna_hnsw_save(path));
    check_indexed(path, ROWS, ROWS);
    check_found(path, 0);
    check_found(path, 300);
    CHECK_OK(syna_hnsw_close(path));
    CHECK_OK(syna_hnsw_load(path));
    check_indexed(path, ROWS, ROWS);
    check_found(path, 200);
    CHECK_OK(syna_hnsw_close(path));
    CHECK_FAILS(syna_hnsw_close(path), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
}

TEST(rows_after_the_graph_are_found_and_it_is_a_vector_store)
{
    const char *path = filled(ROWS);
    const float far[DIMS] = {9, 9, 9, 9, 9, 9, 9, 9};
    char *json = NULL;
    CHECK_OK(syna_hnsw_save(path));
    CHECK_OK(syna_hnsw_insert(path, "far", far, DIMS));
    CHECK_EQ(syna_hnsw_search(path, far, DIMS, 1, 20, &json), 1);
    CHECK_MEM(json, "[{\"key\":\"far\",\"score\":0,", 24);
    syna_free_json(json);
    CHECK_EQ(syna_vector_store_has_index(path), 1);
    CHECK_EQ(syna_vector_store_search(path, far, DIMS, ROWS * 2, &json), ROWS + 1);
    syna_free_json(json);
    CHECK_OK(syna_hnsw_close(path));
}

TEST(bad_arguments_are_refused_and_create_nothing)
{
    const char *path = check_path("none.hnsw");
    const float row[DIMS] = {1};
    char *json = NULL;
    CHECK_RC(syna_hnsw_create(path, 0, SYNA_METRIC_COSINE, 16, 200), SYNA_ERR_GENERIC);
    CHECK_RC(syna_hnsw_create(path, DIMS, SYNA_METRIC_COSINE, 0, 200), SYNA_ERR_GENERIC);
    CHECK_RC(syna_hnsw_create(path, DIMS, SYNA_METRIC_COSINE, 16, 0), SYNA_ERR_GENERIC);
    CHECK_RC(syna_hnsw_create(path, DIMS, SYNA_METRIC_COSINE, 65, 200), SYNA_ERR_GENERIC);
    CHECK_RC(syna_hnsw_create(path, DIMS, SYNA_METRIC_COSINE, 16, 4097), SYNA_ERR_GENERIC);
    CHECK_RC(syna_hnsw_create(path, DIMS, 3, 16, 200), SYNA_ERR_GENERIC);
    CHECK(syna_hnsw_load(path) < 0);
    CHECK(access(path, F_OK) != 0);
    CHECK_FAILS(syna_hnsw_insert(path, "a", row, DIMS), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
    CHECK_FAILS(syna_hnsw_save(path), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);
    CHECK_FAILS(syna_hnsw_stats(path, &json), SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED);

    path = filled(3);
    CHECK(syna_hnsw_search(path, row, DIMS, 1, 4097, &json) < 1 && !json);
    CHECK(syna_hnsw_search(path, row, DIMS - 1, 1, 0, &json) < 1 && !json);
    CHECK(syna_hnsw_insert(path, "", row, DIMS) < 1);
    check_indexed(path, 3, 0);
    CHECK_OK(syna_hnsw_close(path));
}
