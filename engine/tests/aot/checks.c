/* What an object refuses, that it touches nothing behind its memory, and that threads with scratch memory of
 * their own do not disturb each other.
 * Arguments: the best instruction set that init must choose, and whether the object has code for AVX2. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

#define OUTPUT_BYTES (NET_OUTPUT_0_ELEMS * sizeof(float))

static float *input, *expected;

/* Memory that ends where a page begins that nobody may touch. */
static void *guarded(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (bytes + page - 1) / page * page;
    char *start = mmap(NULL, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(start != MAP_FAILED);
    CHECK(mprotect(start + pages, page, PROT_NONE) == 0);
    memset(start, 0x7f, pages);
    return start + pages - bytes;
}

static void *run(void *unused) {
    (void)unused;
    float *output = guarded(OUTPUT_BYTES);
    void *scratch = guarded(NET_SCRATCH_BYTES);
    CHECK(net_init(scratch, NET_ISA_ANY) > 0);
    for (int i = 0; i < RUNS; i++) {
        memset(output, 0, OUTPUT_BYTES);
        CHECK(net_run(input, output, scratch) == 0);
        CHECK(memcmp(output, expected, OUTPUT_BYTES) == 0);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    int best = atoi(argv[1]), has_avx2 = atoi(argv[2]);
    input = guarded(NET_INPUT_0_ELEMS * sizeof(float));
    expected = guarded(OUTPUT_BYTES);
    for (int i = 0; i < NET_INPUT_0_ELEMS; i++)
        input[i] = (float)(i * 37 % 101) / 50.5f - 1.0f;
    char *scratch = guarded(NET_SCRATCH_BYTES);

    CHECK(net_init(NULL, NET_ISA_ANY) == NET_ERROR_SCRATCH);
    CHECK(net_init(scratch + 4, NET_ISA_ANY) == NET_ERROR_SCRATCH);
    CHECK(net_run(input, expected, scratch) == NET_ERROR_SCRATCH);
    CHECK(net_init(scratch, NET_ISA_AVX2) == (has_avx2 ? NET_ISA_AVX2 : NET_ERROR_ISA));
    CHECK(net_init(scratch, NET_ISA_AVX512) == best);
    CHECK(net_init(scratch, NET_ISA_ANY) == best);
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
    return 0;
}
