// A libnvidia-ml.so.1 for tests: what nvidia-ctk asks of NVML to describe a
// machine with one GPU, whose UUID FAKE_CUDA_UUID names. The signatures are those
// of NVIDIA's NVML API reference.
#include <stdlib.h>
#include <stdio.h>

enum { SUCCESS = 0, INVALID = 2, UNSUPPORTED = 3, DRIVER = 13000, HOPPER = 9 };

typedef struct {
	char old_bus[16];
	unsigned domain, bus, device, id, subsystem;
	char where[32];
} pci;

static int gpu; // its handle is its address

static int text(char *to, unsigned room, const char *what)
{
	snprintf(to, room, "%s", what);
	return SUCCESS;
}

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code ? "an error" : "no error"; }
int nvmlSystemGetDriverVersion(char *to, unsigned room) { return text(to, room, "580.65.06"); }
int nvmlSystemGetCudaDriverVersion(int *to) { return *to = DRIVER, SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *to) { return *to = 1, SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, int **to) { return *to = &gpu, i ? INVALID : SUCCESS; }
int nvmlDeviceGetHandleByUUID(const char *uuid, int **to) { return *to = &gpu, uuid ? SUCCESS : INVALID; }
int nvmlDeviceGetIndex(const int *d, unsigned *to) { return *to = *d, SUCCESS; }
int nvmlDeviceGetMinorNumber(const int *d, unsigned *to) { return *to = *d, SUCCESS; }
int nvmlDeviceGetName(const int *d, char *to, unsigned room) { return text(to, room, d ? "Fake GPU" : ""); }
int nvmlDeviceGetBrand(const int *d, int *to) { return *to = *d, SUCCESS; }
int nvmlDeviceGetArchitecture(const int *d, unsigned *to) { return *to = HOPPER + *d, SUCCESS; }
int nvmlDeviceGetCudaComputeCapability(const int *d, int *major, int *minor) { return *major = HOPPER, *minor = *d, SUCCESS; }
int nvmlDeviceIsMigDeviceHandle(const int *d, unsigned *to) { return *to = *d, SUCCESS; }
int nvmlDeviceGetMigMode(const int *d, unsigned *now, unsigned *later) { return *now = *later = *d, SUCCESS; }
int nvmlDeviceGetMaxMigDeviceCount(const int *d, unsigned *to) { return *to = *d, SUCCESS; }

int nvmlDeviceGetUUID(const int *d, char *to, unsigned room)
{
	const char *uuid = getenv("FAKE_CUDA_UUID");
	return uuid && d ? text(to, room, uuid) : UNSUPPORTED;
}

int nvmlDeviceGetPciInfo_v3(const int *d, pci *to)
{
	*to = (pci){.old_bus = "0000:10:00.0", .bus = 0x10, .device = *d, .id = 0x233010de, .where = "00000000:10:00.0"};
	return SUCCESS;
}
