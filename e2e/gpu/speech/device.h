// What lets the kernels be compiled twice from one text: by clang to PTX, for a
// GPU, and by any C compiler for this machine's processor, where tests run them
// a thread after the other.
#ifndef DEVICE_H
#define DEVICE_H

typedef float quad __attribute__((vector_size(16)));

#ifdef __NVPTX__

#define KERNEL(name) extern "C" __attribute__((global)) void name(struct name##_args a)
#define SHARED static __attribute__((shared))
#define INLINE static inline __attribute__((device))
#define BARRIER() __syncthreads()
#define UNROLL _Pragma("unroll")
#define THREAD __nvvm_read_ptx_sreg_tid_x()
#define BLOCK_X __nvvm_read_ptx_sreg_ctaid_x()
#define BLOCK_Y __nvvm_read_ptx_sreg_ctaid_y()
#define BLOCK_Z __nvvm_read_ptx_sreg_ctaid_z()

INLINE float exp_of(float x) { return __nvvm_ex2_approx_f(x * 1.44269504f); }
INLINE float log10_of(float x) { return __nvvm_lg2_approx_f(x) * 0.30102999f; }
INLINE float rsqrt_of(float x) { return __nvvm_rsqrt_approx_f(x); }

#else

#include <math.h>

// Where the thread that runs now stands, and the wait for its block's others.
struct place { unsigned thread, x, y, z; };
extern struct place here;
void barrier(void);

// A block's threads are coroutines of one thread, so statics are what they share.
#define KERNEL(name)                                                              \
	static void name##_body(struct name##_args a);                            \
	void host_##name(const void *a) { name##_body(*(const struct name##_args *)a); } \
	static void name##_body(struct name##_args a)
#define SHARED static
#define INLINE static inline
#define BARRIER() barrier()
#define UNROLL
#define THREAD here.thread
#define BLOCK_X here.x
#define BLOCK_Y here.y
#define BLOCK_Z here.z

INLINE float exp_of(float x) { return expf(x); }
INLINE float log10_of(float x) { return log10f(x); }
INLINE float rsqrt_of(float x) { return 1 / sqrtf(x); }

#endif

// gelu is the tanh form of the Gaussian error linear unit.
INLINE float gelu_of(float x)
{
	return x / (1 + exp_of(-1.5957691f * (x + 0.044715f * x * x * x)));
}

// noise is the i-th weight of a stream: even in -1 to 1, the same on every device.
INLINE float noise(unsigned seed, unsigned i)
{
	unsigned h = i * 0x9e3779b1u ^ seed;
	h ^= h >> 16;
	h *= 0x85ebca6bu;
	h ^= h >> 13;
	h *= 0xc2b2ae35u;
	h ^= h >> 16;
	return (float)(int)(h >> 8) * (1.0f / 8388608.0f) - 1.0f;
}

#endif
