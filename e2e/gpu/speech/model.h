// A model of Whisper's shape: log-mel features, two convolutions, an encoder, a
// decoder that makes a token at a time. Its weights are noise, so what it says
// is too; the work is that of the real one.
#ifndef MODEL_H
#define MODEL_H

#include "backend.h"

// The size of a model. A window is 2 * positions frames of a hundredth of a second.
struct size {
	const char *name;
	int width, layers, heads, vocabulary, positions, text;
};

const struct size *size_named(const char *name); // NULL when there is none

struct model;

// What of a run took how long, in seconds, and what came out.
struct heard {
	double features, encode, decode;
	int windows, tokens;
	unsigned hash; // of the tokens
	double level;  // mean of the absolute values of the encoder's output, of the last window
	float *encoded; // that output, in this machine's memory; the caller's to free
	size_t encoded_count;
};

struct model *model_load(const struct backend *, const struct size *, size_t *bytes);
struct heard model_hear(struct model *, double seconds);

double now(void); // seconds of a steady clock

#endif
