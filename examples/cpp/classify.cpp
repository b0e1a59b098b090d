// Classifies arrays with the C interface behind a few classes: handles that free themselves, and errors
// as exceptions.
//
//   classify MODEL ARRAY [--prototxt FILE] [--isa avx2|avx512]
//
// ARRAY is a .npy file of floats (N, C, H, W) or raw floats. Prints the best classes of each image.
//
//   c++ -O2 -std=c++17 classify.cpp -o classify $(pkg-config --cflags --libs skimjit) -lpthread
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <skimjit.h>

namespace skimjit {

struct Error : std::runtime_error {
    explicit Error(skimjit_status status)
        : std::runtime_error(skimjit_error_message()), status(status) {}
    skimjit_status status;
};

inline void check(skimjit_status status) {
    if (status != SKIMJIT_STATUS_OK) throw Error(status);
}

// A struct that starts with its size, all else 0.
template <class T> T sized() {
    T value{};
    value.size = sizeof(T);
    return value;
}

struct Free {
    void operator()(skimjit_team *team) const { skimjit_team_free(team); }
    void operator()(skimjit_model *model) const { skimjit_model_free(model); }
    void operator()(skimjit_session *session) const { skimjit_session_free(session); }
};
template <class T> using Handle = std::unique_ptr<T, Free>;

class Session {
public:
    Session(const skimjit_model *model, const skimjit_team *team) {
        skimjit_session *session;
        check(skimjit_session_create(model, team, &session));
        handle.reset(session);
    }
    // For networks with one input and one output.
    void run(const std::vector<float> &input, std::vector<float> &output) {
        skimjit_input in{input.data(), input.size()};
        skimjit_output out{output.data(), output.size()};
        check(skimjit_session_run(handle.get(), &in, 1, &out, 1));
    }

private:
    Handle<skimjit_session> handle;
};

class Model {
public:
    Model(const std::string &path, const skimjit_options &options) {
        skimjit_model *model;
        check(skimjit_model_load_file(path.c_str(), &options, &model));
        handle.reset(model);
    }
    skimjit_port input(size_t index) const {
        auto port = sized<skimjit_port>();
        check(skimjit_model_get_input(handle.get(), index, &port));
        return port;
    }
    skimjit_port output(size_t index) const {
        auto port = sized<skimjit_port>();
        check(skimjit_model_get_output(handle.get(), index, &port));
        return port;
    }
    // A session with a thread of its own: the one that runs it.
    Session session() const {
        skimjit_team *team;
        check(skimjit_team_create(1, &team));
        Handle<skimjit_team> owner(team);
        return Session(handle.get(), team);
    }

private:
    Handle<skimjit_model> handle;
};

} // namespace skimjit

static std::vector<float> read_floats(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": cannot be read");
    std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    size_t start = 0;
    if (bytes.size() >= 10 && std::memcmp(bytes.data(), "\x93NUMPY\x01", 7) == 0) {
        start = 10 + static_cast<unsigned char>(bytes[8]) + 256 * static_cast<unsigned char>(bytes[9]);
        const std::string header(bytes.begin() + 10, bytes.begin() + std::min(start, bytes.size()));
        if (start > bytes.size() || header.find("'<f4'") == std::string::npos)
            throw std::runtime_error(path + ": not an array of little-endian floats");
    }
    std::vector<float> floats((bytes.size() - start) / sizeof(float));
    std::memcpy(floats.data(), bytes.data() + start, floats.size() * sizeof(float));
    return floats;
}

static void print_best(const float *scores, size_t classes) {
    std::vector<size_t> order(classes);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    for (size_t k = 0; k < std::min<size_t>(5, classes); k++)
        std::printf("%zu %.9g\n", order[k], static_cast<double>(scores[order[k]]));
}

static void classify(const std::string &path, const std::string &array, const skimjit_options &options) {
    const skimjit::Model model(path, options);
    const auto input = read_floats(array);
    const size_t classes = model.output(0).row_elems;
    const size_t images = input.size() / model.input(0).row_elems;
    std::vector<std::vector<float>> outputs(2, std::vector<float>(images * classes));
    std::vector<std::string> errors(2);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 2; i++)
        threads.emplace_back([&, i] {
            try {
                model.session().run(input, outputs[i]);
            } catch (const std::exception &error) {
                errors[i] = error.what();
            }
        });
    for (auto &thread : threads) thread.join();
    for (const auto &error : errors)
        if (!error.empty()) throw std::runtime_error(error);
    if (outputs[0] != outputs[1]) throw std::runtime_error("the two threads found different outputs");
    for (size_t i = 0; i < images; i++) print_best(outputs[0].data() + i * classes, classes);
}

int main(int count, char **texts) {
    try {
        skimjit::check(skimjit_check_abi(SKIMJIT_ABI_VERSION));
        auto options = skimjit::sized<skimjit_options>();
        options.threads = 1;
        options.batch = 1;
        std::vector<std::string> files;
        for (int i = 1; i < count; i++) {
            const std::string text = texts[i];
            if (text == "--prototxt" && i + 1 < count)
                options.prototxt = texts[++i];
            else if (text == "--isa" && i + 1 < count)
                options.isa = std::string(texts[++i]) == "avx2" ? SKIMJIT_ISA_AVX2 : SKIMJIT_ISA_AVX512;
            else
                files.push_back(text);
        }
        if (files.size() != 2) throw std::runtime_error("usage: classify MODEL ARRAY [--prototxt FILE]");
        classify(files[0], files[1], options);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 3;
    }
    return 0;
}
