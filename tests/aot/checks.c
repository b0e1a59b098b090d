/* What an object refuses, and that threads with scratch memory of their own do not disturb each other.
 * Arguments: the best instruction set that init must choose, and whether the object has code for AVX2. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

#define THREADS 4
#define RUNS 20

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);           \
            exit(1);                                                          \
        }                                                                     \
    } while (0)

static float input[NET_INPUT_0_ELEMS];
static float expected[NET_OUTPUT_0_ELEMS];

static void *new_scratch(void) {
    char *scratch = aligned_alloc(NET_SCRATCH_ALIGN, NET_SCRATCH_BYTES + NET_SCRATCH_ALIGN);
    CHECK(scratch != NULL);
    memset(scratch, 0x7f, NET_SCRATCH_BYTES + NET_SCRATCH_ALIGN);
    return scratch;
}

static void *run(void *unused) {
    (void)unused;
    float output[NET_OUTPUT_0_ELEMS];
    void *scratch = new_scratch();
    CHECK(net_init(scratch, NET_ISA_ANY) > 0);
    for (int i = 0; i < RUNS; i++) {
        memset(output, 0, sizeof output);
        CHECK(net_run(input, output, scratch) == 0);
        CHECK(memcmp(output, expected, sizeof output) == 0);
    }
    free(scratch);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    int best = atoi(argv[1]), has_avx2 = atoi(argv[2]);
    for (int i = 0; i < NET_INPUT_0_ELEMS; i++)
        input[i] = (float)(i * 37 % 101) / 50.5f - 1.0f;
    char *scratch = new_scratch();

    CHECK(net_init(NULL, NET_ISA_ANY) == NET_ERROR_SCRATCH);
    CHECK(net_init(scratch + 4, NET_ISA_ANY) == NET_ERROR_SCRATCH);
    CHECK(net_run(input, expected, scratch) == NET_ERROR_SCRATCH);
    CHECK(net_init(scratch, NET_ISA_AVX2) == (has_avx2 ? NET_ISA_AVX2 : NET_ERROR_ISA));
    CHECK(net_init(scratch, NET_ISA_AVX512) == best);
    CHECK(net_init(scratch, NET_ISA_ANY) == best);
    /* Nothing behind the scratch memory is touched. */
    for (size_t i = 0; i < NET_SCRATCH_ALIGN; i++)
        CHECK(scratch[NET_SCRATCH_BYTES + i] == 0x7f);
    CHECK(net_run(NULL, expected, scratch) == NET_ERROR_NULL);
    CHECK(net_run(input, NULL, scratch) == NET_ERROR_NULL);
    CHECK(net_run(input, expected, NULL) == NET_ERROR_SCRATCH);
    const float *inputs[NET_INPUTS] = {input};
    float *outputs[NET_OUTPUTS] = {expected};
    CHECK(net_run_ports(inputs, outputs, scratch) == 0);

    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    free(scratch);
    return 0;
}
