// Kernels of the CUDA engine, compiled when it starts. Every thread computes its own results and writes
// nobody else's: sums do not depend on the order of threads. The tests compile this file as C++ and run a
// kernel's threads one after the other.

struct Args {
    float *p[8];
    long long n[20];
    float f[8];
};

#ifdef __CUDACC__
#define KERNEL(name) extern "C" __global__ void name(Args a)
#define DEVICE __device__ static
DEVICE long long place() { return blockIdx.x * (long long)blockDim.x + threadIdx.x; }
#else
#include <math.h>
#define KERNEL(name) extern "C" void name(Args a)
#define DEVICE static
static thread_local long long current;
DEVICE long long place() { return current; }
extern "C" void run_on_host(void (*kernel)(Args), long long threads, const Args *a) {
    for (current = 0; current < threads; ++current)
        kernel(*a);
}
#endif

// The thread's number, below n[0].
#define THREAD                                                                                                  \
    const long long i = place();                                                                                \
    if (i >= a.n[0])                                                                                            \
    return

// Windows as columns of a matrix: p = image, matrix; n = elements of the matrix, then GEOMETRY.
#define GEOMETRY                                                                                                \
    const long long ih = a.n[1], iw = a.n[2], oh = a.n[3], ow = a.n[4], kh = a.n[5], kw = a.n[6];               \
    const long long sh = a.n[7], sw = a.n[8], ph = a.n[9], pw = a.n[10], dh = a.n[11], dw = a.n[12]

KERNEL(gather) {
    THREAD;
    GEOMETRY;
    const long long ox = i % ow, oy = i / ow % oh, row = i / (ow * oh);
    const long long kx = row % kw, ky = row / kw % kh, c = row / (kw * kh);
    const long long y = oy * sh + ky * dh - ph, x = ox * sw + kx * dw - pw;
    const bool inside = y >= 0 && y < ih && x >= 0 && x < iw;
    a.p[1][i] = inside ? a.p[0][(c * ih + y) * iw + x] : 0.0f;
}

// The transpose of gather: p = matrix, image; n = elements of the image, then GEOMETRY.
KERNEL(scatter) {
    THREAD;
    GEOMETRY;
    const long long x = i % iw, y = i / iw % ih, c = i / (iw * ih);
    float sum = 0.0f;
    for (long long ky = 0; ky < kh; ++ky) {
        const long long top = y + ph - ky * dh;
        if (top < 0 || top % sh != 0 || top / sh >= oh)
            continue;
        for (long long kx = 0; kx < kw; ++kx) {
            const long long left = x + pw - kx * dw;
            if (left < 0 || left % sw != 0 || left / sw >= ow)
                continue;
            const long long row = (c * kh + ky) * kw + kx;
            sum += a.p[0][(row * oh + top / sh) * ow + left / sw];
        }
    }
    a.p[1][i] = sum;
}

// p = x, factor or null, offset or null, y; n = elements, inner, shared.
KERNEL(scale) {
    THREAD;
    const long long shared = i / a.n[1] % a.n[2];
    const float factor = a.p[1] ? a.p[1][shared] : 1.0f;
    const float offset = a.p[2] ? a.p[2][shared] : 0.0f;
    a.p[3][i] = a.p[0][i] * factor + offset;
}

// Sums of rows of x, or of products x·y: p = x, y or null, sums; n = rows, length.
KERNEL(row_sums) {
    THREAD;
    double sum = 0.0;
    for (long long k = i * a.n[1]; k < (i + 1) * a.n[1]; ++k)
        sum += a.p[1] ? (double)a.p[0][k] * a.p[1][k] : (double)a.p[0][k];
    a.p[2][i] = (float)sum;
}

// Adds the sums of all images: p = sums, into; n = channels, images.
KERNEL(add_image_sums) {
    THREAD;
    double sum = 0.0;
    for (long long image = 0; image < a.n[1]; ++image)
        sum += a.p[0][image * a.n[0] + i];
    a.p[1][i] += (float)sum;
}

// p = x, y, winners, rows, columns; n = elements of y, ih, iw, oh, ow; f = least value. A window is its start,
// its end and its divisor.
KERNEL(max_pool) {
    THREAD;
    const long long iw = a.n[2], oh = a.n[3], ow = a.n[4];
    const long long ox = i % ow, oy = i / ow % oh;
    const float *plane = a.p[0] + i / (ow * oh) * a.n[1] * iw;
    float best = a.f[0], winner = -1.0f;
    for (long long y = a.p[3][3 * oy]; y < a.p[3][3 * oy + 1]; ++y)
        for (long long x = a.p[4][3 * ox]; x < a.p[4][3 * ox + 1]; ++x)
            if (plane[y * iw + x] > best) {
                best = plane[y * iw + x];
                winner = (float)(y * iw + x);
            }
    a.p[1][i] = best;
    a.p[2][i] = winner;
}

KERNEL(average_pool) {
    THREAD;
    const long long iw = a.n[2], oh = a.n[3], ow = a.n[4];
    const long long ox = i % ow, oy = i / ow % oh;
    const float *plane = a.p[0] + i / (ow * oh) * a.n[1] * iw;
    float sum = 0.0f;
    for (long long y = a.p[3][3 * oy]; y < a.p[3][3 * oy + 1]; ++y)
        for (long long x = a.p[4][3 * ox]; x < a.p[4][3 * ox + 1]; ++x)
            sum += plane[y * iw + x];
    a.p[1][i] = sum / (a.p[3][3 * oy + 2] * a.p[4][3 * ox + 2]);
}

// Gradients of pooling: p = dx, dy, winners (null: average), rows, columns; n = elements of dx, ih, iw, oh, ow,
// kh, kw, sh, sw, ph, pw.
KERNEL(pool_back) {
    THREAD;
    const long long ih = a.n[1], iw = a.n[2], oh = a.n[3], ow = a.n[4], kh = a.n[5], kw = a.n[6];
    const long long sh = a.n[7], sw = a.n[8], ph = a.n[9], pw = a.n[10];
    const long long x = i % iw, y = i / iw % ih, plane = i / (iw * ih);
    const long long top = y + ph < kh ? 0 : (y + ph - kh) / sh + 1, left = x + pw < kw ? 0 : (x + pw - kw) / sw + 1;
    float sum = 0.0f;
    for (long long oy = top; oy < oh && oy * sh <= y + ph; ++oy)
        for (long long ox = left; ox < ow && ox * sw <= x + pw; ++ox) {
            const long long o = (plane * oh + oy) * ow + ox;
            if (a.p[2])
                sum += a.p[2][o] == (float)(y * iw + x) ? a.p[1][o] : 0.0f;
            else
                sum += a.p[1][o] / (a.p[3][3 * oy + 2] * a.p[4][3 * ox + 2]);
        }
    a.p[0][i] = sum;
}

// p = x, y; n = elements; f = slope.
KERNEL(relu) {
    THREAD;
    const float x = a.p[0][i];
    a.p[1][i] = x > 0.0f ? x : a.f[0] * x;
}

// p = x (or y: they have the same sign), dy, dx; n = elements; f = slope.
KERNEL(relu_back) {
    THREAD;
    a.p[2][i] = a.p[0][i] > 0.0f ? a.p[1][i] : a.p[1][i] * a.f[0];
}

// p = x, y, s; n = elements, pixels, channels, reach; f = alpha, beta, k.
KERNEL(lrn) {
    THREAD;
    const long long pixels = a.n[1], channel = i / pixels % a.n[2];
    float sum = 0.0f;
    for (long long d = -a.n[3]; d <= a.n[3]; ++d)
        if (channel + d >= 0 && channel + d < a.n[2])
            sum += a.p[0][i + d * pixels] * a.p[0][i + d * pixels];
    const float s = a.f[2] + a.f[0] * sum;
    a.p[2][i] = s;
    a.p[1][i] = a.p[0][i] * powf(s, -a.f[1]);
}

// p = x, s, dy, dx; n, f as above.
KERNEL(lrn_back) {
    THREAD;
    const long long pixels = a.n[1], channel = i / pixels % a.n[2];
    float sum = 0.0f;
    for (long long d = -a.n[3]; d <= a.n[3]; ++d)
        if (channel + d >= 0 && channel + d < a.n[2]) {
            const long long k = i + d * pixels;
            sum += a.p[2][k] * a.p[0][k] * powf(a.p[1][k], -a.f[1] - 1.0f);
        }
    a.p[3][i] = a.p[2][i] * powf(a.p[1][i], -a.f[1]) - 2.0f * a.f[0] * a.f[1] * a.p[0][i] * sum;
}

// Sums of an image's channel around the channel's first element, and of their squares: p = x, sums; n = images ·
// channels, channels, pixels.
KERNEL(norm_sums) {
    THREAD;
    const double origin = a.p[0][i % a.n[1] * a.n[2]];
    double sum = 0.0, squares = 0.0;
    for (long long k = i * a.n[2]; k < (i + 1) * a.n[2]; ++k) {
        const double x = a.p[0][k] - origin;
        sum += x;
        squares += x * x;
    }
    a.p[1][2 * i] = (float)sum;
    a.p[1][2 * i + 1] = (float)squares;
}

// p = x, sums, mean, inverse, running mean, running variance, running count; n = channels, images, pixels, training;
// f = eps, fraction.
KERNEL(norm_statistics) {
    THREAD;
    const double count = (double)a.n[1] * a.n[2];
    double sum = 0.0, squares = 0.0;
    for (long long image = 0; image < a.n[1]; ++image) {
        sum += a.p[1][2 * (image * a.n[0] + i)];
        squares += a.p[1][2 * (image * a.n[0] + i) + 1];
    }
    const double offset = sum / count, mean = a.p[0][i * a.n[2]] + offset;
    double variance = squares / count - offset * offset;
    variance = variance > 0.0 ? variance : 0.0;
    a.p[2][i] = (float)mean;
    a.p[3][i] = (float)(1.0 / sqrt(variance + (double)a.f[0]));
    if (!a.n[3])
        return;
    const double unbiased = count > 1.0 ? count / (count - 1.0) : 1.0;
    a.p[4][i] = a.p[4][i] * a.f[1] + (float)mean;
    a.p[5][i] = a.p[5][i] * a.f[1] + (float)(variance * unbiased);
    if (i == 0)
        a.p[6][0] = a.p[6][0] * a.f[1] + 1.0f;
}

// The same from what was gathered: p, n, f as above.
KERNEL(norm_running) {
    THREAD;
    const float factor = a.p[6][0] == 0.0f ? 0.0f : 1.0f / a.p[6][0];
    a.p[2][i] = a.p[4][i] * factor;
    a.p[3][i] = 1.0f / sqrtf(a.p[5][i] * factor + a.f[0]);
}

// p = x, y, mean, inverse; n = elements, pixels, channels.
KERNEL(normalize) {
    THREAD;
    const long long channel = i / a.n[1] % a.n[2];
    a.p[1][i] = (a.p[0][i] - a.p[2][channel]) * a.p[3][channel];
}

// p = dy, y, dx, inverse, sums of dy and of dy·y by image and channel (null: none); n = elements, pixels, channels,
// images.
KERNEL(normalize_back) {
    THREAD;
    const long long channel = i / a.n[1] % a.n[2];
    double mean = 0.0, mean_y = 0.0;
    if (a.p[4]) {
        const double count = (double)a.n[1] * a.n[3];
        for (long long image = 0; image < a.n[3]; ++image) {
            mean += a.p[4][image * a.n[2] + channel];
            mean_y += a.p[5][image * a.n[2] + channel];
        }
        mean /= count;
        mean_y /= count;
    }
    a.p[2][i] = (a.p[0][i] - (float)mean - a.p[1][i] * (float)mean_y) * a.p[3][channel];
}

// y = c·x, or y += c·x: p = x, y; n = elements, add; f = c.
KERNEL(add) {
    THREAD;
    a.p[1][i] = a.f[0] * a.p[0][i] + (a.n[1] ? a.p[1][i] : 0.0f);
}

// p = x, mask, y; n = elements.
KERNEL(multiply) {
    THREAD;
    a.p[2][i] = a.p[0][i] * a.p[1][i];
}

// Part of each row: p = from, to; n = elements, width, row of from, first of from, row of to, first of to.
KERNEL(copy_part) {
    THREAD;
    const long long row = i / a.n[1], column = i % a.n[1];
    a.p[1][row * a.n[4] + a.n[5] + column] = a.p[0][row * a.n[2] + a.n[3] + column];
}

DEVICE float sign(float x) { return (float)(x > 0.0f) - (float)(x < 0.0f); }

// The solver's update: p = weights, gradient, history, mask or null; n = elements, decay (0 none, 1 L1, 2 L2),
// Nesterov, threshold (0 none, 1 fixed, 2 by update, 3 by gradient, 4 soft); f = scale, decay, rate, momentum,
// threshold, largest factor.
KERNEL(update) {
    THREAD;
    const float w = a.p[0][i], old = a.p[2][i];
    float g = a.f[0] * a.p[1][i];
    if (a.n[1] == 1)
        g += a.f[1] * sign(w);
    if (a.n[1] == 2)
        g += a.f[1] * w;
    const float h = a.f[2] * g + a.f[3] * old;
    float v = a.n[2] ? (1.0f + a.f[3]) * h - a.f[3] * old : h;
    a.p[2][i] = h;
    if (a.p[3])
        v *= a.p[3][i];
    a.p[1][i] = v;
    float next = w - v, limit = a.f[4];
    if (a.n[3] == 2)
        limit /= fabsf(v) + 1.0f / a.f[5];
    if (a.n[3] == 3)
        limit /= fabsf(g) + 1.0f / a.f[5];
    if (a.n[3] == 4) {
        const float rest = fabsf(next) - limit;
        next = sign(next) * (rest > 0.0f ? rest : 0.0f);
    } else if (a.n[3] && fabsf(next) <= limit) {
        next = 0.0f;
    }
    a.p[0][i] = next;
}
