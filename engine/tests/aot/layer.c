/* Runs the layers of an object with the layout of its header: conv1 on a padded copy of its source, then
 * conv2, which adds a residual. Reads and writes raw floats, N x C x H x W without gaps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

#define CONV1(name) NET_LAYER_CONV1_##name
#define CONV2(name) NET_LAYER_CONV2_##name

static float *operand(size_t before, size_t after) {
    float *start = calloc(before + after, sizeof(float));
    if (start == NULL)
        exit(1);
    return start + before;
}

int main(int argc, char **argv) {
    enum { HW = CONV1(SOURCE_0_HEIGHT) * CONV1(SOURCE_0_WIDTH) };
    FILE *in = argc == 3 ? fopen(argv[1], "rb") : NULL, *out = argc == 3 ? fopen(argv[2], "wb") : NULL;
    void *scratch = aligned_alloc(NET_SCRATCH_ALIGN, NET_SCRATCH_BYTES);
    if (in == NULL || out == NULL || scratch == NULL || net_init(scratch, NET_ISA_ANY) < 0)
        return 1;
    float *source = operand(CONV1(SOURCE_0_BEFORE), CONV1(SOURCE_0_AFTER));
    for (size_t c = 0; c < CONV1(SOURCE_0_CHANNELS); c++)
        if (fread(source + c * CONV1(SOURCE_0_PITCH), sizeof(float), HW, in) != HW)
            return 1;
    /* The result of conv1 is source and residual of conv2. */
    if (CONV1(RESULT_PITCH) != CONV2(SOURCE_0_PITCH) || CONV1(RESULT_PITCH) != CONV2(SOURCE_1_PITCH))
        return 1;
    size_t after = CONV1(RESULT_AFTER) + CONV2(SOURCE_0_AFTER) + CONV2(SOURCE_1_AFTER);
    float *middle = operand(CONV2(SOURCE_0_BEFORE), after);
    float *result = operand(0, CONV2(RESULT_AFTER));
    const float *sources1[1] = {source}, *sources2[2] = {middle, middle};
    if (net_layer_conv1(sources1, middle, scratch) != 0)
        return 1;
    if (net_layer_conv2(sources2, result, scratch) != 0)
        return 1;
    for (size_t c = 0; c < CONV2(RESULT_CHANNELS); c++)
        if (fwrite(result + c * CONV2(RESULT_PITCH), sizeof(float), HW, out) != HW)
            return 1;
    return fclose(out) == 0 ? 0 : 1;
}
