/* Makes a sparse convolution and calls its generated functions.
 *
 *   cc -O2 kernel.c -o kernel $(pkg-config --cflags --libs skimjit) -lm
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <skimjit.h>

enum { IC = 8, OC = 12, SIZE = 13, TAPS = 9, COLUMNS = IC * TAPS };

static void check(skimjit_status status, const char *what)
{
    if (status == SKIMJIT_STATUS_OK)
        return;
    fprintf(stderr, "error: %s: %s\n", what, skimjit_error_message());
    exit(3);
}

/* Numbers from -1 to 1. */
static float noise(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

/* Memory of floats at a multiple of 64, as scratch memory has to be. */
static float *floats(size_t count)
{
    size_t bytes = (count * sizeof(float) + 64) / 64 * 64;
    float *memory = aligned_alloc(64, bytes);
    if (!memory)
        exit(3);
    memset(memory, 0, bytes);
    return memory;
}

/* One weight in five is not zero. */
static uint32_t make_weights(uint32_t *row_start, uint32_t *columns, float *values)
{
    uint32_t nnz = 0, row, column;
    for (row = 0; row < OC; row++) {
        row_start[row] = nnz;
        for (column = 0; column < COLUMNS; column++)
            if (noise() < -0.6f) {
                columns[nnz] = column;
                values[nnz++] = noise();
            }
    }
    row_start[OC] = nnz;
    return nnz;
}

/* What the kernel has to compute: 3x3, padded by one pixel, with bias and ReLU. */
static float reference(const skimjit_csr *w, const float *bias, const float *src, int o, int y, int x)
{
    double sum = bias[o];
    uint32_t k;
    for (k = w->row_start[o]; k < w->row_start[o + 1]; k++) {
        int c = (int)w->columns[k] / TAPS, tap = (int)w->columns[k] % TAPS;
        int sy = y + tap / 3 - 1, sx = x + tap % 3 - 1;
        if (sy >= 0 && sy < SIZE && sx >= 0 && sx < SIZE)
            sum += (double)w->values[k] * src[(c * SIZE + sy) * SIZE + sx];
    }
    return sum > 0 ? (float)sum : 0;
}

/* Computes one image with the bare functions of the kernel, task by task. */
static void call_functions(const skimjit_kernel *kernel, const skimjit_kernel_info *info,
                           const float *src, float *dst)
{
    skimjit_operands operands;
    size_t task;
    memset(&operands, 0, sizeof operands);
    operands.size = sizeof operands;
    operands.src_elems = info->src_elems;
    operands.dst_elems = info->dst_elems;
    operands.scratch_elems = info->scratch_elems;
    float *packed = floats(info->src_elems);
    operands.src = packed;
    operands.dst = floats(info->dst_elems);
    operands.scratch = floats(info->scratch_elems);
    check(skimjit_kernel_pack_src(kernel, src, IC * SIZE * SIZE, 0, packed, info->src_elems), "pack");
    for (task = 0; task < info->tasks; task++) {
        skimjit_kernel_function function = skimjit_kernel_get_function(kernel, task);
        skimjit_kernel_args args;
        check(skimjit_kernel_get_args(kernel, task, &operands, &args), "args");
        function(&args);
    }
    check(skimjit_kernel_unpack_dst(kernel, operands.dst, info->dst_elems, dst, OC * SIZE * SIZE, 0),
          "unpack");
    free(packed);
    free(operands.dst);
    free(operands.scratch);
}

int main(int count, char **texts)
{
    static float src[IC * SIZE * SIZE], dst[OC * SIZE * SIZE], again[OC * SIZE * SIZE];
    static float values[OC * COLUMNS], bias[OC];
    static uint32_t row_start[OC + 1], columns[OC * COLUMNS];
    skimjit_kernel_options options = {sizeof options, NULL, SKIMJIT_ISA_BEST, 0};
    skimjit_csr weights = {sizeof weights, row_start, OC, columns, values, 0};
    skimjit_kernel_info info;
    skimjit_conv problem;
    skimjit_kernel *kernel, *same;
    float worst = 0;
    int i;
    if (count > 1)
        options.isa = strcmp(texts[1], "avx2") == 0 ? SKIMJIT_ISA_AVX2 : SKIMJIT_ISA_AVX512;
    for (i = 0; i < IC * SIZE * SIZE; i++)
        src[i] = noise();
    for (i = 0; i < OC; i++)
        bias[i] = noise();
    weights.nnz = make_weights(row_start, columns, values);
    memset(&problem, 0, sizeof problem);
    problem.size = sizeof problem;
    problem.ic = IC;
    problem.oc = OC;
    problem.ih = problem.iw = SIZE;
    problem.kh = problem.kw = 3;
    problem.pad_h = problem.pad_w = 1;
    problem.relu = 1;
    check(skimjit_sparse_conv_create(&problem, &weights, bias, OC, &options, &kernel), "create");
    memset(&info, 0, sizeof info);
    info.size = sizeof info;
    check(skimjit_kernel_get_info(kernel, &info), "info");
    printf("%s: %lu bytes of code, %lu of weights, %lu tasks, %s source\n", info.variant,
           (unsigned long)info.code_bytes, (unsigned long)info.packed_bytes,
           (unsigned long)info.tasks, info.staged ? "copied" : "plain");

    /* The same kernel again is the same code. */
    check(skimjit_sparse_conv_create(&problem, &weights, bias, OC, &options, &same), "create");
    if (skimjit_kernel_get_function(same, 0) != skimjit_kernel_get_function(kernel, 0))
        return 1;
    skimjit_kernel_free(kernel);

    call_functions(same, &info, src, dst);
    check(skimjit_kernel_compute(same, src, IC * SIZE * SIZE, NULL, 0, again, OC * SIZE * SIZE),
          "compute");
    for (i = 0; i < OC * SIZE * SIZE; i++) {
        int o = i / SIZE / SIZE, y = i / SIZE % SIZE, x = i % SIZE;
        worst = fmaxf(worst, fabsf(dst[i] - reference(&weights, bias, src, o, y, x)));
    }
    skimjit_kernel_free(same);
    printf("largest difference %g\n", (double)worst);
    return worst < 1e-4f && memcmp(dst, again, sizeof dst) == 0 ? 0 : 1;
}
