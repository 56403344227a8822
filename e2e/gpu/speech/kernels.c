// The kernels. `make ptx` compiles them to kernels.ptx, which is what a GPU runs.
#include "kernels.h"
#include "device.h"

KERNEL(fill)
{
	long long i = (long long)BLOCK_X * WIDE + THREAD;
	if (i < a.n)
		a.dst[i] = a.offset + a.scale * noise(a.seed, (unsigned)i);
}

// A block makes a tile of TILE by TILE, a thread 4 by 4 of it; both factors pass
// through shared memory in slices of STEP.
KERNEL(gemm)
{
	SHARED float as[STEP][TILE + 4] __attribute__((aligned(16)));
	SHARED float bs[STEP][TILE + 4] __attribute__((aligned(16)));
	const quad zero = {0, 0, 0, 0};
	int t = THREAD, row0 = BLOCK_Y * TILE, col0 = BLOCK_X * TILE;
	int slow = t / 4, quick = t % 4 * 4; // what it loads: a row of the factor, and where in the slice
	int up = t / 16 * 4, left = t % 16 * 4; // what it computes
	const float *pa = a.a + BLOCK_Z * a.step_a;
	const float *pb = a.b + BLOCK_Z * a.step_b;
	quad sum[4] = {zero, zero, zero, zero};

	for (int k = 0; k < a.k; k += STEP) {
		quad v = zero;
		if (row0 + slow < a.m && k + quick < a.k)
			v = *(const quad *)(pa + (long long)(row0 + slow) * a.lda + k + quick);
		for (int i = 0; i < 4; i++)
			as[quick + i][slow] = v[i];
		v = zero;
		if (a.plain_b) {
			if (k + t / 16 < a.k && col0 + left < a.n)
				v = *(const quad *)(pb + (long long)(k + t / 16) * a.ldb + col0 + left);
			*(quad *)&bs[t / 16][left] = v;
		} else {
			if (col0 + slow < a.n && k + quick < a.k)
				v = *(const quad *)(pb + (long long)(col0 + slow) * a.ldb + k + quick);
			for (int i = 0; i < 4; i++)
				bs[quick + i][slow] = v[i];
		}
		BARRIER();
		UNROLL
		for (int i = 0; i < STEP; i++) {
			quad x = *(const quad *)&as[i][up], y = *(const quad *)&bs[i][left];
			for (int r = 0; r < 4; r++)
				sum[r] += x[r] * y;
		}
		BARRIER();
	}
	for (int r = 0; r < 4; r++) {
		for (int c = 0; c < 4; c++) {
			int row = row0 + up + r, col = col0 + left + c;
			if (row >= a.m || col >= a.n)
				continue;
			long long at = BLOCK_Z * a.step_c + (long long)row * a.ldc + col;
			float y = sum[r][c] * a.scale;
			if (a.bias)
				y += a.bias[col];
			if (a.gelu)
				y = gelu_of(y);
			if (a.add)
				y += a.add[at];
			a.c[at] = y;
		}
	}
}

// A block makes ROWS results, each by LANES threads.
KERNEL(gemv)
{
	SHARED float part[ROWS][LANES];
	int lane = THREAD % LANES, r = THREAD / LANES, row = BLOCK_X * ROWS + r;
	float sum = 0;
	if (row < a.n) {
		const quad *w = (const quad *)(a.w + (long long)row * a.k), *x = (const quad *)a.x;
		quad s = {0, 0, 0, 0};
		for (int i = lane; i < a.k / 4; i += LANES)
			s += w[i] * x[i];
		sum = s[0] + s[1] + s[2] + s[3];
	}
	part[r][lane] = sum;
	for (int half = LANES / 2; half > 0; half /= 2) {
		BARRIER();
		if (lane < half)
			part[r][lane] += part[r][lane + half];
	}
	if (lane || row >= a.n)
		return;
	float y = part[r][0];
	if (a.bias)
		y += a.bias[row];
	if (a.gelu)
		y = gelu_of(y);
	if (a.add)
		y += a.add[row];
	a.y[row] = y;
}

// total adds up one number of each thread of a block, and greatest takes the
// largest. Both need the whole block, and scratch for a number of each thread.
INLINE float total(float *scratch, int threads, float x)
{
	BARRIER();
	scratch[THREAD] = x;
	for (int half = threads / 2; half > 0; half /= 2) {
		BARRIER();
		if ((int)THREAD < half)
			scratch[THREAD] += scratch[THREAD + half];
	}
	BARRIER();
	return scratch[0];
}

INLINE float greatest(float *scratch, int threads, float x)
{
	BARRIER();
	scratch[THREAD] = x;
	for (int half = threads / 2; half > 0; half /= 2) {
		BARRIER();
		if ((int)THREAD < half && scratch[THREAD] < scratch[THREAD + half])
			scratch[THREAD] = scratch[THREAD + half];
	}
	BARRIER();
	return scratch[0];
}

KERNEL(norm)
{
	SHARED float scratch[WIDE];
	const float *x = a.x + (long long)BLOCK_X * a.width;
	float *y = a.y + (long long)BLOCK_X * a.width;
	float s = 0;
	for (int i = THREAD; i < a.width; i += WIDE)
		s += x[i];
	float mean = total(scratch, WIDE, s) / a.width;
	s = 0;
	for (int i = THREAD; i < a.width; i += WIDE)
		s += (x[i] - mean) * (x[i] - mean);
	float by = rsqrt_of(total(scratch, WIDE, s) / a.width + 1e-5f);
	for (int i = THREAD; i < a.width; i += WIDE)
		y[i] = (x[i] - mean) * by * a.gain[i] + a.bias[i];
}

KERNEL(softmax)
{
	SHARED float scratch[WIDE];
	float *x = a.x + (long long)BLOCK_X * a.width;
	float top = -1e30f, s = 0;
	for (int i = THREAD; i < a.width; i += WIDE)
		top = x[i] > top ? x[i] : top;
	top = greatest(scratch, WIDE, top);
	for (int i = THREAD; i < a.width; i += WIDE) {
		x[i] = exp_of(x[i] - top);
		s += x[i];
	}
	float by = 1 / total(scratch, WIDE, s);
	for (int i = THREAD; i < a.width; i += WIDE)
		x[i] *= by;
}

// A block is a head.
KERNEL(attend)
{
	SHARED float scratch[ATTEND];
	SHARED float score[MOST_POSITIONS];
	int t = THREAD;
	const float *q = a.q + BLOCK_X * HEAD, *k = a.k + BLOCK_X * HEAD, *v = a.v + BLOCK_X * HEAD;
	float top = -1e30f, s = 0;
	for (int j = t; j < a.n; j += ATTEND) {
		const quad *kj = (const quad *)(k + (long long)j * a.ld), *qq = (const quad *)q;
		quad dot = {0, 0, 0, 0};
		for (int i = 0; i < HEAD / 4; i++)
			dot += qq[i] * kj[i];
		score[j] = (dot[0] + dot[1] + dot[2] + dot[3]) * 0.125f; // 1 / sqrt(HEAD)
		top = score[j] > top ? score[j] : top;
	}
	top = greatest(scratch, ATTEND, top);
	for (int j = t; j < a.n; j += ATTEND) {
		score[j] = exp_of(score[j] - top);
		s += score[j];
	}
	float by = 1 / total(scratch, ATTEND, s);
	float part = 0;
	for (int j = t / HEAD; j < a.n; j += ATTEND / HEAD)
		part += score[j] * v[(long long)j * a.ld + t % HEAD];
	BARRIER();
	scratch[t] = part;
	BARRIER();
	if (t >= HEAD)
		return;
	float y = 0;
	for (int i = 0; i < ATTEND / HEAD; i++)
		y += scratch[i * HEAD + t];
	a.out[BLOCK_X * HEAD + t] = y * by;
}

KERNEL(embed)
{
	int i = BLOCK_X * WIDE + THREAD;
	if (i < a.width)
		a.out[i] = a.table[(long long)*a.token * a.width + i] + a.places[(long long)a.place * a.width + i];
}

KERNEL(pick)
{
	SHARED float best[PICK];
	SHARED int where[PICK];
	int t = THREAD;
	best[t] = -1e30f;
	where[t] = 0;
	for (int i = t; i < a.n; i += PICK) {
		if (a.x[i] > best[t]) {
			best[t] = a.x[i];
			where[t] = i;
		}
	}
	for (int half = PICK / 2; half > 0; half /= 2) {
		BARRIER();
		if (t < half && best[t + half] > best[t]) {
			best[t] = best[t + half];
			where[t] = where[t + half];
		}
	}
	if (t == 0)
		*a.out = where[0];
}

KERNEL(power)
{
	int i = BLOCK_X * WIDE + THREAD;
	if (i >= a.rows * a.width)
		return;
	const float *x = a.x + (long long)(i / a.width) * 2 * a.width + i % a.width;
	a.out[(long long)(i / a.width) * a.ld + i % a.width] = x[0] * x[0] + x[a.width] * x[a.width];
}

KERNEL(logmel)
{
	int i = BLOCK_X * WIDE + THREAD;
	if (i < a.n) {
		float l = a.x[i] > 1e-8f ? log10_of(a.x[i]) : -8;
		a.x[i] = (l + 4) * 0.25f;
	}
}
