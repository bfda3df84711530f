/* A libcuda.so.1 that holds no driver, so that cuDNN can plan on a machine without one. cuInit says that there is no
   device; loading machine code succeeds and, with NO_DRIVER_KEEP=<folder>, keeps it there as <n>.cubin. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NO_DEVICE = 100, NOT_FOUND = 500 };
static void *const SOMETHING = (void *)8;

static int keep(void **handle, const void *image) {
  static int number;
  const char *folder = getenv("NO_DRIVER_KEEP");
  *handle = SOMETHING;
  if (folder && !memcmp(image, ELFMAG, SELFMAG)) {
    const Elf64_Ehdr *elf = image;
    size_t sections = elf->e_shoff + (size_t)elf->e_shentsize * elf->e_shnum;
    size_t segments = elf->e_phoff + (size_t)elf->e_phentsize * elf->e_phnum;
    char name[4096];
    snprintf(name, sizeof name, "%s/%d.cubin", folder, number++);
    FILE *file = fopen(name, "wb");
    if (file) {
      fwrite(image, 1, sections > segments ? sections : segments, file);
      fclose(file);
    }
  }
  return 0;
}

int cuInit(void) { return NO_DEVICE; }
int cuDriverGetVersion(int *version) { return *version = 13000, 0; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device) { return *device = 0; }
int cuCtxGetCurrent(void **context) { return *context = SOMETHING, 0; }
int cuLibraryLoadData(void **library, const void *image) { return keep(library, image); }
int cuModuleLoadData(void **module, const void *image) { return keep(module, image); }
int cuLibraryGetKernel(void **kernel) { return *kernel = SOMETHING, 0; }
int cuKernelGetFunction(void **function) { return *function = SOMETHING, 0; }
int cuModuleGetFunction(void **function) { return *function = SOMETHING, 0; }
int cuKernelGetAttribute(int *value) { return *value = 0; }
int cuOccupancyMaxPotentialClusterSize(int *size) { return *size = 16, 0; }
int cuGetErrorName(int error, const char **name) { return *name = "no driver", 0; }
int cuGetErrorString(int error, const char **text) { return *text = "no driver", 0; }
int cuGetProcAddress(const char *name, void **function) { return *function = 0, NOT_FOUND; }
int cuGetProcAddress_v2(const char *name, void **function) { return *function = 0, NOT_FOUND; }

#define NOTHING(name) int name(void) { return 0; }
NOTHING(cuCtxGetLimit) NOTHING(cuCtxPopCurrent) NOTHING(cuCtxPushCurrent) NOTHING(cuStreamGetCtx)
NOTHING(cuLibraryLoadFromFile) NOTHING(cuLibraryUnload) NOTHING(cuModuleUnload) NOTHING(cuKernelSetAttribute)
NOTHING(cuLaunchKernel) NOTHING(cuLaunchKernelEx) NOTHING(cuLaunchCooperativeKernel)
NOTHING(cuLinkCreate) NOTHING(cuLinkAddData) NOTHING(cuLinkComplete) NOTHING(cuLinkDestroy)
NOTHING(cuTensorMapEncodeTiled) NOTHING(cuTensorMapEncodeIm2col)
