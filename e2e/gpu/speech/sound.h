// Sound, and how it is cut into features, as Whisper does it.
#ifndef SOUND_H
#define SOUND_H

// Frames of FFT samples begin HOP apart; BINS_ROOM is BINS with room to be a
// multiple of 4.
enum { RATE = 16000, HOP = 160, FFT = 400, BINS = FFT / 2 + 1, BINS_ROOM = 208, MELS = 80 };

// The Fourier transform of a windowed frame as a matrix [2 * BINS][FFT]: the rows
// of the real parts, then those of the imaginary ones.
void sound_fourier(float *to);

// The filters that gather bins into mels, as a matrix [MELS][BINS_ROOM]; to is zero.
void sound_mels(float *to);

// n samples from a place on of an endless recording of a voice that glides, and hiss.
void sound_record(float *to, int n, long long from);

#endif
