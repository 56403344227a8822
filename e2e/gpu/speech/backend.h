// A device as the model sees it.
#ifndef BACKEND_H
#define BACKEND_H

#include <stddef.h>

#include "kernels.h"

// Each operation runs after those before it. None returns an error: one that
// fails ends the program with a message on standard error.
struct backend {
	void *(*alloc)(size_t bytes);
	void (*write)(void *to, const void *host, size_t bytes);
	void (*read)(void *host, const void *from, size_t bytes); // waits for all before it
	void (*fill)(struct fill_args);
	void (*gemm)(struct gemm_args);
	void (*gemv)(struct gemv_args);
	void (*norm)(struct norm_args);
	void (*softmax)(struct softmax_args);
	void (*attend)(struct attend_args);
	void (*embed)(struct embed_args);
	void (*pick)(struct pick_args);
	void (*power)(struct power_args);
	void (*logmel)(struct logmel_args);
};

// What is known of a device. The CPU has no uuid.
struct device {
	char name[128], uuid[48];
	size_t total, free; // bytes of memory
};

const struct backend *cpu_open(struct device *);
const struct backend *gpu_open(struct device *);

// fail ends the program with a message and the exit code of a failure.
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
