/* Runs a network of two inputs and two outputs, one behind the other in the files. */
#include <stdio.h>
#include <stdlib.h>

#include "net.h"

#if NET_INPUTS != 2 || NET_OUTPUTS != 2
#error "expected two inputs and two outputs"
#endif

int main(int argc, char **argv) {
    static float inputs[NET_INPUT_0_ELEMS + NET_INPUT_1_ELEMS];
    static float outputs[NET_OUTPUT_0_ELEMS + NET_OUTPUT_1_ELEMS];
    const size_t in_elems = sizeof inputs / sizeof *inputs, out_elems = sizeof outputs / sizeof *outputs;
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL || fread(inputs, sizeof *inputs, in_elems, file) != in_elems)
        return 1;
    fclose(file);
    void *scratch = aligned_alloc(NET_SCRATCH_ALIGN, NET_SCRATCH_BYTES);
    const float *in[NET_INPUTS] = {inputs, inputs + NET_INPUT_0_ELEMS};
    float *out[NET_OUTPUTS] = {outputs, outputs + NET_OUTPUT_0_ELEMS};
    if (net_init(scratch, NET_ISA_ANY) < 0 || net_run_ports(in, out, scratch) != 0)
        return 1;
    free(scratch);
    file = fopen(argv[2], "wb");
    if (file == NULL || fwrite(outputs, sizeof *outputs, out_elems, file) != out_elems)
        return 1;
    return fclose(file) == 0 ? 0 : 1;
}
