// The operations that the model consists of. Each is a kernel on the GPU and a
// function on the CPU, with the same arguments. Matrices are rows of 32-bit
// floats; ld is the distance between rows. Rows begin at multiples of 16 bytes.
#ifndef KERNELS_H
#define KERNELS_H

// dst[i] = offset + scale * noise
struct fill_args { float *dst; long long n; unsigned seed; float scale, offset; };

// c = act(scale * a b + bias) + add, for each of batch matrices that lie step
// apart. b is [n][k], or [k][n] with plain_b. k is a multiple of 4; with plain_b
// n is one too. Rows of a may overlap. bias and add may be null; gelu chooses act.
struct gemm_args {
	const float *a, *b, *bias, *add;
	float *c;
	long long step_a, step_b, step_c;
	int m, n, k, lda, ldb, ldc, batch, plain_b, gelu;
	float scale;
};

// y = act(w x + bias) + add, w being [n][k]; what the decoder does for one token
struct gemv_args { const float *x, *w, *bias, *add; float *y; int n, k, gelu; };

// Each row of x, to mean 0 and variance 1, times gain plus bias
struct norm_args { const float *x, *gain, *bias; float *y; int rows, width; };

// Softmax of each row, in place
struct softmax_args { float *x; int rows, width; };

// Attention of one query over n positions; a head is HEAD floats of each row
struct attend_args { const float *q, *k, *v; float *out; int heads, n, ld; };

// out = the token's row of table + the row of its place
struct embed_args { const float *table, *places; float *out; const int *token; int place, width; };

// *out = the place of the greatest
struct pick_args { const float *x; int *out; int n; };

// out[r][i] = re^2 + im^2 of row r, where a row is re and im, each of width; out
// rows are ld apart, and what is right of width stays as it is
struct power_args { const float *x; float *out; int rows, width, ld; };

// x = (max(log10(x), -8) + 4) / 4
struct logmel_args { float *x; int n; };

// The threads of a block, which the kernels count on.
enum { HEAD = 64, TILE = 64, STEP = 16, WIDE = 256, LANES = 32, ROWS = 4, ATTEND = 512, PICK = 1024, MOST_POSITIONS = 2048 };

#endif
