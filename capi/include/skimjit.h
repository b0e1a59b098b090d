/* skimjit: runs pruned Caffe networks fast on x86 CPUs. The C interface, for C99 and C++.
 *
 * Made from capi/src/ (SKIMJIT_BLESS=1 cargo test --release --test capi header); do not edit.
 * A guide with examples is docs/EMBEDDING.md.
 *
 * Results. Functions that can fail return a skimjit_status, and skimjit_error_message() says in words
 * what was wrong. A call that fails changes nothing and writes to no result but, for runs, the outputs.
 *
 * Ownership. skimjit_..._create, _load_... and _reshape give a handle that the caller frees with the
 * _free function of its type; null is allowed there. Handles keep what they need of each other alive, so
 * they may be freed in any order. Arrays and texts that are passed in belong to the caller and are not
 * needed after the call. Texts that are returned belong to the handle they came from.
 *
 * Threads. Models, kernels and teams never change: any number of threads may use them. A session is for
 * one thread at a time, which is checked. A handle is freed when no call uses it any more, which is not.
 *
 * Alignment. Arrays of floats need the alignment of a float; scratch memory of kernels starts at a
 * multiple of 64.
 *
 * Structs that may grow start with their size: set all of the struct to 0, then size to its sizeof.
 * Fields that an older library does not know must be 0; a newer one takes smaller structs.
 */

#ifndef SKIMJIT_H
#define SKIMJIT_H

#include <stddef.h>
#include <stdint.h>

// Version of the interface that a header describes. Within one, functions and fields at the end of
// structs are added, and nothing is changed or taken away.
#define SKIMJIT_ABI_VERSION 1

// The best instruction set of the machine.
#define SKIMJIT_ISA_BEST 0

// AVX2 and FMA.
#define SKIMJIT_ISA_AVX2 1

// AVX-512 F, BW, DQ and VL.
#define SKIMJIT_ISA_AVX512 2

// Kernels are chosen by estimates: the same ones on every machine.
#define SKIMJIT_TUNING_NONE 0

// Kernels are chosen by timing them, which takes some seconds; times that are in the cache are used.
#define SKIMJIT_TUNING_MEASURE 1

// Kernels are chosen by the times in the cache; a missing one is an error.
#define SKIMJIT_TUNING_FROZEN 2

// Most axes of a shape.
#define SKIMJIT_MAX_RANK 8

// Result of a call. Values are never changed or reused; later versions may add some.
typedef enum {
  // Done.
  SKIMJIT_STATUS_OK = 0,
  // An argument cannot be used: a null pointer, an index or an option out of range, a text that is
  // not UTF-8, an unaligned array.
  SKIMJIT_STATUS_ARGUMENT = 1,
  // A struct's size, or the ABI version, is one that this library does not know.
  SKIMJIT_STATUS_VERSION = 2,
  // A file, or its contents.
  SKIMJIT_STATUS_INPUT = 3,
  // The network or kernel cannot be generated: no variant for it, or no memory.
  SKIMJIT_STATUS_PLAN = 4,
  // The arrays given to a run do not fit the network.
  SKIMJIT_STATUS_ARRAYS = 5,
  // The instruction set asked for is not there, or the CPU lacks AVX2 with FMA.
  SKIMJIT_STATUS_ISA = 6,
  // Another thread is using the session.
  SKIMJIT_STATUS_BUSY = 7,
  // A defect of this library. What took part in the call can only be freed.
  SKIMJIT_STATUS_INTERNAL = 8,
} skimjit_status;

// A generated kernel: machine code for one problem and one set of weights. It never changes, and any
// number of threads may use it.
typedef struct skimjit_kernel skimjit_kernel;

// A network with its generated code. It never changes, and any number of threads may use it.
typedef struct skimjit_model skimjit_model;

// Memory to run a model in: one per thread that runs it at the same time. A session may move between
// threads; a call while another thread uses it fails with SKIMJIT_STATUS_BUSY.
typedef struct skimjit_session skimjit_session;

// A team of threads that compute one run together. The thread that calls `skimjit_session_run` is one
// of them, so a team of one starts no thread at all.
//
// A team may be shared by models and sessions; runs on one team take turns, runs on different teams
// happen at the same time. Waiting threads spin for some microseconds and then sleep. A team does
// not survive fork(): make it in the child.
typedef struct skimjit_team skimjit_team;

// A shape for an input.
typedef struct {
  // Name of the input; null: the only one. In skimjit_options, a name.
  const char *name;
  // Dims, N, C, H, W for pictures.
  const uint32_t *dims;
  // Number of dims.
  size_t rank;
} skimjit_shape;

// How a network is loaded. Set `size` to sizeof(skimjit_options) and leave 0 what should be as usual.
// Nothing of it is needed after the call. No environment variable changes what it says.
typedef struct {
  // sizeof(skimjit_options).
  size_t size;
  // Threads of a run, the caller included; 0: one per core. Not used with `team`.
  uint32_t threads;
  // SKIMJIT_ISA_...: the instruction set. One that the machine lacks is an error.
  uint32_t isa;
  // Images that are computed together; 0: as many as the network says.
  uint32_t batch;
  // SKIMJIT_TUNING_...: how kernels are chosen.
  uint32_t tuning;
  // File that measured times are read from and added to; null: they are forgotten.
  const char *tune_cache;
  // File of the topology, for a .caffemodel without one or to replace it; null: none.
  const char *prototxt;
  // The topology itself, instead of a file; null: none.
  const char *prototxt_text;
  // Shape of the only input, where the topology does not give it or another one is wanted; null:
  // none.
  const uint32_t *input_shape;
  // Number of dims in `input_shape`, N, C, H, W for pictures.
  size_t input_rank;
  // Names of blobs to get beside the network's outputs; they become the last outputs.
  const char *const *keep;
  // Number of names in `keep`.
  size_t keep_count;
  // Threads that compute; null: a team of the model's own.
  const skimjit_team *team;
  // Not 0: layers are read without the fields that are unknown, which may change what they compute.
  // They are warnings then; otherwise they are an error.
  uint32_t ignore_unknown_fields;
  // Not 0: in-place layers change every blob that Caffe keeps in the same memory, as there. Otherwise
  // each blob keeps its own value, and a warning tells where that makes a difference.
  uint32_t caffe_in_place;
  // Bytes of memory that what is in the files, and a session of the model, may take; 0: what is free.
  uint64_t memory_limit;
  // Shapes of inputs by name, where the network has several; null: none.
  const skimjit_shape *input_shapes;
  // Number of shapes in `input_shapes`.
  size_t input_shape_count;
} skimjit_options;

// What a model is. Set `size` to sizeof(skimjit_model_info).
typedef struct {
  // sizeof(skimjit_model_info).
  size_t size;
  // Number of inputs.
  size_t inputs;
  // Number of outputs.
  size_t outputs;
  // Images that are computed together.
  size_t batch;
  // Bytes of generated code.
  size_t code_bytes;
  // Bytes that a session needs.
  uint64_t session_bytes;
  // Threads of its team.
  uint32_t threads;
  // SKIMJIT_ISA_...: instruction set of the code.
  uint32_t isa;
} skimjit_model_info;

// An input or output. Set `size` to sizeof(skimjit_port).
typedef struct {
  // sizeof(skimjit_port).
  size_t size;
  // Name of the blob, UTF-8. Belongs to the model.
  const char *name;
  // Elements of a row: an image, or the whole array where it is not per image.
  size_t row_elems;
  // 1: an array has one row per image. 0: one per full batch.
  uint32_t per_image;
  // Number of dims.
  uint32_t rank;
  // Shape for a full batch, its first dim N the images; 0 beyond `rank`.
  uint32_t dims[SKIMJIT_MAX_RANK];
  // 1: images depend on each other, so that a run takes full batches only. 0: any number of images.
  uint32_t full_batches;
  // Always 0.
  uint32_t reserved;
} skimjit_port;

// How a picture becomes the input of a model, in this order: resize, cut out the centre, subtract the mean,
// scale; pixels are 0 to 255. Set `size` to sizeof(skimjit_preprocess).
typedef struct {
  // sizeof(skimjit_preprocess).
  size_t size;
  // What is subtracted, in the order of the channels; null: nothing. Belongs to the model.
  const float *mean;
  // Number of values in `mean`: one for all channels, one per channel, or an image, channel by channel, as
  // large as the picture before it is cut.
  size_t mean_count;
  // Height of the mean image; 0: it is none.
  uint32_t mean_height;
  // Width of the mean image.
  uint32_t mean_width;
  // 1: the following is known. 0: nothing is, and all fields are 0.
  uint32_t known;
  // 1: the first channel is red. 0: it is blue, as Caffe has it. Without meaning for one channel.
  uint32_t rgb;
  // Width that pictures are resized to, with `resize_height`; 0: they are not.
  uint32_t resize_width;
  // Height that pictures are resized to.
  uint32_t resize_height;
  // Length that the shorter side is resized to; 0: it is not.
  uint32_t resize_short;
  // Side of the square that is cut from the centre; 0: none.
  uint32_t crop;
  // Factor, after the mean is subtracted.
  float scale;
  // Always 0.
  uint32_t reserved;
} skimjit_preprocess;

// An array to read. It belongs to the caller, and needs the alignment of a float only.
typedef struct {
  // Elements, row by row.
  const float *data;
  // Number of elements.
  size_t elems;
} skimjit_input;

// An array to write. It belongs to the caller, and needs the alignment of a float only.
typedef struct {
  // Elements, row by row.
  float *data;
  // Number of elements.
  size_t elems;
} skimjit_output;

// Times of the runs since a profile was started. Set `size` to sizeof(skimjit_profile).
typedef struct {
  // sizeof(skimjit_profile).
  size_t size;
  // Number of steps.
  size_t steps;
  // Runs.
  uint64_t runs;
  // Images of all runs.
  uint64_t images;
  // Time of all runs, in nanoseconds.
  uint64_t wall_ns;
  // Time that all threads together spent in no step: waiting for each other.
  uint64_t outside_ns;
} skimjit_profile;

// Times of one step. Set `size` to sizeof(skimjit_step).
typedef struct {
  // sizeof(skimjit_step).
  size_t size;
  // Layer, UTF-8. Belongs to the session.
  const char *layer;
  // Kernel variant, or what kind of copy it is. Belongs to the session.
  const char *kernel;
  // Time over all threads and runs, in nanoseconds.
  uint64_t time_ns;
  // Time over all runs of the thread that spent most on it, in nanoseconds.
  uint64_t longest_ns;
} skimjit_step;

// What a kernel is, and the memory of its operands, in floats. Set `size` to
// sizeof(skimjit_kernel_info).
//
// The packed source is what the generated code reads: the channel planes themselves, or, where the
// kernel is `staged`, a padded copy of them in an order of its own. Its array has `src_elems` elements, of
// which `src_before` come before the first pixel; what of it is no pixel must be 0, which
// `skimjit_kernel_pack_src` sees to. Pixel (c, y, x) of planes is `src_before` + c * `src_pitch` + y *
// `src_w` + x; in the result, c * `dst_pitch` + y * `dst_w` + x. The code writes pixels of the result only.
typedef struct {
  // sizeof(skimjit_kernel_info).
  size_t size;
  // Name of the variant. Belongs to the kernel.
  const char *variant;
  // Bytes of machine code.
  size_t code_bytes;
  // Bytes of packed weights and tables.
  size_t packed_bytes;
  // Number of tasks: they may run in any order, on any threads, each once.
  size_t tasks;
  // Elements of the packed source.
  size_t src_elems;
  // How many of them come before the first pixel.
  size_t src_before;
  // Elements of the residual, which lies as the result does; 0: the problem has none.
  size_t residual_elems;
  // Elements of the result.
  size_t dst_elems;
  // Elements of the scratch memory of each thread that runs tasks. It starts at a multiple of 64.
  size_t scratch_elems;
  // Channels of the source (columns of the weights of a product).
  uint32_t src_c;
  // Height of the source.
  uint32_t src_h;
  // Width of the source.
  uint32_t src_w;
  // Elements from one channel of the source to the next.
  uint32_t src_pitch;
  // Channels of the result (rows of the weights of a product).
  uint32_t dst_c;
  // Height of the result.
  uint32_t dst_h;
  // Width of the result.
  uint32_t dst_w;
  // Elements from one channel of the result to the next.
  uint32_t dst_pitch;
  // 1: the packed source is a padded copy, which only `skimjit_kernel_pack_src` can make.
  uint32_t staged;
  // SKIMJIT_ISA_...: instruction set of the code.
  uint32_t isa;
} skimjit_kernel_info;

// A convolution of one image, with zero outside the picture. Weights are oc x ic/groups x kh x kw. Set
// `size` to sizeof(skimjit_conv) and leave 0 what should be as usual.
typedef struct {
  // sizeof(skimjit_conv).
  size_t size;
  // Input channels.
  uint32_t ic;
  // Output channels.
  uint32_t oc;
  // Height of the source.
  uint32_t ih;
  // Width of the source.
  uint32_t iw;
  // Height of the filters.
  uint32_t kh;
  // Width of the filters.
  uint32_t kw;
  // Vertical stride; 0 is 1.
  uint32_t stride_h;
  // Horizontal stride; 0 is 1.
  uint32_t stride_w;
  // Rows of zeros above, and as many below.
  uint32_t pad_h;
  // Columns of zeros on the left, and as many on the right.
  uint32_t pad_w;
  // Vertical dilation; 0 is 1: neighbouring pixels.
  uint32_t dilation_h;
  // Horizontal dilation; 0 is 1.
  uint32_t dilation_w;
  // Groups; 0 is 1.
  uint32_t groups;
  // 1: a ReLU follows.
  uint32_t relu;
  // Its slope below zero.
  float relu_slope;
  // 1: an array that lies as the result does is added before the ReLU.
  uint32_t residual;
  // Elements from one channel of the source to the next; 0: whatever makes the kernel fast. ih * iw is
  // plain C, H, W.
  uint32_t src_pitch;
  // The same for the result.
  uint32_t dst_pitch;
} skimjit_conv;

// A sparse matrix, row by row. For convolutions, a row is an output channel, and a column is
// (c * kh + y) * kw + x with c the input channel in its group. Set `size` to sizeof(skimjit_csr).
typedef struct {
  // sizeof(skimjit_csr).
  size_t size;
  // Where each row starts in `columns` and `values`, and where the last one ends: rows + 1 entries.
  const uint32_t *row_start;
  // Rows.
  size_t rows;
  // Column of each value; ascending within a row.
  const uint32_t *columns;
  // Values.
  const float *values;
  // Number of values.
  size_t nnz;
} skimjit_csr;

// How a kernel is made. Set `size` to sizeof(skimjit_kernel_options) and leave 0 what should be as
// usual.
typedef struct {
  // sizeof(skimjit_kernel_options).
  size_t size;
  // Variant, such as "sparse_conv.baked"; null: the one with the best estimate.
  const char *variant;
  // SKIMJIT_ISA_...: the instruction set.
  uint32_t isa;
  // Always 0.
  uint32_t reserved;
} skimjit_kernel_options;

// An inner product of one row. Weights are outputs x inputs. Set `size` to sizeof(skimjit_fc).
typedef struct {
  // sizeof(skimjit_fc).
  size_t size;
  // Elements of the source.
  uint32_t inputs;
  // Elements of the result.
  uint32_t outputs;
  // 1: a ReLU follows.
  uint32_t relu;
  // Its slope below zero.
  float relu_slope;
} skimjit_fc;

// A matrix product: weights (rows x inner) times source (inner x columns). Set `size` to
// sizeof(skimjit_matmul) and leave 0 what should be as usual.
typedef struct {
  // sizeof(skimjit_matmul).
  size_t size;
  // Rows of the weights and of the result.
  uint32_t rows;
  // Columns of the weights, rows of the source.
  uint32_t inner;
  // Columns of source and result.
  uint32_t columns;
  // 1: a ReLU follows.
  uint32_t relu;
  // Its slope below zero.
  float relu_slope;
  // 1: a matrix that lies as the result does is added before the ReLU.
  uint32_t residual;
  // Elements from one row of the source to the next; 0: whatever makes the kernel fast.
  uint32_t src_pitch;
  // The same for the result.
  uint32_t dst_pitch;
} skimjit_matmul;

// What the function of a task is called with; made by `skimjit_kernel_get_args`.
typedef struct {
  // Source, residual.
  const void *src[8];
  // Result.
  void *dst;
  // Packed weights. They belong to the kernel, as do bias and tables.
  const void *weights;
  // Packed bias.
  const void *bias;
  // Tables.
  const void *tables;
  // Scratch memory.
  void *scratch;
  // Loop trips.
  uint64_t count;
} skimjit_kernel_args;

// The function of a task. The CPU must have the kernel's instruction set; the pointers that
// `skimjit_kernel_get_args` was given must be valid, and no other thread may write the sources or use the
// scratch memory.
typedef void (*skimjit_kernel_function)(const skimjit_kernel_args *args);

// Arrays of a call, all of them the caller's. Their lengths must be those of skimjit_kernel_info. Set
// `size` to sizeof(skimjit_operands).
typedef struct {
  // sizeof(skimjit_operands).
  size_t size;
  // The packed source, from its start.
  const float *src;
  // Number of elements.
  size_t src_elems;
  // The residual; null where the problem has none.
  const float *residual;
  // Number of elements.
  size_t residual_elems;
  // The result.
  float *dst;
  // Number of elements.
  size_t dst_elems;
  // Scratch memory of the calling thread, at a multiple of 64; null where the kernel needs none.
  float *scratch;
  // Number of elements.
  size_t scratch_elems;
} skimjit_operands;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Version of the library, for people: "0.1.0". Valid for ever.
const char *skimjit_version(void);

// Version of the interface that the library was built with.
uint32_t skimjit_abi_version(void);

// Refuses a header that the library was not built with: call it first, with SKIMJIT_ABI_VERSION.
skimjit_status skimjit_check_abi(uint32_t header);

// Says in words what the last call of this thread that failed did not like: which file, layer or
// field, what was found, and what was expected. An empty text when none failed.
//
// What was noticed before it when a network was read (see `skimjit_model_get_warning`) follows, one line
// that begins with "warning: " each.
//
// The text is UTF-8 and valid until the next call of this thread that fails. Never null.
const char *skimjit_error_message(void);

// The name of a result, for logs. Never null; valid for ever.
const char *skimjit_status_name(int32_t status);

// Starts a team of `threads` (1 to 256; 0: one per core), the caller included.
//
// The caller owns `*team`, and frees it with `skimjit_team_free`; the threads end when no model and no
// session uses them any more.
skimjit_status skimjit_team_create(uint32_t threads,
                                   skimjit_team **team);

// Threads of a team; 0 for null.
uint32_t skimjit_team_threads(const skimjit_team *team);

// Frees a team; null is allowed.
void skimjit_team_free(skimjit_team *team);

// Loads a network from a .skim, .onnx, .caffemodel or .caffemodel.h5 file (the contents decide), and
// generates its code. `options` may be null.
//
// The caller owns `*model`, and frees it with `skimjit_model_free`. Nothing is written to `*model` when
// the call fails.
skimjit_status skimjit_model_load_file(const char *path,
                                       const skimjit_options *options,
                                       skimjit_model **model);

// Loads a network from what such a file contains. The bytes are not needed after the call, and need
// no alignment.
skimjit_status skimjit_model_load_memory(const uint8_t *data,
                                         size_t bytes,
                                         const skimjit_options *options,
                                         skimjit_model **model);

// Makes the same network for inputs of other shapes; inputs that are not listed keep theirs. Weights,
// threads, and kernels that come out the same are shared with `model`, which stays as it is.
//
// Fully convolutional networks, and those that end in a global pooling, take any size; a layer that
// does not is named by the error. The caller owns `*reshaped`.
skimjit_status skimjit_model_reshape(const skimjit_model *model,
                                     const skimjit_shape *shapes,
                                     size_t count,
                                     skimjit_model **reshaped);

// Frees a model; null is allowed. Its sessions, and models made from it, live on.
void skimjit_model_free(skimjit_model *model);

// Describes a model.
skimjit_status skimjit_model_get_info(const skimjit_model *model, skimjit_model_info *info);

// Describes input `index`, counted from 0 in the order of a run.
skimjit_status skimjit_model_get_input(const skimjit_model *model, size_t index, skimjit_port *port);

// Describes output `index`, counted from 0 in the order of a run.
skimjit_status skimjit_model_get_output(const skimjit_model *model, size_t index, skimjit_port *port);

// What was noticed when the network was read (unknown fields, weights that are not used and the like),
// one line for each index from 0; null beyond the last one. The text belongs to the model.
const char *skimjit_model_get_warning(const skimjit_model *model,
                                      size_t index);

// Says how pictures become inputs, as the data layer of the definition does it or as it was said when the
// artifact was compiled.
skimjit_status skimjit_model_get_preprocess(const skimjit_model *model,
                                            skimjit_preprocess *preprocess);

// Name of a class, UTF-8; null where it is not known. It names the classes of outputs with as many as there
// are names. The text belongs to the model.
const char *skimjit_model_get_label(const skimjit_model *model,
                                    size_t class_);

// Gets the memory for runs of a model. `team` computes them; null: the model's own team. Sessions on
// different teams run at the same time, sessions on one team take turns (on a team of one thread, they
// need not). SKIMJIT_STATUS_PLAN when there is no memory.
//
// The caller owns `*session`, and frees it with `skimjit_session_free`. It keeps what it needs of the
// model and the team, which may be freed before.
skimjit_status skimjit_session_create(const skimjit_model *model,
                                      const skimjit_team *team,
                                      skimjit_session **session);

// Frees a session; null is allowed. No thread may be using it.
void skimjit_session_free(skimjit_session *session);

// Computes all outputs for any number of images, batch by batch. The arrays are listed in the order of
// the model's inputs and outputs. Input i holds n rows of `row_elems` floats (see skimjit_port; n rows
// of batches where it is not per image), output o is filled in the same way. Lengths that fit no n are
// an error.
//
// Arrays are read and written where they are: nothing is copied but what the first layer reads in a
// layout of its own, which is a part of computing it. Outputs may not overlap with other arrays.
// A run allocates nothing (but a list, where there are more than 8 inputs or outputs).
skimjit_status skimjit_session_run(skimjit_session *session,
                                   const skimjit_input *inputs,
                                   size_t input_count,
                                   const skimjit_output *outputs,
                                   size_t output_count);

// Starts timing each step; later runs add to the times. Starting again forgets them. Costs some dozen
// nanoseconds per step and thread.
skimjit_status skimjit_session_start_profile(skimjit_session *session);

// Stops timing, and forgets the times.
skimjit_status skimjit_session_stop_profile(skimjit_session *session);

// Times since the profile was started; an error where none was.
skimjit_status skimjit_session_get_profile(const skimjit_session *session, skimjit_profile *profile);

// Times of step `index`, counted from 0 in the order of a run.
skimjit_status skimjit_session_get_step(const skimjit_session *session,
                                        size_t index,
                                        skimjit_step *step);

// Frees a handle; null is allowed. The code goes with the last handle of the same kernel, and no thread
// may be running it then.
void skimjit_kernel_free(skimjit_kernel *kernel);

// Describes a kernel.
skimjit_status skimjit_kernel_get_info(const skimjit_kernel *kernel, skimjit_kernel_info *info);

// Makes a convolution that leaves zero weights out. `bias` has `bias_count` values, one per output
// channel or none; `options` may be null. Nothing of the arguments is needed after the call.
//
// The caller owns `*kernel`, and frees it with `skimjit_kernel_free`. While any handle of the same kernel
// (problem, weights, options) is alive, another one costs no more than comparing the weights' hash.
skimjit_status skimjit_sparse_conv_create(const skimjit_conv *problem,
                                          const skimjit_csr *weights,
                                          const float *bias,
                                          size_t bias_count,
                                          const skimjit_kernel_options *options,
                                          skimjit_kernel **kernel);

// Makes a convolution with all weights. As `skimjit_sparse_conv_create`.
skimjit_status skimjit_dense_conv_create(const skimjit_conv *problem,
                                         const float *weights,
                                         size_t weight_count,
                                         const float *bias,
                                         size_t bias_count,
                                         const skimjit_kernel_options *options,
                                         skimjit_kernel **kernel);

// Makes an inner product of one row that leaves zero weights out. As `skimjit_sparse_conv_create`.
skimjit_status skimjit_sparse_fc_create(const skimjit_fc *problem,
                                        const skimjit_csr *weights,
                                        const float *bias,
                                        size_t bias_count,
                                        const skimjit_kernel_options *options,
                                        skimjit_kernel **kernel);

// Makes an inner product of one row with all weights, row by row. As `skimjit_sparse_conv_create`.
skimjit_status skimjit_dense_fc_create(const skimjit_fc *problem,
                                       const float *weights,
                                       size_t weight_count,
                                       const float *bias,
                                       size_t bias_count,
                                       const skimjit_kernel_options *options,
                                       skimjit_kernel **kernel);

// Makes a product of a sparse matrix with dense ones. As `skimjit_sparse_conv_create`.
skimjit_status skimjit_spmm_create(const skimjit_matmul *problem,
                                   const skimjit_csr *weights,
                                   const float *bias,
                                   size_t bias_count,
                                   const skimjit_kernel_options *options,
                                   skimjit_kernel **kernel);

// Makes a product of a dense matrix, row by row, with others. As `skimjit_sparse_conv_create`.
skimjit_status skimjit_gemm_create(const skimjit_matmul *problem,
                                   const float *weights,
                                   size_t weight_count,
                                   const float *bias,
                                   size_t bias_count,
                                   const skimjit_kernel_options *options,
                                   skimjit_kernel **kernel);

// The function of task `task`, for callers that make the calls themselves: function(&args) computes what
// `skimjit_kernel_run` does for that task. Null where there is no such task. Valid as long as the kernel.
skimjit_kernel_function skimjit_kernel_get_function(const skimjit_kernel *kernel,
                                                    size_t task);

// Fills in what the function of task `task` is called with for these operands. It may be called any
// number of times, as long as the kernel and the arrays are there.
skimjit_status skimjit_kernel_get_args(const skimjit_kernel *kernel,
                                       size_t task,
                                       const skimjit_operands *operands,
                                       skimjit_kernel_args *args);

// Runs tasks `first` to `first` + `count` - 1 on the calling thread. Different threads may run different
// tasks on the same arrays at the same time, each with scratch memory of its own.
skimjit_status skimjit_kernel_run(const skimjit_kernel *kernel,
                                  const skimjit_operands *operands,
                                  size_t first,
                                  size_t count);

// Copies a source to where the code reads it, and sets to 0 what is no pixel. `src` has a plane of h * w
// floats per channel, `pitch` floats apart (0: h * w, plain C, H, W).
skimjit_status skimjit_kernel_pack_src(const skimjit_kernel *kernel,
                                       const float *src,
                                       size_t src_elems,
                                       size_t pitch,
                                       float *packed,
                                       size_t packed_elems);

// Copies a residual to how the result lies. As `skimjit_kernel_pack_src`.
skimjit_status skimjit_kernel_pack_residual(const skimjit_kernel *kernel,
                                            const float *residual,
                                            size_t residual_elems,
                                            size_t pitch,
                                            float *packed,
                                            size_t packed_elems);

// Copies the pixels of a result to planes that lie `pitch` floats apart (0: h * w, plain C, H, W).
skimjit_status skimjit_kernel_unpack_dst(const skimjit_kernel *kernel,
                                         const float *packed,
                                         size_t packed_elems,
                                         float *dst,
                                         size_t dst_elems,
                                         size_t pitch);

// Computes one image from and to plain C, H, W, the easy way, which allocates and copies. `residual` is
// null where the problem has none.
skimjit_status skimjit_kernel_compute(const skimjit_kernel *kernel,
                                      const float *src,
                                      size_t src_elems,
                                      const float *residual,
                                      size_t residual_elems,
                                      float *dst,
                                      size_t dst_elems);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SKIMJIT_H */
