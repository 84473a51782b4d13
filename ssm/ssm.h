/* SPDX-License-Identifier: Apache-2.0
 *
 * libssm: state-space models advanced in constant time per sample.
 *
 * A linear state-space model is three things at once: discretised it is a recurrence (constant cost per sample),
 * unrolled it is a convolution, and because its update is associative it is a prefix scan over chunks. libssm holds one
 * immutable model and any number of states, and advances many states together whatever each of them brings:
 *
 *     struct ssm_model    what was loaded: layers, weights, discretised coefficients. Immutable; share it.
 *     struct ssm_engine   where it runs: a backend ("cpu", one instruction set and its worker threads; or a device).
 *     struct ssm_program  a model compiled for an engine, with its pool of states ("slots").
 *     struct ssm_slot     one stream's state, named by index and generation; a stale name is refused.
 *     struct ssm_row      what one stream brings to one advance: T >= 1 frames in, its results out.
 *
 * One advance is a ragged batch of rows: T = 1 everywhere is the step, a long T is the scan, both mix. The output of a
 * stream is the same bits whoever shares its batch, however its input was cut (in the step view) and however many
 * threads the engine has. The convolution is the third view, for recordings that are at hand as a whole; a program is
 * prepared for it. A stream may change its view at every row.
 *
 * Words: a frame is one sample of every channel; hop and lookahead are counted in input frames (docs/MODELS.md).
 *
 * Threads: a model is safe everywhere. An engine, and everything of its programs, belongs to one thread at a time, with
 * two exceptions: while ssm_advance runs, a second thread may acquire, reset and release other slots, and advance them
 * with ssm_advance_beside; and images of slots that nobody touches may be taken and put back on any thread.
 * Errors: functions return 0 or a negative status (ssm_status_text). The library never logs, exits or aborts on bad
 * input, and never reads the environment but once, in ssm_engine_new (SSMD_ISA).
 * Memory: every _free and _release accepts what its _new or _acquire gave, and NULL.
 *
 * Complete programs are in ssm/examples.
 */
#ifndef SSM_SSM_H
#define SSM_SSM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SSM_VERSION "0.1.0"

#if defined(__GNUC__)
#define SSM_API        __attribute__((visibility("default")))
#define SSM_MUST_CHECK __attribute__((warn_unused_result))
#else
#define SSM_API
#define SSM_MUST_CHECK
#endif

/* name, value, sentence */
#define SSM_STATUSES(X)                                                                                                \
    X(OK, 0, "no error")                                                                                               \
    X(NOMEM, -1, "out of memory")                                                                                      \
    X(INVAL, -2, "an argument is out of its range")                                                                    \
    X(NOENT, -3, "no such model, file or layer")                                                                       \
    X(IO, -4, "reading or writing failed")                                                                             \
    X(FORMAT, -5, "the file is not what its format says")                                                              \
    X(CONFIG, -6, "the model's configuration is wrong")                                                                \
    X(TENSOR, -7, "a tensor is missing, surplus or of the wrong shape")                                                \
    X(UNSTABLE, -8, "a pole lies outside the unit circle")                                                             \
    X(NONFINITE, -9, "a value is not finite")                                                                          \
    X(UNSUPPORTED, -10, "this build does not do that")                                                                 \
    X(LIMIT, -11, "a limit was reached")                                                                               \
    X(STALE, -12, "the slot was released or given to another stream")                                                  \
    X(FOREIGN, -13, "the image is of another model")                                                                   \
    X(DEVICE, -14, "the device failed")

enum ssm_status {
#define X(name, value, text) SSM_##name = (value),
    SSM_STATUSES(X)
#undef X
};

/* The sentence for a status; never NULL. */
SSM_API const char *ssm_status_text(int status);

/* Where a function that can fail for many reasons says which: file, layer, tensor, what was found, what to do. */
struct ssm_error {
    char text[512];
};

/* ---- models ------------------------------------------------------------------------------------------------------ */

/* A hash of all that makes the model what it is: its configuration (of a template, with every parameter filled in), and
 * every tensor's name, type, shape and bytes. Equal fingerprints: the same function, at the same rate. */
#define SSM_FINGERPRINT_BYTES 16

enum ssm_input_kind { SSM_SIGNAL, SSM_TOKENS };

struct ssm_model_info {
    char name[128];
    enum ssm_input_kind input;
    uint32_t in_channels; /* 1 for tokens */
    uint32_t out_channels;
    uint32_t vocab; /* 0 for signals */
    double in_rate; /* Hz; 0 when the configuration names none (tokens) */
    double out_rate;
    double config_rate; /* that the configuration names: in_rate, unless the model was discretised anew for another */
    uint32_t modes_zeroed; /* then: modes above half that rate, which contribute nothing */
    char fixed_by[96];     /* "layer 2 (conv1d 'x')": the first layer that ties it to config_rate; "" when none does */
    uint32_t ratio_num, ratio_den; /* output frames per input frame */
    uint32_t hop;                  /* input frames after which the graph is back in phase */
    uint32_t lookahead;            /* input frames that an output may have to wait for */
    uint32_t grid;                 /* input frames: scans that begin and end on multiples of it (but for the last) give
                                      the same bits at any chunking */
    size_t state_bytes;            /* of one stream */
    size_t weight_bytes;
    uint32_t layers; /* of all depths */
    unsigned char fingerprint[SSM_FINGERPRINT_BYTES];
    unsigned char source[SSM_FINGERPRINT_BYTES]; /* the fingerprint at the configuration's own rate: of what was read */
};

/* What the caller knows about the stream that the model will be used for. 0 is "not known". A template takes what its
 * spec leaves open from here. A model directory that was made for another rate is discretised anew for this one, its
 * meaning in seconds kept, when all its layers are systems in continuous time or look at one frame at a time
 * (docs/MODELS.md, Another rate). What contradicts otherwise is refused, and err says what to do. */
struct ssm_model_hint {
    double rate; /* Hz */
    uint32_t channels;
};

struct ssm_model;

/* Load a model directory (docs/MODELS.md) or a built-in template such as "forecast:rate=360,order=32".
 * A spec whose part before ':' is a template's name is that template; everything else is a path.
 * Reads files, discretises in float64, checks every tensor and pole: do not call it from an I/O thread.
 * hint may be NULL. On failure *out is NULL and err (may be NULL) names file, layer and tensor. */
SSM_API SSM_MUST_CHECK int ssm_model_load(struct ssm_model **out, const char *spec, const struct ssm_model_hint *hint,
                                          struct ssm_error *err);

/* Models are counted references: programs hold their own. ssm_model_free drops the caller's. */
SSM_API struct ssm_model *ssm_model_ref(struct ssm_model *model);
SSM_API void ssm_model_free(struct ssm_model *model);

SSM_API const struct ssm_model_info *ssm_model_info(const struct ssm_model *model);

/* Names of the built-in templates, NULL at the end, and whether `spec` names one ("forecast" and "forecast:..." do). */
SSM_API const char *const *ssm_template_names(void);
SSM_API int ssm_is_template(const char *spec);

/* ---- engines ----------------------------------------------------------------------------------------------------- */

struct ssm_engine;
struct ssm_program;

struct ssm_engine_options {
    const char *backend; /* NULL or "cpu"; "cuda"; "auto": cuda if such a device is there, else cpu */
    const char *isa;     /* NULL: $SSMD_ISA, or the best this processor has; "ref", "avx2", "avx512" */
    uint32_t
        threads; /* 0 or 1: the caller's thread only; n: the caller and n-1 workers share each advance by streams */
    /* Of a device: */
    const char *library; /* its plugin; NULL: $SSMD_CUDA_LIBRARY, or libssm-cuda.so where the loader looks */
    uint32_t device;     /* its number */
    uint32_t resident;   /* states of a program that are on it at a time, at most; 0: as many as there is room for.
                            Others lie in host memory until their next row */
    uint32_t tile;       /* frames that it takes at once, about; 0: what suits it */
};

SSM_API SSM_MUST_CHECK int ssm_engine_new(struct ssm_engine **out, const struct ssm_engine_options *options,
                                          struct ssm_error *err);
SSM_API void ssm_engine_free(struct ssm_engine *engine);                 /* after its programs */
SSM_API const char *ssm_engine_backend(const struct ssm_engine *engine); /* "cpu", "cuda" */
SSM_API const char *ssm_engine_isa(const struct ssm_engine *engine);     /* "none" on a device */
/* One line: the instruction set; or the device, its architecture and driver, and why it failed if it has. */
SSM_API const char *ssm_engine_describe(const struct ssm_engine *engine);
/* How many devices that backend ("cuda") has here. SSM_UNSUPPORTED, and why, without plugin, driver or device. */
SSM_API SSM_MUST_CHECK int ssm_engine_devices(const char *backend, const char *library, uint32_t *count,
                                              struct ssm_error *err);

/* Compile a model for the engine: takes a reference to the model, allocates the workspace, and a pool that grows by
 * slabs up to max_slots (states never move). */
SSM_API SSM_MUST_CHECK int ssm_program_new(struct ssm_program **out, struct ssm_engine *engine, struct ssm_model *model,
                                           uint32_t max_slots, struct ssm_error *err);
SSM_API void ssm_program_free(struct ssm_program *program);
SSM_API const struct ssm_model *ssm_program_model(const struct ssm_program *program);
/* struct ssm_model_info's grid, for this program: a device's may be coarser. */
SSM_API uint32_t ssm_program_grid(const struct ssm_program *program);

/* ---- slots ------------------------------------------------------------------------------------------------------- */

struct ssm_slot {
    int32_t index; /* -1: none; a row with it is padding */
    uint32_t generation;
};

/* A fresh state (index 0). May allocate a slab. SSM_LIMIT when max_slots are taken. */
SSM_API SSM_MUST_CHECK int ssm_slot_acquire(struct ssm_program *program, struct ssm_slot *out);
/* Back to a fresh state; the name stays good. */
SSM_API SSM_MUST_CHECK int ssm_slot_reset(struct ssm_program *program, struct ssm_slot slot);
/* Gives the state back; its name is stale from then on. Releasing {-1} does nothing. */
SSM_API void ssm_slot_release(struct ssm_program *program, struct ssm_slot slot);
/* Input frames the state has consumed since it was fresh. */
SSM_API SSM_MUST_CHECK int ssm_slot_frames(const struct ssm_program *program, struct ssm_slot slot, uint64_t *out);

/* ---- images ------------------------------------------------------------------------------------------------------ *
 *
 * An image is one state as bytes: what a stream has become, to be kept, sent elsewhere and gone on from. It is canonical
 * (the same bytes for every instruction set that computed the same numbers), little-endian, versioned, checksummed, and
 * good for every program of a model with the same fingerprint, in any process. What follows an import is, on one
 * instruction set, the same bits as if the stream had never been away. docs/MODELS.md has the bytes.
 *
 * Threads: any, also beside ssm_advance and others of these, as long as nobody advances, resets, imports into or releases
 * the slots that a call is about. So a large state need not be copied on a thread that samples wait for. */

/* The bytes of an image of any state of the model. */
SSM_API size_t ssm_image_bytes(const struct ssm_model *model);
/* The state into `image` (ssm_image_bytes). SSM_STALE, SSM_NONFINITE: a number of the state has overflowed, and nothing
 * could go on from it; of a state on a device also SSM_NOMEM and SSM_DEVICE. `image` is then of no use. */
SSM_API SSM_MUST_CHECK int ssm_slot_export(const struct ssm_program *program, struct ssm_slot slot, void *image);
/* The state becomes what `image` holds. On failure it stays what it is, and err (may be NULL) says why: SSM_FORMAT (not
 * an image, damaged, another length), SSM_UNSUPPORTED (a later version), SSM_FOREIGN (another model), SSM_NONFINITE,
 * SSM_STALE; on a device also SSM_NOMEM and SSM_DEVICE. */
SSM_API SSM_MUST_CHECK int ssm_slot_import(struct ssm_program *program, struct ssm_slot slot, const void *image,
                                           size_t size, struct ssm_error *err);
/* What ssm_slot_import would say of the image, without a slot. */
SSM_API SSM_MUST_CHECK int ssm_image_check(const struct ssm_model *model, const void *image, size_t size,
                                           struct ssm_error *err);
/* Whether the image says that it is of this model, by its fingerprint alone: to choose among several. */
SSM_API int ssm_image_is_of(const struct ssm_model *model, const void *image, size_t size);
/* The state of `to` becomes that of `from`. SSM_STALE; on a device also SSM_NOMEM and SSM_DEVICE. */
SSM_API SSM_MUST_CHECK int ssm_slot_copy(struct ssm_program *program, struct ssm_slot from, struct ssm_slot to);

/* ---- advance ----------------------------------------------------------------------------------------------------- */

enum ssm_view {
    SSM_STEP, /* the recurrence, frame by frame: the same bits at any chunking */
    SSM_SCAN, /* the chunk form: whole blocks of the grid of absolute frame indices at once, state in and out;
                 equal to the step within the stated bound (docs/MODELS.md) */
    SSM_CONV  /* the convolution: SSM_CONV_FRAMES at once through the layers that have a kernel, from the grid on; what
                 is short of that, and all other layers, as the scan does. Within the same bound of the step; how the
                 input is cut shows in the last bits */
};

/* The grid of absolute frame indices: a scan takes whole blocks of it at once and steps the rest. A stream whose scans
 * all begin and end on it (but for the last) gives the same bits at any chunking too. */
#define SSM_SCAN_BLOCK 16

/* The frames that are convolved at once, a power of two. */
#define SSM_CONV_FRAMES 256

/* Make a program ready for rows of that view; only SSM_CONV needs it, and a second time does nothing. Computes and
 * transforms the kernels of the model's layers and allocates what they need, which step and scan do without
 * (docs/MODELS.md has the bytes). Not while ssm_advance runs. On failure the program is as it was. */
SSM_API SSM_MUST_CHECK int ssm_program_prepare(struct ssm_program *program, enum ssm_view view, struct ssm_error *err);

struct ssm_row {
    struct ssm_slot slot;
    enum ssm_view view;
    uint32_t frames;     /* T >= 1 */
    const void *in;      /* float32 (T, in_channels), or int32 tokens (T); finite, and in [0, vocab): the caller checks
                            (ssm_input_check) */
    float *out;          /* (ssm_out_frames_max(T), out_channels); must not overlap `in` */
    uint32_t out_frames; /* set by ssm_advance */
    int status;          /* set by ssm_advance: SSM_OK, SSM_STALE or SSM_INVAL (also SSM_CONV unprepared); a refused row
                            changes no state. SSM_DEVICE: the device failed, and every state on it is lost */
};

/* Advance every row's stream by its frames. A slot may appear once per call. Rows fail one by one (row.status);
 * the return value is the first failure, or 0. Allocates nothing. */
SSM_API SSM_MUST_CHECK int ssm_advance(struct ssm_program *program, struct ssm_row *rows, size_t n);

/* The same on the calling thread alone, which may be a second one, beside an ssm_advance of other slots: for a little
 * work that shall not wait for much. A slot in both at once is the caller's error. SSM_UNSUPPORTED on a device. */
SSM_API SSM_MUST_CHECK int ssm_advance_beside(struct ssm_program *program, struct ssm_row *rows, size_t n);

/* The most output frames that `frames` input frames can complete in one advance. */
SSM_API uint64_t ssm_out_frames_max(const struct ssm_model *model, uint64_t frames);

/* The output frames of a whole stream of `frames` input frames: ceil(frames * ratio). Up to `lookahead` zeros after
 * the input bring them all; what leaves beyond them is not the stream's. */
SSM_API uint64_t ssm_out_frames(const struct ssm_model *model, uint64_t frames);

/* SSM_OK, or SSM_NONFINITE (signals) or SSM_INVAL (a token outside the vocabulary) with the offending frame in
 * *where. */
SSM_API SSM_MUST_CHECK int ssm_input_check(const struct ssm_model *model, const void *in, uint64_t frames,
                                           uint64_t *where);

#ifdef __cplusplus
}
#endif
#endif
