// The CPU, as well as it can do it: OpenBLAS for the products, threads and the
// processor's vectors for the rest.
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "device.h"

enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 }; // of cblas.h

static void (*sgemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
static void (*sgemv)(int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

static void *cpu_alloc(size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
	if (!p)
		fail("out of memory: %zu MiB", bytes >> 20);
	return p;
}

static void cpu_write(void *to, const void *host, size_t bytes) { memcpy(to, host, bytes); }
static void cpu_read(void *host, const void *from, size_t bytes) { memcpy(host, from, bytes); }

static void cpu_fill(struct fill_args a)
{
#pragma omp parallel for
	for (long long i = 0; i < a.n; i++)
		a.dst[i] = a.offset + a.scale * noise(a.seed, (unsigned)i);
}

// finish does to a row of a product what comes after it.
static void finish(float *c, const float *bias, const float *add, int n, int gelu)
{
	if (bias)
		for (int i = 0; i < n; i++)
			c[i] += bias[i];
	if (gelu)
		for (int i = 0; i < n; i++)
			c[i] = gelu_of(c[i]);
	if (add)
		for (int i = 0; i < n; i++)
			c[i] += add[i];
}

// apart copies rows that overlap, as BLAS takes none.
static const float *apart(struct gemm_args *a)
{
	static float *room;
	static size_t size;
	size_t need = (size_t)a->m * a->k;
	if (a->lda >= a->k)
		return a->a;
	if (need > size) {
		free(room);
		room = cpu_alloc(need * sizeof *room);
		size = need;
	}
#pragma omp parallel for
	for (int r = 0; r < a->m; r++)
		memcpy(room + (size_t)r * a->k, a->a + (size_t)r * a->lda, a->k * sizeof *room);
	a->lda = a->k;
	return room;
}

static void cpu_gemm(struct gemm_args a)
{
	float keep = 0;
	if (a.add == a.c && !a.gelu) { // the product is added to what is there
		keep = 1;
		a.add = NULL;
	}
	a.a = apart(&a);
	for (int z = 0; z < a.batch; z++) {
		float *c = a.c + z * a.step_c;
		sgemm(ROW_MAJOR, PLAIN, a.plain_b ? PLAIN : TRANSPOSED, a.m, a.n, a.k, a.scale,
		      a.a + z * a.step_a, a.lda, a.b + z * a.step_b, a.ldb, keep, c, a.ldc);
		if (!a.bias && !a.gelu && !a.add)
			continue;
#pragma omp parallel for
		for (int r = 0; r < a.m; r++)
			finish(c + (size_t)r * a.ldc, a.bias, a.add ? a.add + z * a.step_c + (size_t)r * a.ldc : NULL, a.n, a.gelu);
	}
}

static void cpu_gemv(struct gemv_args a)
{
	static float y[1 << 17]; // apart from a.y, which may be a.add
	if (a.n > (int)(sizeof y / sizeof *y))
		fail("a product of %d rows is too large", a.n);
	sgemv(ROW_MAJOR, PLAIN, a.n, a.k, 1, a.w, a.k, a.x, 1, 0, y, 1);
	finish(y, a.bias, a.add, a.n, a.gelu);
	memcpy(a.y, y, a.n * sizeof *y);
}

static void cpu_norm(struct norm_args a)
{
#pragma omp parallel for if (a.rows > 16)
	for (int r = 0; r < a.rows; r++) {
		const float *x = a.x + (size_t)r * a.width;
		float *y = a.y + (size_t)r * a.width, mean = 0, s = 0;
		for (int i = 0; i < a.width; i++)
			mean += x[i];
		mean /= a.width;
		for (int i = 0; i < a.width; i++)
			s += (x[i] - mean) * (x[i] - mean);
		float by = rsqrt_of(s / a.width + 1e-5f);
		for (int i = 0; i < a.width; i++)
			y[i] = (x[i] - mean) * by * a.gain[i] + a.bias[i];
	}
}

static void soften(float *x, int n)
{
	float top = -1e30f, s = 0;
	for (int i = 0; i < n; i++)
		top = x[i] > top ? x[i] : top;
	for (int i = 0; i < n; i++) {
		x[i] = exp_of(x[i] - top);
		s += x[i];
	}
	for (int i = 0; i < n; i++)
		x[i] /= s;
}

static void cpu_softmax(struct softmax_args a)
{
#pragma omp parallel for
	for (int r = 0; r < a.rows; r++)
		soften(a.x + (size_t)r * a.width, a.width);
}

static void cpu_attend(struct attend_args a)
{
#pragma omp parallel for
	for (int h = 0; h < a.heads; h++) {
		float score[MOST_POSITIONS], *out = a.out + h * HEAD;
		const float *q = a.q + h * HEAD;
		for (int j = 0; j < a.n; j++) {
			const float *k = a.k + (size_t)j * a.ld + h * HEAD;
			float dot = 0;
			for (int i = 0; i < HEAD; i++)
				dot += q[i] * k[i];
			score[j] = dot * 0.125f;
		}
		soften(score, a.n);
		memset(out, 0, HEAD * sizeof *out);
		for (int j = 0; j < a.n; j++) {
			const float *v = a.v + (size_t)j * a.ld + h * HEAD;
			for (int i = 0; i < HEAD; i++)
				out[i] += score[j] * v[i];
		}
	}
}

static void cpu_embed(struct embed_args a)
{
	for (int i = 0; i < a.width; i++)
		a.out[i] = a.table[(size_t)*a.token * a.width + i] + a.places[(size_t)a.place * a.width + i];
}

static void cpu_pick(struct pick_args a)
{
	int best = 0;
	for (int i = 1; i < a.n; i++)
		if (a.x[i] > a.x[best])
			best = i;
	*a.out = best;
}

static void cpu_power(struct power_args a)
{
#pragma omp parallel for
	for (int r = 0; r < a.rows; r++) {
		const float *re = a.x + (size_t)r * 2 * a.width, *im = re + a.width;
		for (int i = 0; i < a.width; i++)
			a.out[(size_t)r * a.ld + i] = re[i] * re[i] + im[i] * im[i];
	}
}

static void cpu_logmel(struct logmel_args a)
{
#pragma omp parallel for
	for (int i = 0; i < a.n; i++)
		a.x[i] = ((a.x[i] > 1e-8f ? log10_of(a.x[i]) : -8) + 4) * 0.25f;
}

static const struct backend cpu = {
	cpu_alloc, cpu_write, cpu_read, cpu_fill, cpu_gemm, cpu_gemv, cpu_norm,
	cpu_softmax, cpu_attend, cpu_embed, cpu_pick, cpu_power, cpu_logmel,
};

// describe reads the processor's name, and the machine's memory.
static void describe(struct device *d)
{
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "r");
	while (f && fgets(line, sizeof line, f)) {
		if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
			snprintf(d->name, sizeof d->name, "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"), strchr(line, ':') + 2);
			break;
		}
	}
	if (f)
		fclose(f);
	d->total = (size_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	d->free = (size_t)sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

const struct backend *cpu_open(struct device *d)
{
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		fail("this program is built for processors with AVX2");
	void *library = dlopen("libopenblas.so.0", RTLD_NOW), *f, *g;
	if (!library)
		fail("%s", dlerror());
	if (!(f = dlsym(library, "cblas_sgemm")) || !(g = dlsym(library, "cblas_sgemv")))
		fail("libopenblas.so.0 has no CBLAS");
	memcpy(&sgemm, &f, sizeof f);
	memcpy(&sgemv, &g, sizeof g);
	describe(d);
	return &cpu;
}
