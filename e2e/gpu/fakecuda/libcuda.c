// A libcuda.so.1 for tests: the calls of CUDA's driver API that speech makes,
// with this machine's processor in the place of a GPU. It runs the kernels'
// other compilation, a block after the other and a block's threads in turns, so
// that all but the PTX itself is what runs on a GPU.
//
// FAKE_CUDA_UUID names the device (GPU-...), FAKE_CUDA_MEMORY is its size in MiB.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../speech/device.h"
#include "../speech/kernels.h"

typedef int result;
typedef unsigned long long address;

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_PTX = 218, NOT_FOUND = 500 };

struct place here;

static int started, have_context;
static size_t most = (size_t)1024 << 20, used;

result cuInit(unsigned flags)
{
	const char *mib = getenv("FAKE_CUDA_MEMORY");
	if (mib)
		most = strtoull(mib, NULL, 10) << 20;
	started = 1;
	return flags ? INVALID_VALUE : SUCCESS;
}

static const struct { result code; const char *name, *words; } texts[] = {
	{SUCCESS, "CUDA_SUCCESS", "no error"},
	{INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
	{OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
	{NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
	{INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
	{INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
	{INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
	{NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
};

static result text(result code, const char **to, int words)
{
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		if (texts[i].code == code) {
			*to = words ? texts[i].words : texts[i].name;
			return SUCCESS;
		}
	}
	return INVALID_VALUE;
}

result cuGetErrorName(result code, const char **to) { return text(code, to, 0); }
result cuGetErrorString(result code, const char **to) { return text(code, to, 1); }

result cuDeviceGet(int *device, int ordinal)
{
	if (!started)
		return NOT_INITIALIZED;
	if (ordinal)
		return INVALID_DEVICE;
	*device = 0;
	return SUCCESS;
}

result cuDeviceGetName(char *to, int room, int device)
{
	snprintf(to, room, "Fake GPU");
	return device ? INVALID_DEVICE : SUCCESS;
}

// The UUID's digits, two to a byte.
result cuDeviceGetUuid(unsigned char to[16], int device)
{
	const char *text = getenv("FAKE_CUDA_UUID");
	memset(to, 0, 16);
	for (int n = 0; text && *text && n < 32; text++) {
		const char *digits = "0123456789abcdef", *at = strchr(digits, *text);
		if (at)
			to[n / 2] = to[n / 2] << 4 | (at - digits), n++;
	}
	return device ? INVALID_DEVICE : SUCCESS;
}

result cuDevicePrimaryCtxRetain(void **context, int device)
{
	if (!started)
		return NOT_INITIALIZED;
	*context = &have_context;
	return device ? INVALID_DEVICE : SUCCESS;
}

result cuCtxSetCurrent(void *context)
{
	have_context = context == &have_context;
	return have_context ? SUCCESS : INVALID_CONTEXT;
}

result cuMemGetInfo_v2(size_t *free, size_t *total)
{
	if (!have_context)
		return INVALID_CONTEXT;
	*free = most - used, *total = most;
	return SUCCESS;
}

result cuMemAlloc_v2(address *to, size_t bytes)
{
	if (!have_context)
		return INVALID_CONTEXT;
	if (!bytes)
		return INVALID_VALUE;
	if (bytes > most - used)
		return OUT_OF_MEMORY;
	void *p = aligned_alloc(256, (bytes + 255) / 256 * 256);
	if (!p)
		return OUT_OF_MEMORY;
	used += bytes;
	*to = (address)p;
	return SUCCESS;
}

result cuMemcpyHtoD_v2(address to, const void *from, size_t bytes)
{
	memcpy((void *)to, from, bytes);
	return have_context ? SUCCESS : INVALID_CONTEXT;
}

result cuMemcpyDtoH_v2(void *to, address from, size_t bytes)
{
	memcpy(to, (const void *)from, bytes);
	return have_context ? SUCCESS : INVALID_CONTEXT;
}

// A module is its text; a function is there only when the text has its entry.
result cuModuleLoadData(void **module, const void *image)
{
	if (!strstr(image, ".target sm_"))
		return INVALID_PTX;
	*module = (void *)image;
	return SUCCESS;
}

typedef void kernel(const void *);

#define KERNELS(X) X(fill) X(gemm) X(gemv) X(norm) X(softmax) X(attend) X(embed) X(pick) X(power) X(logmel)
#define DECLARE(name) kernel host_##name;
#define ENTRY(name) {#name, host_##name},
KERNELS(DECLARE)

static const struct { const char *name; kernel *run; } kernels[] = {KERNELS(ENTRY)};

result cuModuleGetFunction(void **to, void *module, const char *name)
{
	char entry[64];
	snprintf(entry, sizeof entry, ".entry %s(", name);
	for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
		if (!strcmp(kernels[i].name, name) && strstr(module, entry)) {
			*to = (void *)kernels[i].run;
			return SUCCESS;
		}
	}
	return NOT_FOUND;
}

// A block's threads are coroutines; each runs until it waits or ends. Turning to
// another keeps what the x86-64 ABI wants kept: swapcontext would make two system
// calls each time, which is most of what a kernel does here.
enum { MOST_THREADS = 1024, STACK = 16 << 10 };

void turn_to(void **from, void *to) __attribute__((visibility("hidden")));

__asm__(".text\n"
	".globl turn_to\n"
	".hidden turn_to\n"
	"turn_to:\n"
	"push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
	"mov %rsp, (%rdi)\n"
	"mov %rsi, %rsp\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
	"ret\n");

static void *turn[MOST_THREADS], *back; // stacks of those that do not run
static int ended[MOST_THREADS];
static kernel *running;
static const void *arguments;

void barrier(void) { turn_to(&turn[here.thread], back); }

static void begin(void)
{
	running(arguments);
	ended[here.thread] = 1;
	turn_to(&turn[here.thread], back); // for the last time
}

static void block(int threads, char *stacks)
{
	int left = threads;
	for (int t = 0; t < threads; t++) {
		void **top = (void **)(stacks + (size_t)(t + 1) * STACK);
		ended[t] = 0;
		top[-2] = (void *)begin; // where the first turn returns to; six registers lie below
		turn[t] = top - 8;
	}
	while (left > 0) {
		for (int t = 0; t < threads; t++) {
			if (ended[t])
				continue;
			here.thread = t;
			turn_to(&back, turn[t]);
			left -= ended[t];
		}
	}
}

result cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
		      unsigned shared, void *stream, void **args, void **extra)
{
	static char *stacks;
	if (!have_context)
		return INVALID_CONTEXT;
	if (!x || !y || !z || !bx || bx > MOST_THREADS || by != 1 || bz != 1 || shared || stream || extra)
		return INVALID_VALUE;
	if (!stacks && !(stacks = aligned_alloc(64, (size_t)MOST_THREADS * STACK)))
		return OUT_OF_MEMORY;
	running = (kernel *)function, arguments = args[0];
	for (here.z = 0; here.z < z; here.z++)
		for (here.y = 0; here.y < y; here.y++)
			for (here.x = 0; here.x < x; here.x++)
				block((int)bx, stacks);
	return SUCCESS;
}
