#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model.h"
#include "sound.h"

static const double tokens_per_second = 10.0 / 3; // of English, as Whisper cuts it

// small and base are the sizes of OpenAI's models; toy is for tests.
static const struct size sizes[] = {
	{"small", 768, 12, 12, 51865, 1500, 448},
	{"base", 512, 6, 8, 51865, 1500, 448},
	{"toy", 128, 2, 2, 1000, 96, 64},
};

struct attention { float *norm_gain, *norm_bias, *in, *in_bias, *out, *out_bias; };

struct layer {
	struct attention self, cross;
	float *norm_gain, *norm_bias, *up, *up_bias, *down, *down_bias;
	float *past;   // decoder: query, key and value of each token so far
	float *heard; // decoder: keys and values of what the encoder heard
};

struct model {
	const struct backend *on;
	const struct size *size;
	char *memory;
	size_t used;
	unsigned seed;

	float *fourier, *mels;
	float *first, *first_bias, *second, *second_bias, *places;
	struct layer *encoder, *decoder;
	float *encoder_gain, *encoder_bias, *decoder_gain, *decoder_bias, *table, *text_places;

	float *sound, *spectrum, *energy, *mel, *wide, *x, *h, *qkv, *scores, *inner; // while it works
	float *y, *yh, *yq, *yinner, *logits;
	int *tokens;
};

double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

const struct size *size_named(const char *name)
{
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		if (!strcmp(sizes[i].name, name))
			return &sizes[i];
	return NULL;
}

// take is room for n floats: counted when there is no memory yet, else filled
// with weights of this scale around an offset.
static float *take(struct model *m, size_t n, double scale, double offset)
{
	size_t at = m->used;
	m->used += (n * sizeof(float) + 255) / 256 * 256;
	m->seed++;
	if (!m->memory)
		return NULL;
	float *p = (float *)(m->memory + at);
	m->on->fill((struct fill_args){p, (long long)n, m->seed * 0x9e3779b9u, (float)scale, (float)offset});
	return p;
}

static float *weights(struct model *m, int out, int in) { return take(m, (size_t)out * in, 1 / sqrt(in), 0); }
static float *biases(struct model *m, int n) { return take(m, n, 0.02, 0); }
static float *gains(struct model *m, int n) { return take(m, n, 0.02, 1); }
static float *zeros(struct model *m, size_t n) { return take(m, n, 0, 0); }

static struct attention attention(struct model *m, int in)
{
	int d = m->size->width;
	return (struct attention){gains(m, d), biases(m, d), weights(m, in, d), biases(m, in), weights(m, d, d), biases(m, d)};
}

static void layers(struct model *m, struct layer *all, int decoder)
{
	const struct size *s = m->size;
	int d = s->width;
	for (int i = 0; i < s->layers; i++) {
		struct layer *l = &all[i];
		l->self = attention(m, 3 * d);
		l->norm_gain = gains(m, d), l->norm_bias = biases(m, d);
		l->up = weights(m, 4 * d, d), l->up_bias = biases(m, 4 * d);
		l->down = weights(m, d, 4 * d), l->down_bias = biases(m, d);
		if (!decoder)
			continue;
		l->cross = attention(m, 3 * d); // the query's rows, then those of keys and values
		l->past = zeros(m, (size_t)s->text * 3 * d);
		l->heard = zeros(m, (size_t)s->positions * 2 * d);
	}
}

// lay gives everything its place, and fills it when there is memory.
static void lay(struct model *m)
{
	const struct size *s = m->size;
	int d = s->width, frames = 2 * s->positions;
	m->used = 0, m->seed = 0;
	m->fourier = zeros(m, 2 * BINS * FFT);
	m->mels = zeros(m, MELS * BINS_ROOM);
	m->first = weights(m, d, 3 * MELS), m->first_bias = biases(m, d);
	m->second = weights(m, d, 3 * d), m->second_bias = biases(m, d);
	m->places = take(m, (size_t)s->positions * d, 0.5, 0);
	layers(m, m->encoder, 0);
	m->encoder_gain = gains(m, d), m->encoder_bias = biases(m, d);
	layers(m, m->decoder, 1);
	m->decoder_gain = gains(m, d), m->decoder_bias = biases(m, d);
	m->table = take(m, (size_t)s->vocabulary * d, 0.05, 0);
	m->text_places = take(m, (size_t)s->text * d, 0.5, 0);

	m->sound = zeros(m, frames * HOP + FFT);
	m->spectrum = zeros(m, (size_t)frames * 2 * BINS);
	m->energy = zeros(m, (size_t)frames * BINS_ROOM);
	m->mel = zeros(m, (size_t)(frames + 2) * MELS);
	m->wide = zeros(m, (size_t)(frames + 2) * d);
	m->x = zeros(m, (size_t)s->positions * d);
	m->h = zeros(m, (size_t)s->positions * d);
	m->qkv = zeros(m, (size_t)s->positions * 3 * d);
	m->scores = zeros(m, (size_t)s->heads * s->positions * s->positions);
	m->inner = zeros(m, (size_t)s->positions * 4 * d);
	m->y = zeros(m, d), m->yh = zeros(m, d), m->yq = zeros(m, d), m->yinner = zeros(m, 4 * d);
	m->logits = zeros(m, s->vocabulary);
	m->tokens = (int *)zeros(m, s->text + 1);
}

// tables writes the matrices of sound.h.
static void tables(struct model *m)
{
	float *f = calloc(2 * BINS * FFT, sizeof *f), *g = calloc(MELS * BINS_ROOM, sizeof *g);
	if (!f || !g)
		fail("out of memory");
	sound_fourier(f);
	sound_mels(g);
	m->on->write(m->fourier, f, 2 * BINS * FFT * sizeof *f);
	m->on->write(m->mels, g, MELS * BINS_ROOM * sizeof *g);
	free(f), free(g);
}

struct model *model_load(const struct backend *on, const struct size *size, size_t *bytes)
{
	struct model *m = calloc(1, sizeof *m);
	if (!m || !(m->encoder = calloc(size->layers, sizeof *m->encoder)) || !(m->decoder = calloc(size->layers, sizeof *m->decoder)))
		fail("out of memory");
	m->on = on, m->size = size;
	lay(m); // counts
	*bytes = m->used;
	m->memory = on->alloc(m->used);
	lay(m);
	tables(m);
	int ready;
	on->read(&ready, m->tokens, sizeof ready); // which waits until all is there
	return m;
}

static void features(struct model *m)
{
	const struct backend *on = m->on;
	int frames = 2 * m->size->positions;
	on->gemm((struct gemm_args){.a = m->sound, .b = m->fourier, .c = m->spectrum, .m = frames, .n = 2 * BINS, .k = FFT,
				    .lda = HOP, .ldb = FFT, .ldc = 2 * BINS, .batch = 1, .scale = 1});
	on->power((struct power_args){m->spectrum, m->energy, frames, BINS, BINS_ROOM});
	on->gemm((struct gemm_args){.a = m->energy, .b = m->mels, .c = m->mel + MELS, .m = frames, .n = MELS, .k = BINS_ROOM,
				    .lda = BINS_ROOM, .ldb = BINS_ROOM, .ldc = MELS, .batch = 1, .scale = 1});
	on->logmel((struct logmel_args){m->mel + MELS, frames * MELS});
}

// dense is c = act(a w + bias) + add for each position; w is [n][k].
static void dense(struct model *m, const float *a, const float *w, const float *bias, const float *add, float *c, int n, int k, int gelu)
{
	m->on->gemm((struct gemm_args){.a = a, .b = w, .bias = bias, .add = add, .c = c, .m = m->size->positions, .n = n, .k = k,
				       .lda = k, .ldb = k, .ldc = n, .batch = 1, .gelu = gelu, .scale = 1});
}

static void encode(struct model *m)
{
	const struct backend *on = m->on;
	const struct size *s = m->size;
	int d = s->width, p = s->positions;
	on->gemm((struct gemm_args){.a = m->mel, .b = m->first, .bias = m->first_bias, .c = m->wide + d, .m = 2 * p, .n = d, .k = 3 * MELS,
				    .lda = MELS, .ldb = 3 * MELS, .ldc = d, .batch = 1, .gelu = 1, .scale = 1});
	on->gemm((struct gemm_args){.a = m->wide, .b = m->second, .bias = m->second_bias, .add = m->places, .c = m->x, .m = p, .n = d, .k = 3 * d,
				    .lda = 2 * d, .ldb = 3 * d, .ldc = d, .batch = 1, .gelu = 1, .scale = 1});
	for (int i = 0; i < s->layers; i++) {
		const struct layer *l = &m->encoder[i];
		on->norm((struct norm_args){m->x, l->self.norm_gain, l->self.norm_bias, m->h, p, d});
		dense(m, m->h, l->self.in, l->self.in_bias, NULL, m->qkv, 3 * d, d, 0);
		on->gemm((struct gemm_args){.a = m->qkv, .b = m->qkv + d, .c = m->scores, .step_a = HEAD, .step_b = HEAD, .step_c = (long long)p * p,
					    .m = p, .n = p, .k = HEAD, .lda = 3 * d, .ldb = 3 * d, .ldc = p, .batch = s->heads, .scale = 0.125f});
		on->softmax((struct softmax_args){m->scores, s->heads * p, p});
		on->gemm((struct gemm_args){.a = m->scores, .b = m->qkv + 2 * d, .c = m->h, .step_a = (long long)p * p, .step_b = HEAD, .step_c = HEAD,
					    .m = p, .n = HEAD, .k = p, .lda = p, .ldb = 3 * d, .ldc = d, .batch = s->heads, .plain_b = 1, .scale = 1});
		dense(m, m->h, l->self.out, l->self.out_bias, m->x, m->x, d, d, 0);
		on->norm((struct norm_args){m->x, l->norm_gain, l->norm_bias, m->h, p, d});
		dense(m, m->h, l->up, l->up_bias, NULL, m->inner, 4 * d, d, 1);
		dense(m, m->inner, l->down, l->down_bias, m->x, m->x, d, 4 * d, 0);
	}
	on->norm((struct norm_args){m->x, m->encoder_gain, m->encoder_bias, m->h, p, d});
	for (int i = 0; i < s->layers; i++) {
		const struct attention *c = &m->decoder[i].cross;
		dense(m, m->h, c->in + (size_t)d * d, c->in_bias + d, NULL, m->decoder[i].heard, 2 * d, d, 0);
	}
}

// say makes the token that follows the one at a place.
static int say(struct model *m, int place)
{
	const struct backend *on = m->on;
	const struct size *s = m->size;
	int d = s->width, token;
	on->embed((struct embed_args){m->table, m->text_places, m->y, m->tokens + place, place, d});
	for (int i = 0; i < s->layers; i++) {
		const struct layer *l = &m->decoder[i];
		float *row = l->past + (size_t)place * 3 * d;
		on->norm((struct norm_args){m->y, l->self.norm_gain, l->self.norm_bias, m->yh, 1, d});
		on->gemv((struct gemv_args){m->yh, l->self.in, l->self.in_bias, NULL, row, 3 * d, d, 0});
		on->attend((struct attend_args){row, l->past + d, l->past + 2 * d, m->yh, s->heads, place + 1, 3 * d});
		on->gemv((struct gemv_args){m->yh, l->self.out, l->self.out_bias, m->y, m->y, d, d, 0});
		on->norm((struct norm_args){m->y, l->cross.norm_gain, l->cross.norm_bias, m->yh, 1, d});
		on->gemv((struct gemv_args){m->yh, l->cross.in, l->cross.in_bias, NULL, m->yq, d, d, 0});
		on->attend((struct attend_args){m->yq, l->heard, l->heard + d, m->yh, s->heads, s->positions, 2 * d});
		on->gemv((struct gemv_args){m->yh, l->cross.out, l->cross.out_bias, m->y, m->y, d, d, 0});
		on->norm((struct norm_args){m->y, l->norm_gain, l->norm_bias, m->yh, 1, d});
		on->gemv((struct gemv_args){m->yh, l->up, l->up_bias, NULL, m->yinner, 4 * d, d, 1});
		on->gemv((struct gemv_args){m->yinner, l->down, l->down_bias, m->y, m->y, d, 4 * d, 0});
	}
	on->norm((struct norm_args){m->y, m->decoder_gain, m->decoder_bias, m->yh, 1, d});
	on->gemv((struct gemv_args){m->yh, m->table, NULL, NULL, m->logits, s->vocabulary, d, 0});
	on->pick((struct pick_args){m->logits, m->tokens + place + 1, s->vocabulary});
	on->read(&token, m->tokens + place + 1, sizeof token); // as a real one looks whether that was the last
	return token;
}

struct heard model_hear(struct model *m, double seconds)
{
	const struct size *s = m->size;
	int samples = 2 * s->positions * HOP, start = 1, ready;
	double window = (double)samples / RATE;
	size_t count = (size_t)s->positions * s->width;
	struct heard out = {.hash = 2166136261u, .encoded = malloc(count * sizeof(float)), .encoded_count = count};
	float *sound = malloc((samples + FFT) * sizeof *sound);
	if (!sound || !out.encoded)
		fail("out of memory");
	for (double at = 0; at < seconds; at += window, out.windows++) {
		double here = seconds - at < window ? seconds - at : window, t0 = now(), t1, t2;
		int length = (int)(here * RATE);
		memset(sound, 0, (samples + FFT) * sizeof *sound); // what is shorter is filled up with silence
		sound_record(sound, length, (long long)(at * RATE));
		m->on->write(m->sound, sound, (samples + FFT) * sizeof *sound);
		features(m);
		m->on->read(&ready, m->mel, sizeof ready);
		t1 = now();
		encode(m);
		m->on->read(out.encoded, m->h, count * sizeof *out.encoded);
		t2 = now();
		m->on->write(m->tokens, &start, sizeof start);
		int words = (int)ceil(here * tokens_per_second);
		for (int i = 0; i < words && i < s->text; i++, out.tokens++)
			out.hash = (out.hash ^ (unsigned)say(m, i)) * 16777619u;
		out.features += t1 - t0, out.encode += t2 - t1, out.decode += now() - t2;
	}
	for (size_t i = 0; i < count; i++)
		out.level += fabs(out.encoded[i]) / count;
	free(sound);
	return out;
}
