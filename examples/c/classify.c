/* Classifies a picture with the C interface, on two threads at once.
 *
 *   classify MODEL PICTURE [--prototxt FILE] [--isa avx2|avx512] [--mean B,G,R] [--top K]
 *
 * PICTURE is a .npy array of floats (N, C, H, W), a .ppm picture (its centre is cut out, its channels
 * become B, G, R, the mean is subtracted, and the rest is scaled: as the network says, or with the mean
 * given here), or raw floats.
 *
 *   cc -O2 classify.c -o classify $(pkg-config --cflags --libs skimjit) -lpthread
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <skimjit.h>

#define THREADS 2

struct arguments {
    const char *model, *picture, *prototxt;
    uint32_t isa;
    int own_mean;
    float mean[3], scale;
    size_t top;
};

/* What one thread works with. */
struct worker {
    skimjit_session *session;
    const float *input;
    size_t input_elems;
    float *output;
    size_t output_elems;
    skimjit_status status;
    char message[512];
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "error: %s: %s\n", what, why);
    exit(3);
}

static void check(skimjit_status status, const char *what)
{
    if (status != SKIMJIT_STATUS_OK)
        fail(what, skimjit_error_message());
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes > 0 ? bytes : 1);
    if (!memory)
        fail("memory", "there is none");
    return memory;
}

static struct arguments parse(int count, char **texts)
{
    struct arguments a = {NULL, NULL, NULL, SKIMJIT_ISA_BEST, 1, {0, 0, 0}, 1, 5};
    int i;
    for (i = 1; i < count; i++) {
        const char *value = i + 1 < count ? texts[i + 1] : "";
        if (texts[i][0] != '-') {
            *(a.model ? &a.picture : &a.model) = texts[i];
            continue;
        }
        if (strcmp(texts[i], "--prototxt") == 0)
            a.prototxt = value;
        else if (strcmp(texts[i], "--isa") == 0)
            a.isa = strcmp(value, "avx2") == 0 ? SKIMJIT_ISA_AVX2 : SKIMJIT_ISA_AVX512;
        else if (strcmp(texts[i], "--top") == 0)
            a.top = strtoul(value, NULL, 10);
        else if (strcmp(texts[i], "--mean") != 0 ||
                 sscanf(value, "%f,%f,%f", &a.mean[0], &a.mean[1], &a.mean[2]) != 3)
            fail(texts[i], "not an option, or not a value for it");
        else
            a.own_mean = 0;
        i++;
    }
    if (!a.model || !a.picture)
        fail("usage", "classify MODEL PICTURE [--prototxt FILE] [--isa I] [--mean B,G,R] [--top K]");
    return a;
}

static unsigned char *read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    unsigned char *data;
    long end;
    if (!file || fseek(file, 0, SEEK_END) != 0 || (end = ftell(file)) < 0)
        fail(path, strerror(errno));
    rewind(file);
    data = allocate((size_t)end + 1);
    *bytes = fread(data, 1, (size_t)end, file);
    data[*bytes] = 0;
    fclose(file);
    return data;
}

/* The floats of a .npy file, or of one without a header. */
static float *read_floats(const char *path, const unsigned char *data, size_t bytes, size_t *elems)
{
    size_t start = 0;
    float *floats;
    if (bytes >= 10 && memcmp(data, "\x93NUMPY\x01", 7) == 0) {
        start = 10 + data[8] + 256 * (size_t)data[9];
        if (start > bytes || !strstr((const char *)data + 10, "'<f4'"))
            fail(path, "not an array of little-endian floats");
    }
    *elems = (bytes - start) / sizeof(float);
    floats = allocate(*elems * sizeof(float));
    memcpy(floats, data + start, *elems * sizeof(float));
    return floats;
}

/* The centre of a .ppm picture: B, G, R planes less the mean. */
static float *read_picture(const struct arguments *a, const unsigned char *data, size_t bytes,
                           const skimjit_port *port, size_t *elems)
{
    unsigned width, height;
    int header;
    size_t h = port->dims[2], w = port->dims[3], c, y, x;
    const unsigned char *pixels;
    float *floats;
    if (sscanf((const char *)data, "P6 %u %u 255%n", &width, &height, &header) != 2)
        fail(a->picture, "not a binary .ppm file of bytes");
    pixels = data + header + 1;
    if (port->rank != 4 || port->dims[1] != 3 || height < h || width < w)
        fail(a->picture, "too small, or the network takes no pictures");
    if (bytes < (size_t)header + 1 + (size_t)3 * width * height)
        fail(a->picture, "the file ends early");
    *elems = 3 * h * w;
    floats = allocate(*elems * sizeof(float));
    for (c = 0; c < 3; c++)
        for (y = 0; y < h; y++)
            for (x = 0; x < w; x++) {
                size_t at = (y + (height - h) / 2) * width + x + (width - w) / 2;
                floats[(c * h + y) * w + x] = ((float)pixels[at * 3 + 2 - c] - a->mean[c]) * a->scale;
            }
    return floats;
}

static float *read_input(const struct arguments *a, const skimjit_port *port, size_t *elems)
{
    size_t bytes;
    unsigned char *data = read_file(a->picture, &bytes);
    float *floats = bytes > 2 && memcmp(data, "P6", 2) == 0
                        ? read_picture(a, data, bytes, port, elems)
                        : read_floats(a->picture, data, bytes, elems);
    free(data);
    return floats;
}

static skimjit_model *load(const struct arguments *a)
{
    skimjit_options options;
    skimjit_model *model;
    const char *warning;
    size_t i;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.threads = 1;
    options.isa = a->isa;
    options.batch = 1;
    options.prototxt = a->prototxt;
    check(skimjit_model_load_file(a->model, &options, &model), "skimjit_model_load_file");
    for (i = 0; (warning = skimjit_model_get_warning(model, i)) != NULL; i++)
        fprintf(stderr, "warning: %s\n", warning);
    return model;
}

/* What the network itself says about pictures; this program makes B, G, R of the size that there is. */
static void use_own_preprocessing(const skimjit_model *model, struct arguments *a)
{
    skimjit_preprocess own;
    size_t c;
    memset(&own, 0, sizeof own);
    own.size = sizeof own;
    check(skimjit_model_get_preprocess(model, &own), "skimjit_model_get_preprocess");
    if (!own.known || !a->own_mean)
        return;
    if (own.rgb || own.mean_height || own.resize_width || own.resize_short)
        fail(a->model, "its pictures are prepared in a way that this example does not know");
    a->scale = own.scale;
    for (c = 0; c < 3 && own.mean_count > 0; c++)
        a->mean[c] = own.mean[own.mean_count == 3 ? c : 0];
}

/* Each thread has a session and a team of its own, so the two run at the same time. */
static void *work(void *argument)
{
    struct worker *worker = argument;
    skimjit_input input;
    skimjit_output output;
    input.data = worker->input;
    input.elems = worker->input_elems;
    output.data = worker->output;
    output.elems = worker->output_elems;
    worker->status = skimjit_session_run(worker->session, &input, 1, &output, 1);
    /* Messages belong to the thread that made the call. */
    snprintf(worker->message, sizeof worker->message, "%s", skimjit_error_message());
    return NULL;
}

static void run(skimjit_model *model, struct worker *workers)
{
    pthread_t threads[THREADS];
    int i;
    for (i = 0; i < THREADS; i++) {
        skimjit_team *team;
        check(skimjit_team_create(1, &team), "skimjit_team_create");
        check(skimjit_session_create(model, team, &workers[i].session), "skimjit_session_create");
        skimjit_team_free(team);
    }
    for (i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            fail("pthread_create", "no thread");
    for (i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        if (workers[i].status != SKIMJIT_STATUS_OK)
            fail("skimjit_session_run", workers[i].message);
        skimjit_session_free(workers[i].session);
    }
}

/* Prints the best classes of one image; its scores are used up. */
static void print_best(float *scores, size_t classes, size_t top)
{
    size_t k, i, best;
    for (k = 0; k < top && k < classes; k++) {
        for (best = i = 0; i < classes; i++)
            if (scores[i] > scores[best])
                best = i;
        printf("%lu %.9g\n", (unsigned long)best, (double)scores[best]);
        scores[best] = -1e38f;
    }
}

int main(int count, char **texts)
{
    struct arguments a = parse(count, texts);
    struct worker workers[THREADS];
    skimjit_port in, out;
    skimjit_model *model;
    float *input;
    size_t input_elems, images, i;
    check(skimjit_check_abi(SKIMJIT_ABI_VERSION), "skimjit_check_abi");
    model = load(&a);
    use_own_preprocessing(model, &a);
    memset(&in, 0, sizeof in);
    memset(&out, 0, sizeof out);
    in.size = sizeof in;
    out.size = sizeof out;
    check(skimjit_model_get_input(model, 0, &in), "skimjit_model_get_input");
    check(skimjit_model_get_output(model, 0, &out), "skimjit_model_get_output");
    input = read_input(&a, &in, &input_elems);
    images = input_elems / in.row_elems;
    memset(workers, 0, sizeof workers);
    for (i = 0; i < THREADS; i++) {
        workers[i].input = input;
        workers[i].input_elems = input_elems;
        workers[i].output_elems = images * out.row_elems;
        workers[i].output = allocate(workers[i].output_elems * sizeof(float));
    }
    run(model, workers);
    skimjit_model_free(model);
    if (memcmp(workers[0].output, workers[1].output, workers[0].output_elems * sizeof(float)) != 0)
        fail("outputs", "the two threads found different ones");
    for (i = 0; i < images; i++)
        print_best(workers[0].output + i * out.row_elems, out.row_elems, a.top);
    for (i = 0; i < THREADS; i++)
        free(workers[i].output);
    free(input);
    return 0;
}
