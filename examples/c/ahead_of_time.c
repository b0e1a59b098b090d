/* Runs a network that was compiled ahead of time, in a process that may not make memory executable.
 *
 *   skimjit compile net.caffemodel --emit obj,header --isa avx2,avx512 --name net -o net.o
 *   cc -I. ahead_of_time.c net.o -o program
 *   ./program in.f32 out.f32 [runs [instruction set]]
 *
 * in.f32 and out.f32 hold the floats of a batch, N x C x H x W. The instruction set is 0 for the best of
 * the machine, 1 for AVX2 at most, 2 for AVX-512. Prints the shortest time of all runs. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#include "net.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

static void fail(const char *what) {
    fprintf(stderr, "error: %s\n", what);
    exit(1);
}

/* From here on no memory of this process can become executable, not even by a bug. Older kernels (before
 * Linux 6.3) do not know the request. */
static void restrict_memory(void) {
    if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0) {
        puts("memory is not restricted: this kernel cannot");
        return;
    }
    void *both = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (both != MAP_FAILED)
        fail("memory could be mapped as writable and executable");
    void *data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        fail("no memory");
    if (mprotect(data, 4096, PROT_READ | PROT_EXEC) == 0)
        fail("memory could be made executable");
    puts("no memory can be made executable");
}

static void read_floats(const char *path, float *to, size_t count) {
    FILE *file = fopen(path, "rb");
    if (!file || fread(to, sizeof(float), count, file) != count || fgetc(file) != EOF)
        fail("the input file does not hold as many floats as the network takes");
    fclose(file);
}

static void write_floats(const char *path, const float *from, size_t count) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(from, sizeof(float), count, file) != count || fclose(file) != 0)
        fail("the output file cannot be written");
}

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    if (argc < 3)
        fail("usage: program in.f32 out.f32 [runs [instruction set]]");
    int runs = argc > 3 ? atoi(argv[3]) : 1;
    int most_isa = argc > 4 ? atoi(argv[4]) : NET_ISA_ANY;
    restrict_memory();

    /* One scratch memory for each thread; this program has one. */
    size_t bytes = (NET_SCRATCH_BYTES + NET_SCRATCH_ALIGN - 1) / NET_SCRATCH_ALIGN * NET_SCRATCH_ALIGN;
    void *scratch = aligned_alloc(NET_SCRATCH_ALIGN, bytes);
    float *input = malloc(NET_INPUT_0_ELEMS * sizeof(float));
    float *output = malloc(NET_OUTPUT_0_ELEMS * sizeof(float));
    if (!scratch || !input || !output)
        fail("no memory");
    read_floats(argv[1], input, NET_INPUT_0_ELEMS);

    int isa = net_init(scratch, most_isa);
    if (isa < 0)
        fail("the object has no code for this CPU");
    printf("instruction set: %s\n", isa == NET_ISA_AVX512 ? "avx512" : "avx2");

    double shortest = 1e30;
    for (int i = 0; i < runs; i++) {
        double started = milliseconds();
        if (net_run(input, output, scratch) != 0)
            fail("the network did not run");
        double time = milliseconds() - started;
        if (time < shortest)
            shortest = time;
    }
    printf("shortest of %d runs: %.4f ms\n", runs, shortest);
    write_floats(argv[2], output, NET_OUTPUT_0_ELEMS);
    free(output);
    free(input);
    free(scratch);
    return 0;
}
