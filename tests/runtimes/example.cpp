// SynaDB from C++17: classes that own what the C interface gives, and close or free it when they go.
//
//   c++ -std=c++17 -I include example.cpp .../libsynadb.so -o example && ./example FOLDER
//
// Prints one JSON object.
#include <synadb.h>

#include <array>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace synadb {

// An error of the library: its code, its reason, its message.
class Error : public std::runtime_error {
public:
    explicit Error(int32_t code_)
        : std::runtime_error(syna_last_error()), code(code_), reason(syna_last_reason())
    {
    }
    int32_t code;
    int32_t reason;
};

inline void check(int32_t code)
{
    if (code != SYNA_SUCCESS)
        throw Error(code);
}

struct History {
    std::vector<double> values;
    std::vector<uint64_t> times_us;
};

// An open database. The destructor closes it; close() does the same and reports what went wrong.
class Database {
public:
    explicit Database(const std::string &path, bool read_only = false)
    {
        syna_db_options options{};
        options.size = sizeof options;
        options.read_only = read_only;
        syna_db *db = nullptr;
        check(syna_db_open(path.c_str(), &options, &db));
        db_.reset(db);
    }

    void close() { check(syna_db_close(db_.release())); }

    void put(std::string_view key, std::string_view text) { put(key, SYNA_TYPE_TEXT, text.data(), text.size()); }
    void put(std::string_view key, const std::vector<uint8_t> &bytes)
    {
        put(key, SYNA_TYPE_BYTES, bytes.data(), bytes.size());
    }
    void append(std::string_view key, const History &history)
    {
        check(syna_db_append_floats(db_.get(), key.data(), key.size(), history.values.data(),
                                    history.times_us.data(), history.values.size()));
    }

    // Text or bytes.
    std::string get(std::string_view key) const
    {
        std::string value(16, '\0');
        size_t len = 0;
        int32_t type = 0;
        for (;;) {
            check(syna_db_get(db_.get(), key.data(), key.size(), value.data(), value.size(), &len, &type));
            bool fits = len <= value.size();
            value.resize(len); // too small: nothing was copied
            if (fits)
                return value;
        }
    }

    History history(std::string_view key) const
    {
        History found;
        size_t count = 0;
        check(syna_db_history_floats(db_.get(), key.data(), key.size(), nullptr, nullptr, 0, &count));
        found.values.resize(count);
        found.times_us.resize(count);
        check(syna_db_history_floats(db_.get(), key.data(), key.size(), found.values.data(),
                                     found.times_us.data(), count, &count));
        return found;
    }

    int64_t count() const { return syna_db_count(db_.get()); }

private:
    void put(std::string_view key, int32_t type, const void *data, size_t len)
    {
        check(syna_db_put(db_.get(), key.data(), key.size(), type, data, len, nullptr, nullptr));
    }

    struct Close {
        void operator()(syna_db *db) const { syna_db_close(db); }
    };
    std::unique_ptr<syna_db, Close> db_;
};

// Hits of a search; keys live as long as this.
class Hits {
public:
    Hits(syna_hit *hits, size_t count) : hits_(hits), count_(count) {}
    const syna_hit *begin() const { return hits_.get(); }
    const syna_hit *end() const { return hits_.get() + count_; }

private:
    struct Free {
        void operator()(syna_hit *hits) const { syna_free_hits(hits); }
    };
    std::unique_ptr<syna_hit, Free> hits_;
    size_t count_;
};

// An open store of vectors.
class Vectors {
public:
    Vectors(const std::string &path, uint32_t dimensions)
    {
        syna_vectors_options options{};
        options.size = sizeof options;
        options.dimensions = dimensions;
        syna_vectors *store = nullptr;
        check(syna_vectors_open(path.c_str(), &options, &store));
        store_.reset(store);
    }

    void close() { check(syna_vectors_close(store_.release())); }

    void insert(std::string_view key, const std::vector<float> &row)
    {
        check(syna_vectors_insert(store_.get(), key.data(), key.size(), row.data(),
                                  static_cast<uint32_t>(row.size())));
    }

    Hits search(const std::vector<float> &query, uint64_t k) const
    {
        syna_search how{};
        how.size = sizeof how;
        how.k = k;
        syna_hit *hits = nullptr;
        size_t count = 0;
        check(syna_vectors_search(store_.get(), query.data(), 1, static_cast<uint32_t>(query.size()),
                                  &how, &hits, &count));
        return Hits(hits, count);
    }

private:
    struct Close {
        void operator()(syna_vectors *store) const { syna_vectors_close(store); }
    };
    std::unique_ptr<syna_vectors, Close> store_;
};

} // namespace synadb

template <class Call> static void print_refusal(const char *name, Call call)
{
    try {
        call();
        std::printf("\"%s\": null, ", name);
    } catch (const synadb::Error &error) {
        std::printf("\"%s\": {\"code\": %d, \"reason\": %d}, ", name, error.code, error.reason);
    }
}

template <class Items, class Print> static void print_list(const char *name, const Items &items, Print print)
{
    const char *between = "";
    std::printf("\"%s\": [", name);
    for (const auto &item : items) {
        std::printf("%s", std::exchange(between, ", "));
        print(item);
    }
    std::printf("]");
}

static void write(const std::string &path)
{
    const uint64_t start = 1'700'000'000'000'000;
    synadb::Database db(path);
    db.append("temperature", {{23.5, 24.1, 24.8}, {start, start + 60'000'000, start + 120'000'000}});
    db.put("name", std::string_view("F\u00fchler 1 \U0001F680"));
    db.put("schl\u00fcssel/\u00e9", std::vector<uint8_t>{0, 1, 255});
    print_refusal("missing", [&] { db.get("absent"); });
    print_refusal("empty_key", [&] { db.put("", std::string_view("x")); });
    synadb::Database moved = std::move(db); // one owner at any time
    moved.close();
}

static void read(const std::string &path)
{
    synadb::Database db(path, true);
    const synadb::History history = db.history("temperature");
    std::printf("\"history\": {");
    print_list("values", history.values, [](double value) { std::printf("%.17g", value); });
    std::printf(", ");
    print_list("times", history.times_us, [](uint64_t time) { std::printf("%llu", (unsigned long long)time); });
    std::printf("}, \"name\": \"%s\", ", db.get("name").c_str());
    print_list("bytes", db.get("schl\u00fcssel/\u00e9"), [](char byte) { std::printf("%d", byte & 0xff); });
    std::printf(", \"count\": %lld, ", (long long)db.count());
    print_refusal("read_only", [&] { db.put("name", std::string_view("x")); });
}

static void search(const std::string &path)
{
    const std::array<std::vector<float>, 3> rows{{{1, 0, 0, 0}, {0, 1, 0, 0}, {1, 1, 0, 0}}};
    synadb::Vectors store(path, 4);
    for (size_t i = 0; i < rows.size(); i++)
        store.insert("doc" + std::to_string(i), rows[i]);
    print_refusal("wrong_length", [&] { store.insert("doc3", {1, 2}); });
    print_list("hits", store.search({1, 0.5f, 0, 0}, 2),
               [](const syna_hit &hit) { std::printf("[\"%s\", \"%.4f\"]", hit.key, (double)hit.score); });
    store.close();
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: example FOLDER\n");
        return 2;
    }
    const std::string folder = argv[1];
    try {
        std::printf("{");
        write(folder + "/sensors.db");
        read(folder + "/sensors.db");
        search(folder + "/vectors.db");
        std::printf("}\n");
    } catch (const synadb::Error &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
