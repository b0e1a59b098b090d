/* Everything that callers get wrong has to come back as an error. Arguments: MODEL PROTOTXT. */
#include <dirent.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <skimjit.h>

static int failures;

static void expect(int line, skimjit_status found, skimjit_status expected, const char *word)
{
    const char *message = skimjit_error_message();
    if (found == expected && (expected == SKIMJIT_STATUS_OK || strstr(message, word)))
        return;
    printf("line %d: found %s (%s), expected %s with \"%s\"\n", line, skimjit_status_name(found),
           message, skimjit_status_name(expected), word);
    failures++;
}

#define OK(call) expect(__LINE__, call, SKIMJIT_STATUS_OK, "")
#define FAILS(call, status, word) expect(__LINE__, call, SKIMJIT_STATUS_##status, word)

static char *read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    char *data;
    if (!file)
        exit(9);
    data = malloc(1 << 20);
    *bytes = fread(data, 1, (1 << 20) - 1, file);
    data[*bytes] = 0;
    fclose(file);
    return data;
}

static skimjit_options options_for(const char *prototxt)
{
    skimjit_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.threads = 1;
    options.isa = SKIMJIT_ISA_AVX2;
    options.prototxt = prototxt;
    return options;
}

static void versions(void)
{
    OK(skimjit_check_abi(SKIMJIT_ABI_VERSION));
    FAILS(skimjit_check_abi(SKIMJIT_ABI_VERSION + 1), VERSION, "skimjit.h");
    if (skimjit_abi_version() != SKIMJIT_ABI_VERSION || !strchr(skimjit_version(), '.'))
        failures++;
    if (strcmp(skimjit_status_name(99), "unknown") != 0 || strcmp(skimjit_status_name(-1), "unknown") != 0)
        failures++;
}

static void loading(const char *path, const char *prototxt)
{
    skimjit_options options = options_for(prototxt), wrong;
    skimjit_model *model = NULL;
    uint32_t shape[9] = {1, 3, 8, 8, 1, 1, 1, 1, 1};
    const char *keep[2] = {"conv1", NULL};
    FAILS(skimjit_model_load_file(NULL, &options, &model), ARGUMENT, "path");
    FAILS(skimjit_model_load_file(path, &options, NULL), ARGUMENT, "model");
    FAILS(skimjit_model_load_file("no/such/file", &options, &model), INPUT, "no/such/file");
    FAILS(skimjit_model_load_memory(NULL, 5, &options, &model), ARGUMENT, "data");
    FAILS(skimjit_model_load_memory((const uint8_t *)"hello", 5, &options, &model), INPUT, "");
    FAILS(skimjit_model_load_memory(NULL, 0, NULL, &model), INPUT, "empty");
    wrong = options, wrong.size = 0;
    FAILS(skimjit_model_load_file(path, &wrong, &model), VERSION, "sizeof(skimjit_options)");
    wrong = options, wrong.size = 80;
    FAILS(skimjit_model_load_file(path, &wrong, &model), VERSION, "size");
    wrong = options, wrong.isa = 7;
    FAILS(skimjit_model_load_file(path, &wrong, &model), ARGUMENT, "isa");
    wrong = options, wrong.tuning = 7;
    FAILS(skimjit_model_load_file(path, &wrong, &model), ARGUMENT, "tuning");
    wrong = options, wrong.tuning = SKIMJIT_TUNING_FROZEN;
    FAILS(skimjit_model_load_file(path, &wrong, &model), PLAN, "measurement");
    wrong = options, wrong.threads = 100000;
    FAILS(skimjit_model_load_file(path, &wrong, &model), ARGUMENT, "threads");
    wrong = options, wrong.batch = 0xffffffffu;
    FAILS(skimjit_model_load_file(path, &wrong, &model), INPUT, "");
    wrong = options, wrong.input_shape = shape, wrong.input_rank = 9;
    FAILS(skimjit_model_load_file(path, &wrong, &model), ARGUMENT, "input_shape");
    wrong = options, wrong.keep = keep, wrong.keep_count = 2;
    FAILS(skimjit_model_load_file(path, &wrong, &model), ARGUMENT, "keep");
    wrong = options, wrong.keep_count = 1;
    FAILS(skimjit_model_load_file(path, &wrong, &model), ARGUMENT, "keep");
    keep[0] = "\xff\xfe";
    wrong.keep = keep;
    FAILS(skimjit_model_load_file(path, &wrong, &model), ARGUMENT, "utf-8");
    if (model)
        failures++;
    /* A later version's struct, of which nothing is used. */
    {
        struct { skimjit_options options; uint64_t later; } large;
        memset(&large, 0, sizeof large);
        large.options = options;
        large.options.size = sizeof large;
        OK(skimjit_model_load_file(path, &large.options, &model));
        skimjit_model_free(model);
        large.later = 1;
        FAILS(skimjit_model_load_file(path, &large.options, &model), VERSION, "field");
    }
}

/* Structs of older programs are shorter; behind them there is no memory. */
static void older_programs(const char *path, const char *prototxt)
{
    static const size_t sizes[3] = {88, 96, 104};
    skimjit_options options = options_for(prototxt);
    skimjit_model *model = NULL;
    int i;
    if (offsetof(skimjit_options, ignore_unknown_fields) != 88 ||
        offsetof(skimjit_options, memory_limit) != 96 ||
        offsetof(skimjit_options, input_shapes) != 104)
        failures++;
    for (i = 0; i < 3; i++) {
        skimjit_options *older = malloc(sizes[i]);
        if (!older)
            exit(9);
        options.size = sizes[i];
        memcpy(older, &options, sizes[i]);
        OK(skimjit_model_load_file(path, older, &model));
        skimjit_model_free(model);
        free(older);
    }
}

/* A network without weights that takes rows of any length; a layer works in place on memory that is shared. */
static const char in_place_text[] =
    "input: 'data' input_shape { dim: 1 dim: 2 }"
    "layer { name: 't' type: 'Power' bottom: 'data' top: 'a' }"
    "layer { name: 'f' type: 'Reshape' bottom: 'a' top: 'f'"
    "  reshape_param { shape { dim: 0 dim: -1 } } }"
    "layer { name: 'r' type: 'ReLU' bottom: 'f' top: 'f' }"
    "layer { name: 'o' type: 'Power' bottom: 'a' top: 'o' power_param { scale: 2 } }";
static const uint8_t no_weights[] = {'\n', 3, 't', 'w', 'o'};

/* The first element of blob "o", which is computed from "a" behind a layer that works in place. */
static float behind_in_place(uint32_t as_caffe)
{
    float in[2] = {-1, 3}, values[2][2] = {{9, 9}, {9, 9}};
    skimjit_options options = options_for(NULL);
    skimjit_model *model = NULL;
    skimjit_session *session = NULL;
    skimjit_port port;
    skimjit_input input = {in, 2};
    skimjit_output outputs[2] = {{values[0], 2}, {values[1], 2}};
    options.caffe_in_place = as_caffe;
    options.prototxt_text = in_place_text;
    OK(skimjit_model_load_memory(no_weights, sizeof no_weights, &options, &model));
    OK(skimjit_session_create(model, NULL, &session));
    OK(skimjit_session_run(session, &input, 1, outputs, 2));
    memset(&port, 0, sizeof port);
    port.size = sizeof port;
    OK(skimjit_model_get_output(model, 0, &port));
    in[0] = values[strcmp(port.name, "o") == 0 ? 0 : 1][0];
    if (!skimjit_model_get_warning(model, 0))
        failures++;
    skimjit_session_free(session);
    skimjit_model_free(model);
    return in[0];
}

/* Two inputs whose sizes the caller says. */
static const char two_inputs_text[] =
    "input: 'a' input_shape { dim: 1 dim: 2 dim: 1 dim: 1 }"
    "input: 'b' input_shape { dim: 1 dim: 2 dim: 1 dim: 1 }"
    "layer { name: 's' type: 'Eltwise' bottom: 'a' bottom: 'b' top: 's' }";

/* Shapes of several inputs, by name. */
static void named_shapes(void)
{
    skimjit_options options = options_for(NULL);
    skimjit_model *model = NULL;
    skimjit_port port;
    uint32_t dims[4] = {1, 2, 3, 4};
    skimjit_shape shapes[2] = {{"b", dims, 4}, {"a", dims, 4}};
    options.prototxt_text = two_inputs_text;
    options.input_shapes = shapes, options.input_shape_count = 2;
    OK(skimjit_model_load_memory(no_weights, sizeof no_weights, &options, &model));
    memset(&port, 0, sizeof port);
    port.size = sizeof port;
    OK(skimjit_model_get_output(model, 0, &port));
    if (port.row_elems != 24 || port.dims[3] != 4)
        failures++;
    skimjit_model_free(model);
    options.input_shape_count = 1;
    FAILS(skimjit_model_load_memory(no_weights, sizeof no_weights, &options, &model), INPUT, "\"s\"");
    options.input_shape_count = 2, shapes[1].name = "b";
    FAILS(skimjit_model_load_memory(no_weights, sizeof no_weights, &options, &model), INPUT, "two shapes");
    shapes[1].name = "nobody";
    FAILS(skimjit_model_load_memory(no_weights, sizeof no_weights, &options, &model), INPUT, "nobody");
    shapes[1].name = NULL;
    FAILS(skimjit_model_load_memory(no_weights, sizeof no_weights, &options, &model), ARGUMENT, "input_shapes.name");
    shapes[1].name = "a", shapes[1].rank = 9;
    FAILS(skimjit_model_load_memory(no_weights, sizeof no_weights, &options, &model), ARGUMENT, "input_shapes.dims");
    options.input_shapes = NULL;
    FAILS(skimjit_model_load_memory(no_weights, sizeof no_weights, &options, &model), ARGUMENT, "input_shapes");
}

/* A limit holds for a model and what is made from it, and for nothing else. */
static void limits(const char *path, const char *prototxt)
{
    skimjit_options options = options_for(prototxt);
    skimjit_model *model = NULL, *reshaped = NULL;
    uint32_t dims[2] = {1, 4000000};
    skimjit_shape shape = {NULL, dims, 2};
    options.memory_limit = 1;
    FAILS(skimjit_model_load_file(path, &options, &model), INPUT, "memory");
    options.memory_limit = 0;
    OK(skimjit_model_load_file(path, &options, &model));
    skimjit_model_free(model);
    options.prototxt = NULL, options.prototxt_text = in_place_text;
    options.memory_limit = 1 << 22;
    OK(skimjit_model_load_memory(no_weights, sizeof no_weights, &options, &model));
    FAILS(skimjit_model_reshape(model, &shape, 1, &reshaped), PLAN, "memory");
    skimjit_model_free(model);
    options.memory_limit = 0;
    OK(skimjit_model_load_memory(no_weights, sizeof no_weights, &options, &model));
    OK(skimjit_model_reshape(model, &shape, 1, &reshaped));
    skimjit_model_free(reshaped);
    skimjit_model_free(model);
}

/* What was noticed before an error is told with it. */
static void warnings_before_errors(const char *path, const char *prototxt)
{
    skimjit_options options = options_for(NULL);
    skimjit_model *model = NULL;
    size_t bytes;
    char *text = read_file(prototxt, &bytes);
    strcpy(text + bytes, "batch: 3\n");
    options.prototxt_text = text;
    OK(skimjit_model_load_file(path, &options, &model));
    if (!strstr(skimjit_model_get_warning(model, 0), "batch"))
        failures++;
    skimjit_model_free(model);
    options.tuning = SKIMJIT_TUNING_FROZEN;
    FAILS(skimjit_model_load_file(path, &options, &model), PLAN, "measurement");
    if (!strstr(skimjit_error_message(), "\nwarning: ") || !strstr(skimjit_error_message(), "batch"))
        failures++;
    strcpy(text + bytes, "batch: 3\nlayer { name: 'x' type: 'Nobody' bottom: 'prob' top: 'x' }\n");
    FAILS(skimjit_model_load_file(path, &options, &model), INPUT, "Nobody");
    if (!strstr(skimjit_error_message(), "\nwarning: ") || !strstr(skimjit_error_message(), "batch"))
        failures++;
    free(text);
}

/* The same network from memory, at an odd address. */
static void memory(const char *path, const char *prototxt)
{
    skimjit_options options = options_for(NULL);
    size_t bytes, text_bytes;
    char *data = read_file(path, &bytes), *text = read_file(prototxt, &text_bytes);
    skimjit_model *model;
    memmove(data + 1, data, bytes);
    options.prototxt_text = text;
    OK(skimjit_model_load_memory((const uint8_t *)data + 1, bytes, &options, &model));
    skimjit_model_free(model);
    OK(skimjit_model_load_file(path, &options, &model));
    skimjit_model_free(model);
    options.prototxt_text = "layer { name: 5 }";
    FAILS(skimjit_model_load_memory((const uint8_t *)data + 1, bytes, &options, &model), INPUT, "");
    free(text);
    free(data);
}

static void queries(const skimjit_model *model)
{
    skimjit_port port;
    skimjit_model_info info;
    skimjit_preprocess own;
    memset(&info, 0, sizeof info);
    FAILS(skimjit_model_get_info(model, &info), VERSION, "size");
    info.size = sizeof info;
    OK(skimjit_model_get_info(model, &info));
    FAILS(skimjit_model_get_info(NULL, &info), ARGUMENT, "model");
    FAILS(skimjit_model_get_info(model, NULL), ARGUMENT, "skimjit_model_info");
    if (info.inputs != 1 || info.outputs != 1 || info.threads != 1 || info.isa != SKIMJIT_ISA_AVX2)
        failures++;
    memset(&port, 0, sizeof port);
    port.size = sizeof port;
    OK(skimjit_model_get_input(model, 0, &port));
    if (strcmp(port.name, "data") != 0 || port.rank != 4 || port.dims[1] != 3 || port.row_elems != 192)
        failures++;
    OK(skimjit_model_get_output(model, 0, &port));
    if (strcmp(port.name, "prob") != 0 || port.row_elems != 5 || port.size != sizeof port)
        failures++;
    FAILS(skimjit_model_get_input(model, 1, &port), ARGUMENT, "index 1");
    FAILS(skimjit_model_get_output(model, (size_t)-1, &port), ARGUMENT, "index");
    memset(&own, 0, sizeof own);
    FAILS(skimjit_model_get_preprocess(model, &own), VERSION, "size");
    own.size = sizeof own;
    FAILS(skimjit_model_get_preprocess(NULL, &own), ARGUMENT, "model");
    OK(skimjit_model_get_preprocess(model, &own));
    if (own.known || own.mean || skimjit_model_get_label(model, 0) || skimjit_model_get_label(NULL, 0))
        failures++;
    if (skimjit_model_get_warning(model, 1000) || skimjit_model_get_warning(NULL, 0))
        failures++;
}

static void reshaping(const skimjit_model *model)
{
    skimjit_model *reshaped;
    skimjit_port port;
    uint32_t dims[4] = {4, 3, 8, 8};
    skimjit_shape shape = {NULL, dims, 4};
    memset(&port, 0, sizeof port);
    port.size = sizeof port;
    OK(skimjit_model_reshape(model, &shape, 1, &reshaped));
    OK(skimjit_model_get_input(reshaped, 0, &port));
    if (port.dims[0] != 4)
        failures++;
    skimjit_model_free(reshaped);
    dims[2] = 16;
    FAILS(skimjit_model_reshape(model, &shape, 1, &reshaped), INPUT, "ip1");
    dims[2] = 0;
    FAILS(skimjit_model_reshape(model, &shape, 1, &reshaped), INPUT, "shapes.dims");
    dims[2] = 8;
    shape.name = "nobody";
    FAILS(skimjit_model_reshape(model, &shape, 1, &reshaped), INPUT, "nobody");
    shape.dims = NULL;
    FAILS(skimjit_model_reshape(model, &shape, 1, &reshaped), ARGUMENT, "shapes.dims");
    FAILS(skimjit_model_reshape(model, NULL, 1, &reshaped), ARGUMENT, "shapes");
    FAILS(skimjit_model_reshape(NULL, &shape, 1, &reshaped), ARGUMENT, "model");
}

static void running(skimjit_session *session)
{
    static float in[2 * 192], out[2 * 5 + 1];
    skimjit_input input = {in, 192};
    skimjit_output output = {out, 5};
    OK(skimjit_session_run(session, &input, 1, &output, 1));
    input.elems = 384, output.elems = 10;
    OK(skimjit_session_run(session, &input, 1, &output, 1));
    output.elems = 9;
    FAILS(skimjit_session_run(session, &input, 1, &output, 1), ARRAYS, "prob");
    output.elems = 10;
    input.elems = 383;
    FAILS(skimjit_session_run(session, &input, 1, &output, 1), ARRAYS, "data");
    input.elems = 0;
    FAILS(skimjit_session_run(session, &input, 1, &output, 1), ARRAYS, "data");
    input.elems = (size_t)-1;
    FAILS(skimjit_session_run(session, &input, 1, &output, 1), ARGUMENT, "elements");
    input.elems = 384;
    FAILS(skimjit_session_run(session, &input, 2, &output, 1), ARRAYS, "2 input");
    FAILS(skimjit_session_run(session, &input, 1, &output, 0), ARRAYS, "0 output");
    FAILS(skimjit_session_run(session, NULL, 1, &output, 1), ARGUMENT, "inputs");
    FAILS(skimjit_session_run(session, &input, 1, NULL, 1), ARGUMENT, "outputs");
    FAILS(skimjit_session_run(NULL, &input, 1, &output, 1), ARGUMENT, "session");
    input.data = NULL;
    FAILS(skimjit_session_run(session, &input, 1, &output, 1), ARGUMENT, "inputs.data");
    input.data = (const float *)((const char *)in + 1);
    input.elems = 192, output.elems = 5;
    FAILS(skimjit_session_run(session, &input, 1, &output, 1), ARGUMENT, "multiple of 4");
    input.data = in;
    output.data = in + 100;
    FAILS(skimjit_session_run(session, &input, 1, &output, 1), ARGUMENT, "apart");
    output.data = NULL;
    FAILS(skimjit_session_run(session, &input, 1, &output, 1), ARGUMENT, "outputs.data");
    /* An address that only a float is aligned to. */
    input.data = in + 1;
    output.data = out + 1;
    OK(skimjit_session_run(session, &input, 1, &output, 1));
}

static void profiling(skimjit_session *session)
{
    static float in[192], out[5];
    skimjit_input input = {in, 192};
    skimjit_output output = {out, 5};
    skimjit_profile profile;
    skimjit_step step;
    memset(&profile, 0, sizeof profile);
    memset(&step, 0, sizeof step);
    profile.size = sizeof profile;
    step.size = sizeof step;
    FAILS(skimjit_session_get_profile(session, &profile), ARGUMENT, "skimjit_session_start_profile");
    OK(skimjit_session_start_profile(session));
    OK(skimjit_session_run(session, &input, 1, &output, 1));
    OK(skimjit_session_run(session, &input, 1, &output, 1));
    OK(skimjit_session_get_profile(session, &profile));
    if (profile.runs != 2 || profile.images != 2 || profile.steps == 0)
        failures++;
    OK(skimjit_session_get_step(session, 0, &step));
    if (!step.layer || strlen(step.layer) == 0 || strlen(step.kernel) == 0)
        failures++;
    FAILS(skimjit_session_get_step(session, profile.steps, &step), ARGUMENT, "index");
    OK(skimjit_session_stop_profile(session));
    FAILS(skimjit_session_get_step(session, 0, &step), ARGUMENT, "profile");
}

/* One session used by two threads: refused or served, never both at once. */
static void *hammer(void *session)
{
    float in[192] = {0}, out[5];
    skimjit_input input = {in, 192};
    skimjit_output output = {out, 5};
    int i, bad = 0;
    for (i = 0; i < 200; i++) {
        skimjit_status status = skimjit_session_run(session, &input, 1, &output, 1);
        bad += status != SKIMJIT_STATUS_OK && status != SKIMJIT_STATUS_BUSY;
    }
    return bad ? session : NULL;
}

static void sharing(skimjit_session *session)
{
    pthread_t other;
    void *bad;
    pthread_create(&other, NULL, hammer, session);
    failures += hammer(session) != NULL;
    pthread_join(other, &bad);
    failures += bad != NULL;
}

static void teams(const skimjit_model *model)
{
    skimjit_team *team;
    skimjit_session *session;
    FAILS(skimjit_team_create(257, &team), ARGUMENT, "257");
    FAILS(skimjit_team_create(1, NULL), ARGUMENT, "team");
    OK(skimjit_team_create(3, &team));
    if (skimjit_team_threads(team) != 3 || skimjit_team_threads(NULL) != 0)
        failures++;
    FAILS(skimjit_session_create(NULL, team, &session), ARGUMENT, "model");
    FAILS(skimjit_session_create(model, team, NULL), ARGUMENT, "session");
    OK(skimjit_session_create(model, team, &session));
    skimjit_team_free(team);
    running(session);
    skimjit_session_free(session);
}

static void kernels(void)
{
    uint32_t row_start[3] = {0, 1, 2}, columns[2] = {0, 3};
    float values[2] = {1, 2}, src[16] = {1, 2, 3, 4}, dst[8], bias[2] = {0, 0};
    skimjit_csr csr = {sizeof csr, row_start, 2, columns, values, 2};
    skimjit_fc fc = {sizeof fc, 4, 2, 0, 0};
    skimjit_conv conv;
    skimjit_kernel_options options = {sizeof options, NULL, SKIMJIT_ISA_AVX2, 0};
    skimjit_kernel_info info;
    skimjit_kernel_args args;
    skimjit_operands operands;
    skimjit_kernel *kernel;
    OK(skimjit_sparse_fc_create(&fc, &csr, bias, 2, &options, &kernel));
    OK(skimjit_kernel_compute(kernel, src, 4, NULL, 0, dst, 2));
    if (dst[0] != 1 || dst[1] != 8)
        failures++;
    FAILS(skimjit_kernel_compute(kernel, src, 3, NULL, 0, dst, 2), ARGUMENT, "src");
    FAILS(skimjit_kernel_compute(kernel, src, 4, NULL, 0, dst, 3), ARGUMENT, "dst");
    FAILS(skimjit_kernel_compute(kernel, src, 4, dst, 2, dst, 2), ARGUMENT, "apart");
    FAILS(skimjit_kernel_compute(kernel, src, 4, values, 2, dst, 2), ARGUMENT, "residual");
    FAILS(skimjit_kernel_compute(kernel, NULL, 4, NULL, 0, dst, 2), ARGUMENT, "src");
    FAILS(skimjit_kernel_compute(NULL, src, 4, NULL, 0, dst, 2), ARGUMENT, "kernel");
    memset(&info, 0, sizeof info);
    info.size = sizeof info;
    OK(skimjit_kernel_get_info(kernel, &info));
    if (skimjit_kernel_get_function(kernel, info.tasks) || skimjit_kernel_get_function(NULL, 0))
        failures++;
    memset(&operands, 0, sizeof operands);
    FAILS(skimjit_kernel_run(kernel, &operands, 0, 1), VERSION, "size");
    operands.size = sizeof operands;
    FAILS(skimjit_kernel_run(kernel, &operands, 0, 1), ARGUMENT, "src_elems");
    FAILS(skimjit_kernel_run(kernel, NULL, 0, 1), ARGUMENT, "src_elems");
    operands.src = src, operands.src_elems = info.src_elems;
    operands.dst = dst, operands.dst_elems = info.dst_elems;
    operands.scratch_elems = info.scratch_elems;
    if (info.src_elems <= 16 && info.dst_elems <= 8 && info.scratch_elems == 0)
        OK(skimjit_kernel_run(kernel, &operands, 0, info.tasks));
    FAILS(skimjit_kernel_run(kernel, &operands, 1, info.tasks), ARGUMENT, "tasks");
    FAILS(skimjit_kernel_run(kernel, &operands, (size_t)-1, 2), ARGUMENT, "tasks");
    FAILS(skimjit_kernel_get_args(kernel, info.tasks, &operands, &args), ARGUMENT, "task");
    FAILS(skimjit_kernel_get_args(kernel, 0, &operands, NULL), ARGUMENT, "args");
    operands.dst = src;
    FAILS(skimjit_kernel_get_args(kernel, 0, &operands, &args), ARGUMENT, "apart");
    FAILS(skimjit_kernel_pack_src(kernel, src, 4, 3, dst, info.src_elems), ARGUMENT, "10 or more");
    FAILS(skimjit_kernel_pack_src(kernel, src, 4, (size_t)-1, dst, 1), ARGUMENT, "");
    FAILS(skimjit_kernel_unpack_dst(kernel, src, 1, dst, 2, 0), ARGUMENT, "");
    skimjit_kernel_free(kernel);

    columns[1] = 4;
    FAILS(skimjit_sparse_fc_create(&fc, &csr, NULL, 0, &options, &kernel), ARGUMENT, "csr.columns");
    csr.rows = (size_t)-1;
    FAILS(skimjit_sparse_fc_create(&fc, &csr, NULL, 0, &options, &kernel), ARGUMENT, "csr.row_start");
    csr.rows = 1;
    FAILS(skimjit_sparse_fc_create(&fc, &csr, NULL, 0, &options, &kernel), ARGUMENT, "csr.row_start");
    FAILS(skimjit_sparse_fc_create(&fc, NULL, NULL, 0, &options, &kernel), ARGUMENT, "csr");
    FAILS(skimjit_sparse_fc_create(NULL, &csr, NULL, 0, &options, &kernel), ARGUMENT, "");
    FAILS(skimjit_dense_fc_create(&fc, values, 2, NULL, 0, &options, &kernel), ARGUMENT, "weights");
    FAILS(skimjit_dense_fc_create(&fc, src, 8, bias, 1, &options, &kernel), ARGUMENT, "bias");
    options.variant = "nobody";
    FAILS(skimjit_dense_fc_create(&fc, src, 8, bias, 2, &options, &kernel), ARGUMENT, "nobody");
    options.variant = "sparse_conv.baked";
    FAILS(skimjit_dense_fc_create(&fc, src, 8, bias, 2, &options, &kernel), PLAN, "only for");
    options.variant = NULL;
    memset(&conv, 0, sizeof conv);
    conv.size = sizeof conv;
    FAILS(skimjit_dense_conv_create(&conv, src, 8, NULL, 0, &options, &kernel), INPUT, "kernel");
    conv.kh = conv.kw = 1;
    FAILS(skimjit_dense_conv_create(&conv, src, 8, NULL, 0, &options, &kernel), INPUT, "");
    conv.ih = conv.iw = conv.ic = conv.oc = 0xffffffffu;
    FAILS(skimjit_dense_conv_create(&conv, src, 8, NULL, 0, &options, &kernel), INPUT, "planes");
    conv.ih = conv.iw = 2;
    FAILS(skimjit_dense_conv_create(&conv, src, 8, NULL, 0, &options, &kernel), ARGUMENT, "weights");
    conv.ic = conv.oc = 2;
    conv.groups = 3;
    FAILS(skimjit_dense_conv_create(&conv, src, 0, NULL, 0, &options, &kernel), ARGUMENT, "weights");
    conv.groups = 0;
    conv.src_pitch = 3;
    FAILS(skimjit_dense_conv_create(&conv, src, 4, NULL, 0, &options, &kernel), ARGUMENT, "src_pitch");
    conv.src_pitch = 0;
    conv.pad_h = 0xffffffffu;
    FAILS(skimjit_dense_conv_create(&conv, src, 4, NULL, 0, &options, &kernel), INPUT, "");
}

/* Threads of this process. */
static int threads(void)
{
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    int found = 0;
    while (folder && (entry = readdir(folder)) != NULL)
        found += entry->d_name[0] != '.';
    if (folder)
        closedir(folder);
    return found;
}

int main(int count, char **texts)
{
    skimjit_options options;
    skimjit_model *model = NULL;
    skimjit_session *session = NULL;
    if (count != 3)
        return 2;
    if (strcmp(skimjit_error_message(), "") != 0)
        failures++;
    skimjit_model_free(NULL);
    skimjit_session_free(NULL);
    skimjit_team_free(NULL);
    skimjit_kernel_free(NULL);
    versions();
    loading(texts[1], texts[2]);
    memory(texts[1], texts[2]);
    older_programs(texts[1], texts[2]);
    if (behind_in_place(0) != -2 || behind_in_place(1) != 0)
        printf("line %d: in-place layers\n", __LINE__), failures++;
    named_shapes();
    limits(texts[1], texts[2]);
    warnings_before_errors(texts[1], texts[2]);
    options = options_for(texts[2]);
    OK(skimjit_model_load_file(texts[1], &options, &model));
    /* A team of one is the caller. */
    if (threads() > 1)
        printf("%d threads, expected no new one\n", threads()), failures++;
    queries(model);
    reshaping(model);
    teams(model);
    OK(skimjit_session_create(model, NULL, &session));
    /* Sessions keep what they need. */
    skimjit_model_free(model);
    running(session);
    profiling(session);
    sharing(session);
    skimjit_session_free(session);
    kernels();
    printf("%d failures\n", failures);
    return failures != 0;
}
