// The GPU, by CUDA's driver API. The library comes with the driver and is there
// only in a container that was given a GPU, so it is loaded at run time.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "backend.h"

typedef int result; // CUresult; 0 is success
typedef unsigned long long address; // CUdeviceptr

static struct {
	result (*init)(unsigned);
	result (*name_of)(result, const char **);
	result (*words_of)(result, const char **);
	result (*device)(int *, int);
	result (*device_name)(char *, int, int);
	result (*device_uuid)(unsigned char[16], int);
	result (*retain)(void **, int);
	result (*set_current)(void *);
	result (*memory)(size_t *, size_t *);
	result (*load)(void **, const void *);
	result (*function)(void **, void *, const char *);
	result (*alloc)(address *, size_t);
	result (*to_device)(address, const void *, size_t);
	result (*to_host)(void *, address, size_t);
	result (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
} cuda;

// The PTX of kernels.c, put in by the linker, with a NUL after it.
extern const char kernels_ptx[];

static struct { void *fill, *gemm, *gemv, *norm, *softmax, *attend, *embed, *pick, *power, *logmel; } kernels;

// must ends the program when a call failed, in the words that CUDA has for it.
static void must(result r, const char *what)
{
	const char *name = NULL, *words = NULL;
	if (r == 0)
		return;
	if (cuda.name_of(r, &name) || !name)
		name = "unknown CUDA error";
	if (cuda.words_of(r, &words) || !words)
		words = "";
	fail("%s: %s: %s (%d)", what, name, words, r);
}

static void symbol(void *library, void *into, const char *name)
{
	void *f = dlsym(library, name);
	if (!f)
		fail("libcuda.so.1 has no %s: driver version is insufficient", name);
	memcpy(into, &f, sizeof f);
}

static void *gpu_alloc(size_t bytes)
{
	address at = 0;
	char what[64];
	snprintf(what, sizeof what, "cuMemAlloc of %zu MiB", bytes >> 20);
	must(cuda.alloc(&at, bytes), what);
	return (void *)at;
}

static void gpu_write(void *to, const void *host, size_t bytes)
{
	must(cuda.to_device((address)to, host, bytes), "cuMemcpyHtoD");
}

static void gpu_read(void *host, const void *from, size_t bytes)
{
	must(cuda.to_host(host, (address)from, bytes), "cuMemcpyDtoH");
}

static unsigned parts(long long n, int size) { return (unsigned)((n + size - 1) / size); }

// A kernel, with so many blocks in each direction, of so many threads.
#define LAUNCH(name, x, y, z, threads)                                                    \
	static void gpu_##name(struct name##_args a)                                      \
	{                                                                                 \
		void *args[] = {&a};                                                      \
		must(cuda.launch(kernels.name, x, y, z, threads, 1, 1, 0, NULL, args, NULL), "cuLaunchKernel " #name); \
	}

LAUNCH(fill, parts(a.n, WIDE), 1, 1, WIDE)
LAUNCH(gemm, parts(a.n, TILE), parts(a.m, TILE), (unsigned)a.batch, TILE * TILE / 16)
LAUNCH(gemv, parts(a.n, ROWS), 1, 1, ROWS *LANES)
LAUNCH(norm, (unsigned)a.rows, 1, 1, WIDE)
LAUNCH(softmax, (unsigned)a.rows, 1, 1, WIDE)
LAUNCH(attend, (unsigned)a.heads, 1, 1, ATTEND)
LAUNCH(embed, parts(a.width, WIDE), 1, 1, WIDE)
LAUNCH(pick, 1, 1, 1, PICK)
LAUNCH(power, parts((long long)a.rows *a.width, WIDE), 1, 1, WIDE)
LAUNCH(logmel, parts(a.n, WIDE), 1, 1, WIDE)

static const struct backend gpu = {
	gpu_alloc, gpu_write, gpu_read, gpu_fill, gpu_gemm, gpu_gemv, gpu_norm,
	gpu_softmax, gpu_attend, gpu_embed, gpu_pick, gpu_power, gpu_logmel,
};

static void describe(int device, struct device *d)
{
	unsigned char id[16];
	must(cuda.device_name(d->name, sizeof d->name, device), "cuDeviceGetName");
	must(cuda.device_uuid(id, device), "cuDeviceGetUuid");
	int at = snprintf(d->uuid, sizeof d->uuid, "GPU-");
	for (int i = 0; i < 16; i++)
		at += snprintf(d->uuid + at, sizeof d->uuid - at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
	must(cuda.memory(&d->free, &d->total), "cuMemGetInfo");
}

const struct backend *gpu_open(struct device *d)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW), *context, *module;
	int device;
	if (!library)
		fail("%s", dlerror());
	symbol(library, &cuda.init, "cuInit");
	symbol(library, &cuda.name_of, "cuGetErrorName");
	symbol(library, &cuda.words_of, "cuGetErrorString");
	symbol(library, &cuda.device, "cuDeviceGet");
	symbol(library, &cuda.device_name, "cuDeviceGetName");
	symbol(library, &cuda.device_uuid, dlsym(library, "cuDeviceGetUuid_v2") ? "cuDeviceGetUuid_v2" : "cuDeviceGetUuid");
	symbol(library, &cuda.retain, "cuDevicePrimaryCtxRetain");
	symbol(library, &cuda.set_current, "cuCtxSetCurrent");
	symbol(library, &cuda.memory, "cuMemGetInfo_v2");
	symbol(library, &cuda.load, "cuModuleLoadData");
	symbol(library, &cuda.function, "cuModuleGetFunction");
	symbol(library, &cuda.alloc, "cuMemAlloc_v2");
	symbol(library, &cuda.to_device, "cuMemcpyHtoD_v2");
	symbol(library, &cuda.to_host, "cuMemcpyDtoH_v2");
	symbol(library, &cuda.launch, "cuLaunchKernel");
	must(cuda.init(0), "cuInit");
	must(cuda.device(&device, 0), "cuDeviceGet");
	must(cuda.retain(&context, device), "cuDevicePrimaryCtxRetain");
	must(cuda.set_current(context), "cuCtxSetCurrent");
	describe(device, d);
	must(cuda.load(&module, kernels_ptx), "cuModuleLoadData");
#define FIND(name) must(cuda.function(&kernels.name, module, #name), "cuModuleGetFunction " #name)
	FIND(fill), FIND(gemm), FIND(gemv), FIND(norm), FIND(softmax), FIND(attend), FIND(embed), FIND(pick), FIND(power), FIND(logmel);
	return &gpu;
}
