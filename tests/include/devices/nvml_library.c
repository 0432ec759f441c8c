/* NVML as in nvml.h of driver 570, for a machine that a text file describes: MADE_UP_NVML names it.
 * Lines: "init CODE", "count N", and "INDEX KEY VALUE". What no line gives is not supported. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
struct nvmlDevice_st { unsigned int index; };
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef enum { NVML_MEMORY_ERROR_TYPE_CORRECTED = 0, NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1 } nvmlMemoryErrorType_t;
typedef enum { NVML_VOLATILE_ECC = 0, NVML_AGGREGATE_ECC = 1 } nvmlEccCounterType_t;
typedef enum { NVML_TEMPERATURE_GPU = 0 } nvmlTemperatureSensors_t;
typedef enum { NVML_TEMPERATURE_THRESHOLD_SHUTDOWN = 0, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1 } nvmlTemperatureThresholds_t;
typedef enum { NVML_CLOCK_GRAPHICS = 0, NVML_CLOCK_SM = 1 } nvmlClockType_t;
typedef enum { NVML_FEATURE_DISABLED = 0, NVML_FEATURE_ENABLED = 1 } nvmlEnableState_t;

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };

static struct nvmlDevice_st devices[8] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}};
static int initialised;

static int find(const char *wanted, char *value) {
    FILE *file = fopen(getenv("MADE_UP_NVML"), "r");
    char line[256];
    int found = 0;
    while (file && fgets(line, sizeof line, file)) {
        size_t length = strlen(wanted);
        if (!strncmp(line, wanted, length) && line[length] == ' ') {
            line[strcspn(line, "\n")] = 0;
            strcpy(value, line + length + 1);
            found = 1;
        }
    }
    if (file) fclose(file);
    return found;
}

static nvmlReturn_t text_of(nvmlDevice_t device, const char *key, char *value) {
    char wanted[64];
    if (!initialised) return UNINITIALIZED;
    if (device < devices || device > devices + 7) return INVALID_ARGUMENT;
    sprintf(wanted, "%u lost", device->index);
    if (find(wanted, value) && strcmp(key, "uuid")) return GPU_IS_LOST;
    sprintf(wanted, "%u %s", device->index, key);
    return find(wanted, value) ? SUCCESS : NOT_SUPPORTED;
}

static nvmlReturn_t number_of(nvmlDevice_t device, const char *key, unsigned long long *number) {
    char value[256];
    nvmlReturn_t code = text_of(device, key, value);
    if (code == SUCCESS) *number = strtoull(value, 0, 0);
    return code;
}

static nvmlReturn_t uint_of(nvmlDevice_t device, const char *key, unsigned int *number) {
    unsigned long long wide;
    nvmlReturn_t code = number_of(device, key, &wide);
    if (code == SUCCESS) *number = (unsigned int)wide;
    return code;
}

static nvmlReturn_t copy_of(nvmlDevice_t device, const char *key, char *out, unsigned int length) {
    char value[256];
    nvmlReturn_t code = text_of(device, key, value);
    if (code != SUCCESS) return code;
    if (strlen(value) + 1 > length) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void) {
    char value[256];
    if (find("init", value)) return atoi(value);
    initialised++;
    return SUCCESS;
}

nvmlReturn_t nvmlShutdown(void) {
    if (!initialised) return UNINITIALIZED;
    initialised--;
    return SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t code) {
    return code == 9 ? "Driver Not Loaded" : code == GPU_IS_LOST ? "GPU is lost" : "Unknown Error";
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    char value[256];
    if (!initialised) return UNINITIALIZED;
    *count = find("count", value) ? (unsigned int)atoi(value) : 0;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (index > 7) return INVALID_ARGUMENT;
    *device = devices + index;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    return copy_of(device, "uuid", uuid, length);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    return copy_of(device, "name", name, length);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    nvmlReturn_t code = number_of(device, "total", &memory->total);
    if (code == SUCCESS) code = number_of(device, "free", &memory->free);
    if (code == SUCCESS) memory->used = memory->total - memory->free;
    return code;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                         nvmlEccCounterType_t counter, unsigned long long *count) {
    if (type != NVML_MEMORY_ERROR_TYPE_UNCORRECTED) return INVALID_ARGUMENT;
    return number_of(device, counter == NVML_VOLATILE_ECC ? "volatile" : "aggregate", count);
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected,
                                       unsigned int *uncorrected, unsigned int *pending,
                                       unsigned int *failed) {
    nvmlReturn_t code = uint_of(device, "pending", pending);
    if (code == SUCCESS) code = uint_of(device, "failed", failed);
    *corrected = 77; /* in the wrong place these would show */
    *uncorrected = 88;
    return code;
}

nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device, nvmlEnableState_t *pending) {
    unsigned int value;
    nvmlReturn_t code = uint_of(device, "pages", &value);
    if (code == SUCCESS) *pending = value ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
    return code;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor,
                                      unsigned int *degrees) {
    return sensor == NVML_TEMPERATURE_GPU ? uint_of(device, "temperature", degrees) : INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t which,
                                               unsigned int *degrees) {
    return uint_of(device, which == NVML_TEMPERATURE_THRESHOLD_SLOWDOWN ? "slowdown" : "shutdown", degrees);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t which, unsigned int *mhz) {
    return which == NVML_CLOCK_SM ? uint_of(device, "clock", mhz) : INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t which, unsigned int *mhz) {
    return which == NVML_CLOCK_SM ? uint_of(device, "most", mhz) : INVALID_ARGUMENT;
}

#ifdef NEW_NAME
#define nvmlDeviceGetCurrentClocksThrottleReasons nvmlDeviceGetCurrentClocksEventReasons
#endif
#ifndef WITHOUT_THROTTLE
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return number_of(device, "throttle", reasons);
}
#endif
