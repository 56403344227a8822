// speech is the work of the tests on a GPU machine: a function of Spillway's
// that takes its device from TASK_DEVICE, as every function does, and never
// works on the CPU when it was given a GPU.
//
//	speech where                       which device it has, and whether that computes rightly
//	speech transcribe SIZE SECONDS     a model of Whisper's shape on so much sound
//	speech hog                         more memory than a GPU has; on the CPU, nothing of the kind
//	speech look                        what of GPUs a container can reach that was given none
//	speech nothing                     ends at once
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "model.h"

enum { EXIT_USAGE = 64 };

void fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("speech: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

// result opens where the function's answer goes.
static FILE *result(void)
{
	const char *path = getenv("TASK_RESULT_FILE");
	FILE *f = path ? fopen(path, "w") : stdout;
	if (!f)
		fail("%s: %s", path, strerror(errno));
	return f;
}

static int done(FILE *f)
{
	if (ferror(f) | fclose(f))
		fail("write the result: %s", strerror(errno));
	return 0;
}

static int on_gpu(void)
{
	const char *device = getenv("TASK_DEVICE");
	return device && !strcmp(device, "gpu");
}

static const struct backend *open_device(struct device *d) { return on_gpu() ? gpu_open(d) : cpu_open(d); }

static void identity(FILE *f, const struct device *d)
{
	fprintf(f, "{\"device\": \"%s\", \"name\": \"%s\", \"uuid\": \"%s\", \"memory\": %zu, \"free\": %zu",
		on_gpu() ? "gpu" : "cpu", d->name, d->uuid, d->total, d->free);
}

// error_of is how far the device's work is from the CPU's: the greatest
// difference of the toy model's encoder, against the mean of its values.
static double error_of(const struct backend *on)
{
	struct device d;
	size_t bytes;
	struct heard a = model_hear(model_load(on, size_named("toy"), &bytes), 1);
	struct heard b = model_hear(model_load(cpu_open(&d), size_named("toy"), &bytes), 1);
	double worst = 0;
	for (size_t i = 0; i < a.encoded_count; i++)
		worst = fmax(worst, fabs((double)a.encoded[i] - b.encoded[i]));
	for (size_t i = 0; i < a.encoded_count; i++)
		if (!isfinite(a.encoded[i]))
			fail("the device computes %f", a.encoded[i]);
	free(a.encoded), free(b.encoded);
	return worst / b.level;
}

static int where(void)
{
	struct device d = {0};
	const struct backend *on = open_device(&d);
	double error = error_of(on);
	FILE *f = result();
	identity(f, &d);
	fprintf(f, ", \"error\": %.3g}\n", error);
	return done(f);
}

static int transcribe(const char *name, const char *text)
{
	const struct size *size = size_named(name);
	char *end;
	double seconds = strtod(text, &end), t0 = now(), loaded, ended;
	struct device d = {0};
	size_t bytes;
	if (!size || *end || !(seconds > 0 && seconds <= 36000)) {
		fprintf(stderr, "speech: there is no model %s, or %s is no number of seconds\n", name, text);
		return EXIT_USAGE;
	}
	struct model *m = model_load(open_device(&d), size, &bytes);
	loaded = now();
	struct heard h = model_hear(m, seconds);
	ended = now();
	FILE *f = result();
	identity(f, &d);
	fprintf(f, ", \"model\": \"%s\", \"audio_s\": %g, \"load_s\": %.4f, \"hear_s\": %.4f, \"features_s\": %.4f, \"encode_s\": %.4f, \"decode_s\": %.4f,"
		   " \"windows\": %d, \"tokens\": %d, \"level\": %.6f, \"hash\": %u, \"bytes\": %zu}\n",
		name, seconds, loaded - t0, ended - loaded, h.features, h.encode, h.decode, h.windows, h.tokens, h.level, h.hash, bytes);
	return done(f);
}

static int hog(void)
{
	struct device d = {0};
	const struct backend *on = open_device(&d);
	if (on_gpu())
		for (int i = 0; i <= 8; i++)
			on->alloc(d.total / 8 + 1); // the last cannot fit
	FILE *f = result();
	identity(f, &d);
	fputs("}\n", f);
	return done(f);
}

// look does what a program may try that wants a GPU it was not given.
static int look(void)
{
	FILE *f = result();
	DIR *dev = opendir("/dev");
	int n = 0;
	fputs("{\"devices\": [", f);
	for (struct dirent *e; dev && (e = readdir(dev));)
		if (!strncmp(e->d_name, "nvidia", 6) || !strcmp(e->d_name, "dri"))
			fprintf(f, "%s\"%s\"", n++ ? ", " : "", e->d_name);
	if (dev)
		closedir(dev);
	int made = mknod("/tmp/nvidia0", S_IFCHR | 0666, makedev(195, 0)) == 0;
	const char *visible = getenv("NVIDIA_VISIBLE_DEVICES");
	fprintf(f, "], \"made_a_node\": %s, \"library\": %s, \"visible\": \"%s\"}\n", made ? "true" : "false",
		dlopen("libcuda.so.1", RTLD_NOW) ? "true" : "false", visible ? visible : "");
	return done(f);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "where") && argc == 2)
		return where();
	if (!strcmp(what, "transcribe") && argc == 4)
		return transcribe(argv[2], argv[3]);
	if (!strcmp(what, "hog") && argc == 2)
		return hog();
	if (!strcmp(what, "look") && argc == 2)
		return look();
	if (!strcmp(what, "nothing") && argc == 2)
		return 0;
	fputs("usage: speech where | transcribe SIZE SECONDS | hog | look | nothing\n", stderr);
	return EXIT_USAGE;
}
