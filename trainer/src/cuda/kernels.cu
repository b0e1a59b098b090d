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

// Windows of some images as a matrix with a row per tap and a column per image and output pixel: p = images, matrix;
// n = elements of the matrix, then GEOMETRY.
#define GEOMETRY                                                                                                \
    const long long ih = a.n[1], iw = a.n[2], oh = a.n[3], ow = a.n[4], kh = a.n[5], kw = a.n[6];               \
    const long long sh = a.n[7], sw = a.n[8], ph = a.n[9], pw = a.n[10], dh = a.n[11], dw = a.n[12];             \
    const long long images = a.n[13], stride = a.n[14]

KERNEL(gather) {
    THREAD;
    GEOMETRY;
    const long long ox = i % ow, oy = i / ow % oh, rest = i / (ow * oh);
    const long long image = rest % images, row = rest / images;
    const long long kx = row % kw, ky = row / kw % kh, c = row / (kw * kh);
    const long long y = oy * sh + ky * dh - ph, x = ox * sw + kx * dw - pw;
    const bool inside = y >= 0 && y < ih && x >= 0 && x < iw;
    a.p[1][i] = inside ? a.p[0][image * stride + (c * ih + y) * iw + x] : 0.0f;
}

// The transpose of gather: p = matrix, images; n = elements of the images' groups, then GEOMETRY, channels.
KERNEL(scatter) {
    THREAD;
    GEOMETRY;
    const long long x = i % iw, y = i / iw % ih, rest = i / (iw * ih);
    const long long c = rest % a.n[15], image = rest / a.n[15];
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
            sum += a.p[0][((row * images + image) * oh + top / sh) * ow + left / sw];
        }
    }
    a.p[1][image * stride + (c * ih + y) * iw + x] = sum;
}

// A matrix with a row per channel and a column per image and pixel to images, with the channels' offsets: p =
// matrix, offsets or null, images; n = elements, images, elements from image to image, channels, pixels.
KERNEL(to_images) {
    THREAD;
    const long long pixel = i % a.n[4], channel = i / a.n[4] % a.n[3], image = i / a.n[4] / a.n[3];
    const float offset = a.p[1] ? a.p[1][channel] : 0.0f;
    a.p[2][image * a.n[2] + channel * a.n[4] + pixel] = a.p[0][(channel * a.n[1] + image) * a.n[4] + pixel] + offset;
}

// And back: p = images, matrix; n as above.
KERNEL(to_matrix) {
    THREAD;
    const long long pixel = i % a.n[4], image = i / a.n[4] % a.n[1], channel = i / a.n[4] / a.n[1];
    a.p[1][i] = a.p[0][image * a.n[2] + channel * a.n[4] + pixel];
}

// p = x, factor or null, offset or null, y; n = elements, inner, shared.
KERNEL(scale) {
    THREAD;
    const long long shared = i / a.n[1] % a.n[2];
    const float factor = a.p[1] ? a.p[1][shared] : 1.0f;
    const float offset = a.p[2] ? a.p[2][shared] : 0.0f;
    a.p[3][i] = a.p[0][i] * factor + offset;
}

// Sums of pieces of rows: of x, of x·y, or of x·min(y, 0). Piece k of a row is its elements k, k + pieces, ...:
// p = x, y or null, sums; n = rows · pieces, length of a row, pieces, negative.
KERNEL(row_sums) {
    THREAD;
    const long long row = i / a.n[2];
    double sum = 0.0;
    for (long long k = row * a.n[1] + i % a.n[2]; k < (row + 1) * a.n[1]; k += a.n[2]) {
        const double y = a.p[1] ? a.p[1][k] : 1.0;
        sum += a.p[0][k] * (a.n[3] && y > 0.0 ? 0.0 : y);
    }
    a.p[2][i] = (float)sum;
}

// Adds up the pieces of all images, to what is there or instead of it: p = sums, into; n = channels, images, pieces,
// instead.
KERNEL(add_image_sums) {
    THREAD;
    double sum = 0.0;
    for (long long image = 0; image < a.n[1]; ++image)
        for (long long piece = 0; piece < a.n[2]; ++piece)
            sum += a.p[0][(image * a.n[0] + i) * a.n[2] + piece];
    a.p[1][i] = (a.n[3] ? 0.0f : a.p[1][i]) + (float)sum;
}

// p = x, y, winners (integers), rows, columns; n = elements of y, ih, iw, oh, ow; f = least value. A window is its
// start, its end and its divisor.
KERNEL(max_pool) {
    THREAD;
    const long long iw = a.n[2], oh = a.n[3], ow = a.n[4];
    const long long ox = i % ow, oy = i / ow % oh;
    const float *plane = a.p[0] + i / (ow * oh) * a.n[1] * iw;
    float best = a.f[0];
    int winner = -1;
    for (long long y = a.p[3][3 * oy]; y < a.p[3][3 * oy + 1]; ++y)
        for (long long x = a.p[4][3 * ox]; x < a.p[4][3 * ox + 1]; ++x)
            if (plane[y * iw + x] > best) {
                best = plane[y * iw + x];
                winner = (int)(y * iw + x);
            }
    a.p[1][i] = best;
    ((int *)a.p[2])[i] = winner;
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
                sum += ((const int *)a.p[2])[o] == (int)(y * iw + x) ? a.p[1][o] : 0.0f;
            else
                sum += a.p[1][o] / (a.p[3][3 * oy + 2] * a.p[4][3 * ox + 2]);
        }
    a.p[0][i] = sum;
}

DEVICE double logistic(double x) { return 1.0 / (1.0 + exp(-x)); }

// Of Caffe's base, of which -1 means e.
DEVICE double log_base(float base) { return base == -1.0f ? 1.0 : log((double)base); }

// Functions, as activation.rs numbers them: p = x, y; n = elements, function; f = its numbers.
KERNEL(activation) {
    THREAD;
    if (a.n[1] == 0) {
        // ReLU, of which networks are full: without double precision.
        a.p[1][i] = a.p[0][i] > 0.0f ? a.p[0][i] : a.f[0] * a.p[0][i];
        return;
    }
    const double x = a.p[0][i], u = a.f[0], v = a.f[1], w = a.f[2];
    double y = x;
    switch (a.n[1]) {
    case 1: y = x > 0.0 ? x : u * expm1(x); break;
    case 2: y = logistic(x); break;
    case 3: y = tanh(x); break;
    case 4: y = fabs(x); break;
    case 5: y = x > 0.0 ? x + log1p(exp(-x)) : log1p(exp(x)); break;
    case 6: y = pow(w + v * x, u); break;
    case 7: y = exp(log_base(a.f[0]) * (w + v * x)); break;
    case 8: y = log(w + v * x) / log_base(a.f[0]); break;
    case 9: y = x > u ? 1.0 : 0.0; break;
    case 10: y = x * logistic(u * x); break;
    case 11: y = x < u ? u : x > v ? v : x; break;
    }
    a.p[1][i] = (float)y;
}

// p = x, y, dy, dx; n, f as above. In place, x is y, which has the same sign in ReLU.
KERNEL(activation_back) {
    THREAD;
    const float x = a.p[0][i], y = a.p[1][i], u = a.f[0], v = a.f[1], w = a.f[2];
    float slope = 0.0f;
    switch (a.n[1]) {
    case 0: slope = x > 0.0f ? 1.0f : u; break;
    case 1: slope = x > 0.0f ? 1.0f : y + u; break;
    case 2: slope = y * (1.0f - y); break;
    case 3: slope = 1.0f - y * y; break;
    case 4: slope = (float)(x > 0.0f) - (float)(x < 0.0f); break;
    case 5: slope = (float)logistic(x); break;
    case 6: slope = u == 0.0f || v == 0.0f ? 0.0f : u * v * powf(w + v * x, u - 1.0f); break;
    case 7: slope = y * v * (float)log_base(u); break;
    case 8: slope = v / ((w + v * x) * (float)log_base(u)); break;
    case 10: {
        const float s = (float)logistic((double)u * x);
        slope = u * y + s * (1.0f - u * y);
        break;
    }
    case 11: slope = x >= u && x <= v ? 1.0f : 0.0f; break;
    }
    a.p[3][i] = a.p[2][i] * slope;
}

// p = x, slopes, y; n = elements, inner, shared.
KERNEL(prelu) {
    THREAD;
    const float x = a.p[0][i];
    a.p[2][i] = x > 0.0f ? x : a.p[1][i / a.n[1] % a.n[2]] * x;
}

// p = x, slopes, dy, dx; n as above.
KERNEL(prelu_back) {
    THREAD;
    a.p[3][i] = a.p[0][i] > 0.0f ? a.p[2][i] : a.p[1][i / a.n[1] % a.n[2]] * a.p[2][i];
}

DEVICE unsigned rotated(unsigned x, int by) { return x << by | x >> (32 - by); }

DEVICE void quarter_round(unsigned *s, int p, int q, int r, int t) {
    s[p] += s[q];
    s[t] = rotated(s[t] ^ s[p], 16);
    s[r] += s[t];
    s[q] = rotated(s[q] ^ s[r], 12);
    s[p] += s[q];
    s[t] = rotated(s[t] ^ s[p], 8);
    s[r] += s[t];
    s[q] = rotated(s[q] ^ s[r], 7);
}

// A mask of Dropout by the CPU's generator, ChaCha with eight rounds: a thread makes one of its blocks, sixteen
// numbers; chunks of elements have streams of their own. p = mask; n = blocks, elements, number of the layer, limit
// below which an element is dropped, elements of a chunk, eight words of the key; f = value of the others.
KERNEL(dropout_mask) {
    THREAD;
    const long long first = 16 * i, chunk = first / a.n[4], block = first % a.n[4] / 16;
    const unsigned long long stream = (unsigned long long)a.n[2] << 40 | (unsigned long long)chunk;
    unsigned start[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u}, s[16];
    for (int k = 0; k < 8; ++k)
        start[4 + k] = (unsigned)a.n[5 + k];
    start[12] = (unsigned)block;
    start[13] = (unsigned)(block >> 32);
    start[14] = (unsigned)stream;
    start[15] = (unsigned)(stream >> 32);
    for (int k = 0; k < 16; ++k)
        s[k] = start[k];
    for (int pair = 0; pair < 4; ++pair) {
        for (int k = 0; k < 4; ++k)
            quarter_round(s, k, 4 + k, 8 + k, 12 + k);
        for (int k = 0; k < 4; ++k)
            quarter_round(s, k, 4 + (k + 1) % 4, 8 + (k + 2) % 4, 12 + (k + 3) % 4);
    }
    for (int k = 0; k < 16 && first + k < a.n[1]; ++k)
        a.p[0][first + k] = (long long)(s[k] + start[k]) < a.n[3] ? 0.0f : a.f[0];
}

// p = x, y; n = positions, classes, elements from class to class.
KERNEL(softmax) {
    THREAD;
    const long long classes = a.n[1], inner = a.n[2];
    const float *x = a.p[0] + i / inner * classes * inner + i % inner;
    float *y = a.p[1] + (x - a.p[0]);
    float highest = x[0], sum = 0.0f;
    for (long long k = 1; k < classes; ++k)
        highest = fmaxf(highest, x[k * inner]);
    for (long long k = 0; k < classes; ++k) {
        y[k * inner] = expf(x[k * inner] - highest);
        sum += y[k * inner];
    }
    for (long long k = 0; k < classes; ++k)
        y[k * inner] /= sum;
}

// p = y, dy, dx; n as above.
KERNEL(softmax_back) {
    THREAD;
    const long long classes = a.n[1], inner = a.n[2], first = i / inner * classes * inner + i % inner;
    float sum = 0.0f;
    for (long long k = first; k < first + classes * inner; k += inner)
        sum += a.p[0][k] * a.p[1][k];
    for (long long k = first; k < first + classes * inner; k += inner)
        a.p[2][k] = a.p[0][k] * (a.p[1][k] - sum);
}

#define WINDOW const long long h = a.n[1], w = a.n[2], channels = a.n[3], reach = a.n[4], across = a.n[5]

// s^-beta, for the usual exponent by square roots.
DEVICE float falling(float s, float beta) {
    if (beta != 0.75f)
        return powf(s, -beta);
    const float root = sqrtf(s);
    return 1.0f / (root * sqrtf(root));
}

// Sum of squares (or of the values themselves) around an element: across channels, or the average within one.
DEVICE float around(const float *x, long long i, bool squares, const Args &a) {
    WINDOW;
    float sum = 0.0f;
    if (across) {
        const long long channel = i / (h * w) % channels;
        for (long long d = -reach; d <= reach; ++d)
            if (channel + d >= 0 && channel + d < channels) {
                const float value = x[i + d * h * w];
                sum += squares ? value * value : value;
            }
        return sum;
    }
    const long long column = i % w, row = i / w % h;
    for (long long dy = -reach; dy <= reach; ++dy)
        for (long long dx = -reach; dx <= reach; ++dx)
            if (row + dy >= 0 && row + dy < h && column + dx >= 0 && column + dx < w) {
                const float value = x[i + dy * w + dx];
                sum += squares ? value * value : value;
            }
    return sum / (float)((2 * reach + 1) * (2 * reach + 1));
}

// p = x, y, s; n = elements, h, w, channels, reach, across; f = alpha, beta, k.
KERNEL(lrn) {
    THREAD;
    const float s = a.f[2] + a.f[0] * around(a.p[0], i, true, a);
    a.p[2][i] = s;
    a.p[1][i] = a.p[0][i] * falling(s, a.f[1]);
}

// dy·y/s, of which the gradient takes sums: p = x, s, dy, ratios; f as above.
KERNEL(lrn_ratios) {
    THREAD;
    a.p[3][i] = a.p[2][i] * a.p[0][i] * falling(a.p[1][i], a.f[1]) / a.p[1][i];
}

// p = x, s, dy, ratios, dx; n, f as above.
KERNEL(lrn_back) {
    THREAD;
    const float sum = around(a.p[3], i, false, a);
    a.p[4][i] = a.p[2][i] * falling(a.p[1][i], a.f[1]) - 2.0f * a.f[0] * a.f[1] * a.p[0][i] * sum;
}

// Sums of pieces of an image's channel around the channel's first element, and of their squares: p = x, sums; n =
// images · channels · pieces, channels, pixels, pieces.
KERNEL(norm_sums) {
    THREAD;
    const long long row = i / a.n[3];
    const double origin = a.p[0][row % a.n[1] * a.n[2]];
    double sum = 0.0, squares = 0.0;
    for (long long k = row * a.n[2] + i % a.n[3]; k < (row + 1) * a.n[2]; k += a.n[3]) {
        const double x = a.p[0][k] - origin;
        sum += x;
        squares += x * x;
    }
    a.p[1][2 * i] = (float)sum;
    a.p[1][2 * i + 1] = (float)squares;
}

// p = x, sums, mean, inverse, running mean, running variance, running count; n = channels, images, pixels, training,
// pieces; f = eps, fraction.
KERNEL(norm_statistics) {
    THREAD;
    const double count = (double)a.n[1] * a.n[2];
    double sum = 0.0, squares = 0.0;
    for (long long image = 0; image < a.n[1]; ++image)
        for (long long piece = 0; piece < a.n[4]; ++piece) {
            const long long k = (image * a.n[0] + i) * a.n[4] + piece;
            sum += a.p[1][2 * k];
            squares += a.p[1][2 * k + 1];
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

// p = dy, y, dx, inverse, sums of dy and of dy·y by channel (null: none); n = elements, pixels, channels, elements of
// a channel.
KERNEL(normalize_back) {
    THREAD;
    const long long channel = i / a.n[1] % a.n[2];
    const float mean = a.p[4] ? a.p[4][channel] / (float)a.n[3] : 0.0f;
    const float mean_y = a.p[4] ? a.p[5][channel] / (float)a.n[3] : 0.0f;
    a.p[2][i] = (a.p[0][i] - mean - a.p[1][i] * mean_y) * a.p[3][channel];
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

// The larger of y and an operand, and which operand that is (an integer). Of two equal ones the second wins, later
// ones only with more: p = x, y, winners; n = elements, operand.
KERNEL(maximum) {
    THREAD;
    const float x = a.p[0][i];
    if (a.n[1] == 0 || x > a.p[1][i] || (a.n[1] == 1 && x == a.p[1][i])) {
        a.p[1][i] = x;
        ((int *)a.p[2])[i] = (int)a.n[1];
    }
}

// p = dy, winners, dx; n = elements, operand.
KERNEL(maximum_back) {
    THREAD;
    a.p[2][i] = ((const int *)a.p[1])[i] == (int)a.n[1] ? a.p[0][i] : 0.0f;
}

// Part of each row: p = from, to; n = elements, width, row of from, first of from, row of to, first of to.
KERNEL(copy_part) {
    THREAD;
    const long long row = i / a.n[1], column = i % a.n[1];
    a.p[1][row * a.n[4] + a.n[5] + column] = a.p[0][row * a.n[2] + a.n[3] + column];
}

DEVICE float sign(float x) { return (float)(x > 0.0f) - (float)(x < 0.0f); }

// The solver's update: p = weights, gradient, history, second history, mask, copy from which weights come back, factors
// of the threshold (all but the first three may be null); n = elements, rule (0 SGD, 1 Nesterov, 2 AdaGrad, 3 RMSProp,
// 4 AdaDelta, 5 Adam), decay (0 none, 1 L1, 2 L2), threshold (0 none, 1 fixed, 2 by update, 3 by gradient, 4 soft),
// elements of a factor, factors; f = scale, decay, rate, two numbers of the rule, delta, threshold, largest factor.
// Afterwards the gradient is what was subtracted.
KERNEL(update) {
    THREAD;
    const float w = a.p[0][i], old = a.p[2][i], rate = a.f[2], b1 = a.f[3], b2 = a.f[4], delta = a.f[5];
    float g = a.f[0] * a.p[1][i];
    if (a.n[2] == 1)
        g += a.f[1] * sign(w);
    if (a.n[2] == 2)
        g += a.f[1] * w;
    float h = old, v = 0.0f;
    switch (a.n[1]) {
    case 0:
        v = h = rate * g + b1 * old;
        break;
    case 1:
        h = rate * g + b1 * old;
        v = (1.0f + b1) * h - b1 * old;
        break;
    case 2:
        h = old + g * g;
        v = rate * g / (sqrtf(h) + delta);
        break;
    case 3:
        h = b1 * old + (1.0f - b1) * g * g;
        v = rate * g / (sqrtf(h) + delta);
        break;
    case 4: {
        h = b1 * old + (1.0f - b1) * g * g;
        const float u = g * sqrtf((a.p[3][i] + delta) / (h + delta));
        a.p[3][i] = b1 * a.p[3][i] + (1.0f - b1) * u * u;
        v = rate * u;
        break;
    }
    case 5:
        h = b1 * old + (1.0f - b1) * g;
        a.p[3][i] = b2 * a.p[3][i] + (1.0f - b2) * g * g;
        v = rate * h / (sqrtf(a.p[3][i]) + delta);
        break;
    }
    a.p[2][i] = h;
    if (a.p[4])
        v *= a.p[4][i];
    a.p[1][i] = v;
    float next = (a.p[5] ? a.p[5][i] : w) - v, limit = a.f[6];
    if (a.p[5])
        a.p[5][i] = next;
    if (a.n[3] == 2)
        limit /= fabsf(v) + 1.0f / a.f[7];
    if (a.n[3] == 3)
        limit /= fabsf(g) + 1.0f / a.f[7];
    if (a.n[3] == 4) {
        const float rest = fabsf(next) - limit;
        next = sign(next) * (rest > 0.0f ? rest : 0.0f);
    } else if (a.n[3]) {
        limit *= a.p[6] ? a.p[6][i / a.n[4] % a.n[5]] : 1.0f;
        if (fabsf(next) <= limit)
            next = 0.0f;
    }
    a.p[0][i] = next;
}
