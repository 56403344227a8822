#include <math.h>

#include "sound.h"

void sound_fourier(float *to)
{
	for (int b = 0; b < BINS; b++) {
		for (int i = 0; i < FFT; i++) {
			double hann = 0.5 - 0.5 * cos(2 * M_PI * i / FFT), turn = 2 * M_PI * b * i / FFT;
			to[b * FFT + i] = (float)(hann * cos(turn));
			to[(BINS + b) * FFT + i] = (float)(-hann * sin(turn));
		}
	}
}

static double hertz_to_mel(double f) { return 2595 * log10(1 + f / 700); }

void sound_mels(float *to)
{
	double step = hertz_to_mel(RATE / 2) / (MELS + 1);
	for (int i = 0; i < MELS; i++) {
		for (int b = 0; b < BINS; b++) {
			double away = fabs(hertz_to_mel((double)b * RATE / FFT) / step - (i + 1));
			to[i * BINS_ROOM + b] = (float)(away < 1 ? (1 - away) / FFT : 0);
		}
	}
}

void sound_record(float *to, int n, long long from)
{
	double pitch = 0;
	for (int i = 0; i < n; i++) {
		double t = (double)(from + i) / RATE;
		pitch += (140 + 40 * (t * 0.7 - floor(t * 0.7))) / RATE;
		double saw = 2 * (pitch - floor(pitch)) - 1;
		unsigned hiss = (unsigned)(from + i) * 2654435761u;
		to[i] = (float)(0.3 * saw + 0.02 * ((hiss >> 8) / 8388608.0 - 1));
	}
}
