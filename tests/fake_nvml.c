/* An NVIDIA driver of two GPUs as far as energy goes, for machines without one. What it answers is set from outside. */
#include <stdio.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, GPU_IS_LOST = 15 };

int init_status, energy_status, power_status;
unsigned gpus = 1, milliwatts[2];
unsigned long long millijoules[2];
static int devices[2];

int nvmlInitWithFlags(unsigned flags) { return (void)flags, init_status; }
int nvmlInit_v2(void) { return init_status; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int status) { return status == GPU_IS_LOST ? "GPU is lost" : "Not Supported"; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = gpus, SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  if (index >= gpus) return INVALID_ARGUMENT;
  *device = &devices[index];
  return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
  if (strncmp(uuid, "GPU-fake-", 9)) return INVALID_ARGUMENT;
  return nvmlDeviceGetHandleByIndex_v2((unsigned)(uuid[9] - '0'), device);
}

int nvmlDeviceGetName(void *device, char *name, unsigned length) {
  snprintf(name, length, "Fake %d", (int)((int *)device - devices));
  return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy) {
  *energy = millijoules[(int *)device - devices];
  return energy_status;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *power) {
  *power = milliwatts[(int *)device - devices];
  return power_status;
}
