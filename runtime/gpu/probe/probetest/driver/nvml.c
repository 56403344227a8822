/* A libnvidia-ml.so.1 for tests. It knows no GPU: what it answers stands in a text
 * file, named by SPILLWAY_FAKE_NVML, of lines "key=value", read anew at each call.
 * Keys of a GPU begin with its index, "0.total", those of a MIG instance with both
 * indices, "0.mig.1.total". The signatures and layouts are those of NVIDIA's NVML
 * API reference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API __attribute__((visibility("default")))

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10, LOST = 15, UNKNOWN = 999 };
enum { MAX_GPUS = 16, MAX_MIG = 7, LINE = 4096, NONE = 0xffffffff };

typedef struct { char prefix[24]; int index, mig; } device; /* mig < 0: a GPU */
static device gpus[MAX_GPUS], instances[MAX_GPUS][MAX_MIG];

static void nap(long ms) {
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

/* look finds the value of a key; 0 = it has none. */
static int look(const char *prefix, const char *key, char *value) {
	char line[LINE], want[64];
	const char *path = getenv("SPILLWAY_FAKE_NVML");
	FILE *f = path ? fopen(path, "re") : NULL;
	int found = 0, n = snprintf(want, sizeof want, "%s%s=", prefix, key);
	if (!f)
		return 0;
	while (!found && fgets(line, sizeof line, f)) {
		if (strncmp(line, want, n))
			continue;
		line[strcspn(line, "\n")] = 0;
		strcpy(value, line + n);
		found = 1;
	}
	fclose(f);
	return found;
}

static unsigned long long number(const char *prefix, const char *key, unsigned long long otherwise) {
	char v[LINE];
	return look(prefix, key, v) ? strtoull(v, NULL, 10) : otherwise;
}

/* enter is where each call begins: it hangs there for as long as the file says so,
 * and returns what the call is to return, if that is no success. */
static int enter(const char *call, const device *d) {
	char v[LINE];
	while (look("", "hang", v) && !strcmp(v, call))
		nap(20);
	if (d && number(gpus[d->index].prefix, "lost", 0))
		return LOST;
	snprintf(v, sizeof v, "fail.%s", call);
	return number("", v, OK);
}

#define ENTER(d) do { int r = enter(__func__, d); if (r != OK) return r; } while (0)

/* string copies a value out. */
static int string(const char *prefix, const char *key, char *to, unsigned int size) {
	char v[LINE];
	if (!look(prefix, key, v))
		return UNSUPPORTED;
	if (strlen(v) >= size)
		return TOO_SMALL;
	strcpy(to, v);
	return OK;
}

/* whole reads a value that the device may not have. */
static int whole(const char *prefix, const char *key, unsigned int *to) {
	char v[LINE];
	if (!look(prefix, key, v))
		return UNSUPPORTED;
	*to = strtoul(v, NULL, 10);
	return OK;
}

API int nvmlInit_v2(void) {
	for (int i = 0; i < MAX_GPUS; i++) {
		gpus[i] = (device){ .index = i, .mig = -1 };
		snprintf(gpus[i].prefix, sizeof gpus[i].prefix, "%d.", i);
		for (int j = 0; j < MAX_MIG; j++) {
			instances[i][j] = (device){ .index = i, .mig = j };
			snprintf(instances[i][j].prefix, sizeof instances[i][j].prefix, "%d.mig.%d.", i, j);
		}
	}
	ENTER(NULL);
	return number("", "init", OK);
}

API int nvmlShutdown(void) { return OK; }

API const char *nvmlErrorString(int r) {
	switch (r) {
	case UNSUPPORTED: return "Not Supported";
	case 9: return "Driver Not Loaded";
	case LOST: return "GPU is lost";
	case 18: return "Driver/library version mismatch";
	}
	return "Unknown Error";
}

API int nvmlSystemGetDriverVersion(char *to, unsigned int size) {
	ENTER(NULL);
	return string("", "driver", to, size);
}

API int nvmlSystemGetCudaDriverVersion(int *to) {
	ENTER(NULL);
	*to = number("", "cuda", 0);
	return OK;
}

API int nvmlDeviceGetCount_v2(unsigned int *to) {
	char v[LINE];
	ENTER(NULL);
	if (look("", "say", v)) { /* a library that writes to its program's output */
		printf("%s\n", v);
		fflush(stdout);
	}
	*to = number("", "count", 0);
	return OK;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned int i, device **to) {
	if (i >= number("", "count", 0) || i >= MAX_GPUS)
		return INVALID;
	ENTER(&gpus[i]);
	*to = &gpus[i];
	return OK;
}

API int nvmlDeviceGetUUID(device *d, char *to, unsigned int size) {
	ENTER(d);
	return string(d->prefix, "uuid", to, size);
}

API int nvmlDeviceGetName(device *d, char *to, unsigned int size) {
	ENTER(d);
	return string(d->prefix, "name", to, size);
}

API int nvmlDeviceGetMinorNumber(device *d, unsigned int *to) {
	ENTER(d);
	*to = d->index;
	return OK;
}

typedef struct { char legacy[16]; unsigned int domain, bus, device, id, subsystem; char bus_id[32]; } pci;

API int nvmlDeviceGetPciInfo_v3(device *d, pci *to) {
	ENTER(d);
	memset(to, 0, sizeof *to);
	return string(d->prefix, "bus_id", to->bus_id, sizeof to->bus_id);
}

typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2;

API int nvmlDeviceGetMemoryInfo(device *d, memory *to) {
	ENTER(d);
	to->total = number(d->prefix, "total", 0);
	to->used = number(d->prefix, "used", 0) + number(d->prefix, "reserved", 0);
	to->free = to->total - to->used;
	return OK;
}

API int nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *to) {
	ENTER(d);
	to->total = number(d->prefix, "total", 0);
	to->used = number(d->prefix, "used", 0);
	to->reserved = number(d->prefix, "reserved", 0);
	to->free = to->total - to->used - to->reserved;
	return OK;
}

API int nvmlDeviceGetUtilizationRates(device *d, unsigned int *to) {
	ENTER(d);
	to[1] = 0;
	return whole(d->prefix, "utilisation", to);
}

typedef struct { unsigned int pid; unsigned long long memory; unsigned int gpu_instance, compute_instance; } process;

/* processes are written "pid:bytes pid:bytes"; bytes may be "none". */
API int nvmlDeviceGetComputeRunningProcesses_v3(device *d, unsigned int *count, process *to) {
	char v[LINE], *rest = v, *word;
	unsigned int n = 0;
	ENTER(d);
	if (!look(d->prefix, "processes", v))
		v[0] = 0;
	while ((word = strsep(&rest, " "))) {
		char *used = strchr(word, ':');
		if (!used)
			continue;
		if (n < *count) {
			unsigned long long bytes = strcmp(used + 1, "none") ? strtoull(used + 1, NULL, 10) : ~0ULL;
			to[n] = (process){ strtoul(word, NULL, 10), bytes, NONE, NONE };
		}
		n++;
	}
	int fits = n <= *count;
	*count = n;
	return fits ? OK : TOO_SMALL;
}

API int nvmlDeviceGetEncoderCapacity(device *d, int codec, unsigned int *to) {
	ENTER(d);
	(void)codec;
	return whole(d->prefix, "encoder", to);
}

API int nvmlDeviceGetDecoderUtilization(device *d, unsigned int *to, unsigned int *period) {
	ENTER(d);
	*period = 0;
	return whole(d->prefix, "decoder", to);
}

API int nvmlDeviceGetTotalEccErrors(device *d, int kind, int counter, unsigned long long *to) {
	char v[LINE];
	ENTER(d);
	(void)kind, (void)counter;
	if (!look(d->prefix, "ecc", v))
		return UNSUPPORTED;
	*to = strtoull(v, NULL, 10);
	return OK;
}

API int nvmlDeviceGetRemappedRows(device *d, unsigned int *corrected, unsigned int *uncorrected, unsigned int *pending, unsigned int *failed) {
	ENTER(d);
	*corrected = *uncorrected = *pending = 0;
	return whole(d->prefix, "remap", failed);
}

typedef struct { unsigned int field, scope; long long at, took; int type, ret; union { unsigned int u; unsigned long long ull; } value; } field;

API int nvmlDeviceGetFieldValues(device *d, int count, field *fields) {
	ENTER(d);
	for (int i = 0; i < count; i++) {
		fields[i].type = 1;
		fields[i].ret = fields[i].field == 230 ? whole(d->prefix, "recovery", &fields[i].value.u) : UNSUPPORTED;
	}
	return OK;
}

API int nvmlDeviceGetMigMode(device *d, unsigned int *current, unsigned int *pending) {
	ENTER(d);
	if (d->mig >= 0)
		return UNSUPPORTED;
	*pending = 0;
	return whole(d->prefix, "mig", current);
}

API int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned int *to) {
	ENTER(d);
	*to = MAX_MIG;
	return OK;
}

API int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned int i, device **to) {
	char v[LINE];
	ENTER(d);
	if (i >= MAX_MIG || !look(instances[d->index][i].prefix, "uuid", v))
		return NOT_FOUND;
	*to = &instances[d->index][i];
	return OK;
}

/* The numbers of an instance are its place here. */
API int nvmlDeviceGetGpuInstanceId(device *d, unsigned int *to) {
	ENTER(d);
	*to = d->mig;
	return OK;
}

API int nvmlDeviceGetComputeInstanceId(device *d, unsigned int *to) {
	ENTER(d);
	*to = 0;
	return OK;
}

typedef struct { unsigned int sms, copy, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices; unsigned long long mib; } attributes;

API int nvmlDeviceGetAttributes_v2(device *d, attributes *to) {
	ENTER(d);
	if (d->mig < 0)
		return UNSUPPORTED;
	*to = (attributes){ .decoders = number(d->prefix, "decoders", 0), .encoders = number(d->prefix, "encoders", 0),
		.gpu_slices = number(d->prefix, "slices", 1), .compute_slices = number(d->prefix, "slices", 1),
		.mib = number(d->prefix, "total", 0) >> 20 };
	return OK;
}

/* Events: "event=N GPU TYPE DATA INSTANCE"; one with a number above the last is new. */
typedef struct { device *device; unsigned long long type, data; unsigned int gpu_instance, compute_instance; } event;
static unsigned long long last_event;

API int nvmlEventSetCreate(void **to) {
	ENTER(NULL);
	*to = &last_event;
	return OK;
}

API int nvmlEventSetFree(void *set) { (void)set; return OK; }

API int nvmlDeviceGetSupportedEventTypes(device *d, unsigned long long *to) {
	ENTER(d);
	*to = 1 | 2 | 8;
	return OK;
}

API int nvmlDeviceRegisterEvents(device *d, unsigned long long types, void *set) {
	ENTER(d);
	(void)types, (void)set;
	last_event = number("", "event", 0);
	return OK;
}

API int nvmlEventSetWait_v2(void *set, event *to, unsigned int ms) {
	char v[LINE];
	(void)set;
	for (unsigned int waited = 0; waited < ms; waited += 20, nap(20)) {
		unsigned long long n, type, data;
		unsigned int gpu, instance;
		if (!look("", "event", v) || sscanf(v, "%llu %u %llu %llu %u", &n, &gpu, &type, &data, &instance) != 5)
			continue;
		if (n <= last_event || gpu >= MAX_GPUS)
			continue;
		last_event = n;
		*to = (event){ &gpus[gpu], type, data, instance, instance == NONE ? NONE : 0 };
		return OK;
	}
	return TIMEOUT;
}
