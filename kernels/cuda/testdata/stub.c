// A CUDA driver for tests on machines without a GPU. Device memory is host memory, work runs when it is queued, kernels
// do nothing but leave their shape and arguments in the log. The test and the stub share a mapped file, named by
// QUIRE_STUB, with knobs that the test sets and counters and a log that it reads.
#define _GNU_SOURCE
#include "stub.h"

#include "../driver.h"

// Every function below has the parameters that the package calls it with.
#define PROTOTYPE(name, symbol, params, args) CUresult symbol params;
QUIRE_CALLS(PROTOTYPE)

enum { GRANULARITY = 2 << 20, RANGES = 64, MILLIS = 2 };

static __thread CUcontext current;

static CUresult enter(const char *call, int in_context) {
  int failed = failing(call);
  if (failed) return failed;
  if (control->fault_pending && (strstr(call, "Synchronize") || strstr(call, "Query") || strstr(call, "Memcpy"))) {
    control->lost = control->fault_pending;
  }
  if (in_context && control->lost) return control->lost;
  if (in_context && !current) return 201;  // CUDA_ERROR_INVALID_CONTEXT
  return 0;
}

// ANYWHERE and IN_CONTEXT begin every function; the second wants a current context.
#define ANYWHERE                           \
  do {                                     \
    CUresult entered = enter(__func__, 0); \
    if (entered) return entered;           \
  } while (0)
#define IN_CONTEXT                         \
  do {                                     \
    CUresult entered = enter(__func__, 1); \
    if (entered) return entered;           \
  } while (0)

static void count(int kind, int change) { __atomic_add_fetch(&control->live[kind], change, __ATOMIC_SEQ_CST); }

static int numbers[KINDS];

static void *make(int kind, size_t bytes) {
  struct object *o = calloc(1, bytes);
  o->kind = kind;
  o->number = __atomic_add_fetch(&numbers[kind], 1, __ATOMIC_SEQ_CST);
  count(kind, 1);
  return o;
}

static int is(const void *handle, int kind) { return handle && ((const struct object *)handle)->kind == kind; }

static CUresult end(void *handle, int kind) {
  if (!is(handle, kind)) return 400;  // CUDA_ERROR_INVALID_HANDLE
  ((struct object *)handle)->kind = -1;
  count(kind, -1);
  return 0;
}

// Work that can be queued or captured.
struct work {
  enum { LAUNCH, COPY, FILL, FILL32, OTHER } what;
  char text[8192];
  char kernel[64];
  void *to;
  const void *from;
  size_t bytes;
  uint32_t value;
  struct work *next;
};

struct graph {
  struct object object;
  struct work *first, **last;
};
struct stream {
  struct object object;
  struct graph *capture;
};
struct event {
  struct object object;
  int timing, recorded, when;
};
struct module {
  struct object object;
  char text[4096];
};
struct function {
  char name[64];
  int params, dynamic_bytes, loaded;
};

static void execute(const struct work *w) {
  say("%s\n", w->text);
  switch (w->what) {
    case COPY: memmove(w->to, w->from, w->bytes); break;
    case FILL: memset(w->to, w->value, w->bytes); break;
    case FILL32:
      for (size_t i = 0; i < w->bytes / 4; i++) memcpy((char *)w->to + 4 * i, &w->value, 4);
      break;
    case LAUNCH:
      control->launches++;
      if (!strcmp(w->kernel, control->fault)) control->fault_pending = control->fault_code;
      break;
    case OTHER: break;
  }
}

// queue runs work, or adds it to the capture of its stream.
static CUresult queue(CUstream handle, const struct work *w) {
  struct stream *s = (struct stream *)handle;
  if (!is(s, STREAM)) return 400;
  if (!s->capture) {
    execute(w);
    return 0;
  }
  struct work *copy = malloc(sizeof *copy);
  *copy = *w;
  copy->next = NULL;
  *s->capture->last = copy;
  s->capture->last = &copy->next;
  return 0;
}

CUresult cuDriverGetVersion(int *version) {
  ANYWHERE;
  *version = control->version;
  return 0;
}

CUresult cuInit(unsigned flags) {
  ANYWHERE;
  if (flags) return 1;
  return control->devices ? 0 : 100;  // CUDA_ERROR_NO_DEVICE
}

static const struct {
  int code;
  const char *name, *text;
} errors[] = {
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {910, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE", "the graph update was not performed because it included changes which "
                                                  "violated constraints specific to instantiated graph update"},
};

static CUresult error_text(CUresult code, const char **text, int name) {
  for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    if (errors[i].code == code) {
      *text = name ? errors[i].name : errors[i].text;
      return 0;
    }
  }
  *text = NULL;
  return 1;
}

CUresult cuGetErrorName(CUresult code, const char **text) { return error_text(code, text, 1); }
CUresult cuGetErrorString(CUresult code, const char **text) { return error_text(code, text, 0); }

CUresult cuDeviceGetCount(int *devices) {
  ANYWHERE;
  *devices = control->devices;
  return 0;
}

CUresult cuDeviceGet(CUdevice *device, int index) {
  ANYWHERE;
  if (index < 0 || index >= control->devices) return 101;
  *device = index;
  return 0;
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
  ANYWHERE;
  snprintf(name, bytes, "Stub %d", device);
  return 0;
}

CUresult cuDeviceGetPCIBusId(char *id, int bytes, CUdevice device) {
  ANYWHERE;
  snprintf(id, bytes, "0000:0%dA:00.0", device);
  return 0;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  ANYWHERE;
  (void)device;
  *bytes = control->memory;
  return 0;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  ANYWHERE;
  (void)device;
  switch (attribute) {
    case 16: *value = 132; return 0;
    case 38: *value = 50 << 20; return 0;
    case 75: *value = control->major; return 0;
    case 76: *value = control->minor; return 0;
    case 97: *value = 232448; return 0;
    case 102: *value = 1; return 0;
  }
  return 1;
}

static struct {
  struct object object;
  int shares;
} primary[8];

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  ANYWHERE;
  primary[device].object = (struct object){CONTEXT, device};
  primary[device].shares++;
  count(CONTEXT, 1);
  *context = (CUcontext)&primary[device];
  return 0;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  ANYWHERE;
  if (!primary[device].shares) return 201;
  primary[device].shares--;
  count(CONTEXT, -1);
  return 0;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  ANYWHERE;
  if (context && !is(context, CONTEXT)) return 201;
  current = context;
  return 0;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  ANYWHERE;
  *context = current;
  return 0;
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext context) {
  ANYWHERE;
  if (!is(context, CONTEXT)) return 201;
  *device = number(context);
  return 0;
}

static int64_t taken;  // bytes of device memory

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *bytes) {
  IN_CONTEXT;
  *free_bytes = control->memory - taken;
  *bytes = control->memory;
  return 0;
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  IN_CONTEXT;
  *stream = make(STREAM, sizeof(struct stream));
  say("stream %d flags=%u priority=%d\n", number(*stream), flags, priority);
  return 0;
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  IN_CONTEXT;
  return end(stream, STREAM);
}

CUresult cuStreamSynchronize(CUstream stream) {
  IN_CONTEXT;
  if (!is(stream, STREAM)) return 400;
  if (((struct stream *)stream)->capture) return 900;
  say("sync stream %d\n", number(stream));
  return 0;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  IN_CONTEXT;
  if (!is(event, EVENT) || flags) return 400;
  struct work w = {.what = OTHER};
  snprintf(w.text, sizeof w.text, "stream %d waits for event %d", number(stream), number(event));
  return queue(stream, &w);
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  IN_CONTEXT;
  struct stream *s = (struct stream *)stream;
  if (!is(s, STREAM) || s->capture) return 400;
  s->capture = make(GRAPH, sizeof(struct graph));
  s->capture->last = &s->capture->first;
  say("capture on stream %d mode=%d\n", number(s), mode);
  return 0;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  IN_CONTEXT;
  struct stream *s = (struct stream *)stream;
  if (!is(s, STREAM) || !s->capture) return 400;
  *graph = (CUgraph)s->capture;
  say("graph %d from stream %d\n", number(*graph), number(s));
  s->capture = NULL;
  return 0;
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  IN_CONTEXT;
  struct event *e = make(EVENT, sizeof *e);
  e->timing = !(flags & 2);
  *event = (CUevent)e;
  say("event %d flags=%u\n", number(e), flags);
  return 0;
}

CUresult cuEventDestroy_v2(CUevent event) {
  IN_CONTEXT;
  return end(event, EVENT);
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  IN_CONTEXT;
  static int now;
  struct event *e = (struct event *)event;
  if (!is(e, EVENT) || !is(stream, STREAM)) return 400;
  e->recorded = 1;
  e->when = now += MILLIS;
  struct work w = {.what = OTHER};
  snprintf(w.text, sizeof w.text, "event %d on stream %d", number(e), number(stream));
  return queue(stream, &w);
}

CUresult cuEventSynchronize(CUevent event) {
  IN_CONTEXT;
  if (!is(event, EVENT)) return 400;
  say("sync event %d\n", number(event));
  return 0;
}

CUresult cuEventQuery(CUevent event) {
  IN_CONTEXT;
  if (!is(event, EVENT)) return 400;
  return control->busy && control->busy-- > 0 ? 600 : 0;
}

CUresult cuEventElapsedTime_v2(float *millis, CUevent start, CUevent end) {
  IN_CONTEXT;
  struct event *a = (struct event *)start, *b = (struct event *)end;
  if (!is(a, EVENT) || !is(b, EVENT) || !a->timing || !b->timing || !a->recorded || !b->recorded) return 400;
  *millis = b->when - a->when;
  return 0;
}

// An image is text, "STUB" and then kernels as name:parameters with the size of each parameter, "norm:24 add:8,8,4".
CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned options, CUjit_option *names, void **values) {
  IN_CONTEXT;
  if (options != 2 || names[0] != QUIRE_JIT_ERROR_LOG || names[1] != QUIRE_JIT_ERROR_LOG_BYTES) return 1;
  if ((uintptr_t)image % 16) return 1;
  if (strncmp(image, "STUB ", 5)) {
    snprintf(values[0], (uintptr_t)values[1], "ptxas application ptx input, line 1; fatal: not a STUB: %.20s\n", (const char *)image);
    return 218;
  }
  struct module *m = make(MODULE, sizeof *m);
  snprintf(m->text, sizeof m->text, "%s", (const char *)image + 4);
  *module = (CUmodule)m;
  say("module %d\n", number(m));
  return 0;
}

CUresult cuModuleUnload(CUmodule module) {
  IN_CONTEXT;
  return end(module, MODULE);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  IN_CONTEXT;
  char wanted[80];
  snprintf(wanted, sizeof wanted, " %s:", name);
  if (!is(module, MODULE)) return 400;
  const char *found = strstr(((struct module *)module)->text, wanted);
  if (!found) return 500;
  struct function *f = calloc(1, sizeof *f);
  snprintf(f->name, sizeof f->name, "%s", name);
  f->dynamic_bytes = 48 << 10;
  f->params = atoi(found + strlen(wanted));
  *function = (CUfunction)f;
  return 0;
}

CUresult cuFuncLoad(CUfunction function) {
  IN_CONTEXT;
  ((struct function *)function)->loaded = 1;
  return 0;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
  IN_CONTEXT;
  static const int values[] = {1024, 1 << 10, 64, 8, 40, 80, 90};
  if (attribute == 8) {
    *value = ((struct function *)function)->dynamic_bytes;
    return 0;
  }
  if (attribute < 0 || attribute > 6) return 1;
  *value = values[attribute];
  return 0;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  IN_CONTEXT;
  if (attribute == 9 && value == 100) return 0;
  if (attribute != 8 || value < 0 || value > 232448 - (1 << 10)) return 1;
  ((struct function *)function)->dynamic_bytes = value;
  return 0;
}

// One parameter of f->params bytes, or two where that is more than a hundred.
// lead is what lies before the first parameter: constant memory of parameters begins at 16 modulo 64, and those with tensor
// maps in them at 0.
static size_t lead(const struct function *f) { return f->params % 64 ? 0 : 48; }

CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *bytes) {
  IN_CONTEXT;
  const struct function *f = (struct function *)function;
  size_t params = f->params, first = params > 100 ? 96 : params;
  if (!params || index > 1 || (index == 1 && first == params)) return 1;
  *offset = lead(f) + (index ? first : 0);
  *bytes = index ? params - first : first;
  return 0;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared_bytes) {
  IN_CONTEXT;
  (void)function;
  *blocks = 2048 / threads;
  if (shared_bytes && (int)(232448 / shared_bytes) < *blocks) *blocks = 232448 / shared_bytes;
  return 0;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **params, void **extra) {
  IN_CONTEXT;
  struct function *f = (struct function *)function;
  if (params || !f->loaded) return 1;
  size_t bytes = 0;
  const unsigned char *packed = NULL;
  if (extra) {
    if (extra[0] != (void *)1 || extra[2] != (void *)2 || extra[4]) return 1;
    packed = extra[1];
    bytes = *(size_t *)extra[3];
  }
  if (bytes != (f->params ? lead(f) + f->params : 0) || (uintptr_t)packed % 64) return 1;
  packed += f->params ? lead(f) : 0;
  bytes = f->params;
  struct stream *s = (struct stream *)config->hStream;
  if (control->quiet && is(s, STREAM) && !s->capture) {  // for benchmarks
    control->launches++;
    return 0;
  }
  static __thread struct work w;
  w.what = LAUNCH;
  snprintf(w.kernel, sizeof w.kernel, "%s", f->name);
  int at = snprintf(w.text, sizeof w.text, "launch %s grid=%u,%u,%u block=%u,%u,%u shared=%u", f->name, config->gridDimX,
                    config->gridDimY, config->gridDimZ, config->blockDimX, config->blockDimY, config->blockDimZ,
                    config->sharedMemBytes);
  for (unsigned i = 0; i < config->numAttrs; i++) {
    const CUlaunchAttribute *a = &config->attrs[i];
    switch (a->id) {
      case 2: at += snprintf(w.text + at, sizeof w.text - at, " cooperative=%d", a->value.cooperative); break;
      case 4:
        at += snprintf(w.text + at, sizeof w.text - at, " cluster=%u,%u,%u", a->value.clusterDim.x, a->value.clusterDim.y,
                       a->value.clusterDim.z);
        break;
      case 6:
        at += snprintf(w.text + at, sizeof w.text - at, " early=%d", a->value.programmaticStreamSerializationAllowed);
        break;
      default: return 1;
    }
  }
  at += snprintf(w.text + at, sizeof w.text - at, " params=");
  for (size_t i = 0; i < bytes && at + 3 < (int)sizeof w.text; i++) at += snprintf(w.text + at, 3, "%02x", packed[i]);
  return queue(config->hStream, &w);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  IN_CONTEXT;
  if (!is(graph, GRAPH) || flags) return 400;
  struct graph *x = make(EXEC, sizeof *x);
  x->first = ((struct graph *)graph)->first;
  *exec = (CUgraphExec)x;
  say("exec %d of graph %d\n", number(x), number(graph));
  return 0;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info) {
  IN_CONTEXT;
  struct graph *x = (struct graph *)exec, *g = (struct graph *)graph;
  if (!is(x, EXEC) || !is(g, GRAPH)) return 400;
  struct work *a = x->first, *b = g->first;
  while (a && b && a->what == b->what && !strcmp(a->kernel, b->kernel)) a = a->next, b = b->next;
  info->result = a || b ? 2 : 0;
  if (a || b) return 910;
  x->first = g->first;
  say("exec %d takes graph %d\n", number(x), number(g));
  return 0;
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) {
  IN_CONTEXT;
  if (!is(exec, EXEC) || !is(stream, STREAM)) return 400;
  say("upload exec %d\n", number(exec));
  return 0;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  IN_CONTEXT;
  if (!is(exec, EXEC) || !is(stream, STREAM)) return 400;
  say("graph exec %d\n", number(exec));
  for (struct work *w = ((struct graph *)exec)->first; w; w = w->next) execute(w);
  return 0;
}

CUresult cuGraphDestroy(CUgraph graph) {
  IN_CONTEXT;
  return end(graph, GRAPH);
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  IN_CONTEXT;
  return end(exec, EXEC);
}

// Memory carries its size in front, 256 bytes before what the caller gets.
CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  IN_CONTEXT;
  if (!bytes) return 1;
  if ((int64_t)bytes > control->memory - taken) return 2;
  char *memory = aligned_alloc(256, (bytes + 511) / 256 * 256);
  *(size_t *)memory = bytes;
  taken += bytes;
  count(MEMORY, 1);
  *address = (CUdeviceptr)(uintptr_t)(memory + 256);
  return 0;
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  IN_CONTEXT;
  char *memory = (char *)(uintptr_t)address - 256;
  taken -= *(size_t *)memory;
  count(MEMORY, -1);
  free(memory);
  return 0;
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  IN_CONTEXT;
  struct work w = {.what = FILL, .to = (void *)(uintptr_t)to, .value = value, .bytes = bytes};
  snprintf(w.text, sizeof w.text, "fill bytes=%zu value=%u", bytes, value);
  return queue(stream, &w);
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t words, CUstream stream) {
  IN_CONTEXT;
  if (to % 4) return 1;
  struct work w = {.what = FILL32, .to = (void *)(uintptr_t)to, .value = value, .bytes = 4 * words};
  snprintf(w.text, sizeof w.text, "fill words=%zu value=%u", words, value);
  return queue(stream, &w);
}

static CUresult copy(const char *way, void *to, const void *from, size_t bytes, CUstream stream) {
  if (control->quiet) {
    memmove(to, from, bytes);
    return 0;
  }
  struct work w = {.what = COPY, .to = to, .from = from, .bytes = bytes};
  if (!is(stream, STREAM)) return 400;
  snprintf(w.text, sizeof w.text, "%s bytes=%zu on stream %d", way, bytes, number(stream));
  return queue(stream, &w);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  IN_CONTEXT;
  return copy("copy in", (void *)(uintptr_t)to, from, bytes, stream);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  IN_CONTEXT;
  return copy("copy out", to, (const void *)(uintptr_t)from, bytes, stream);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  IN_CONTEXT;
  return copy("copy", (void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes, stream);
}

CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
  IN_CONTEXT;
  if (!bytes || flags != 1) return 1;
  *address = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  count(HOST, 1);
  return 0;
}

CUresult cuMemFreeHost(void *address) {
  IN_CONTEXT;
  free(address);
  count(HOST, -1);
  return 0;
}

CUresult cuMemHostRegister_v2(void *address, size_t bytes, unsigned flags) {
  IN_CONTEXT;
  if (!address || !bytes || !(flags & 1)) return 1;
  say("register bytes=%zu flags=%u\n", bytes, flags);
  count(REGISTERED, 1);
  return 0;
}

CUresult cuMemHostUnregister(void *address) {
  IN_CONTEXT;
  if (!address) return 1;
  count(REGISTERED, -1);
  return 0;
}

// Virtual memory is that of the process: pages are files in memory, so that one can be mapped, taken away and mapped
// elsewhere with its contents.
static struct {
  char *at;
  size_t bytes;
} maps[RANGES];

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wanted, unsigned long long flags) {
  IN_CONTEXT;
  if (!bytes || bytes % GRANULARITY || alignment || wanted || flags) return 1;
  char *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return 2;
  count(RANGE, 1);
  *address = (CUdeviceptr)(uintptr_t)at;
  return 0;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) {
  IN_CONTEXT;
  char *at = (char *)(uintptr_t)address;
  for (int i = 0; i < RANGES; i++) {
    if (maps[i].bytes && maps[i].at >= at && maps[i].at < at + bytes) return 1;
  }
  if (munmap(at, bytes)) return 1;
  count(RANGE, -1);
  return 0;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *pages, size_t bytes, const CUmemAllocationProp *prop, unsigned long long flags) {
  IN_CONTEXT;
  if (!bytes || bytes % GRANULARITY || prop->type != 1 || prop->location.type != 1 || prop->location.id != number(current) || flags) return 1;
  if ((int64_t)bytes > control->memory - taken) return 2;
  int fd = memfd_create("pages", 0);
  if (fd < 0 || ftruncate(fd, bytes)) return 2;
  count(PAGES, 1);
  *pages = fd;
  return 0;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle pages) {
  IN_CONTEXT;
  if (close(pages)) return 1;
  count(PAGES, -1);
  return 0;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle pages, unsigned long long flags) {
  IN_CONTEXT;
  char *at = (char *)(uintptr_t)address;
  int empty = -1;
  for (int i = 0; i < RANGES; i++) {
    if (!maps[i].bytes) {
      empty = i;
    } else if (maps[i].at < at + bytes && at < maps[i].at + maps[i].bytes) {
      return 208;  // CUDA_ERROR_ALREADY_MAPPED
    }
  }
  if (!bytes || bytes % GRANULARITY || offset || flags || empty < 0) return 1;
  if (mmap(at, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, pages, 0) == MAP_FAILED) return 1;
  maps[empty].at = at;
  maps[empty].bytes = bytes;
  count(MAP, 1);
  return 0;
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  IN_CONTEXT;
  char *at = (char *)(uintptr_t)address;
  size_t found = 0;
  for (int i = 0; i < RANGES; i++) {
    if (maps[i].bytes && maps[i].at >= at && maps[i].at + maps[i].bytes <= at + bytes) found += maps[i].bytes;
  }
  if (found != bytes) return 1;
  for (int i = 0; i < RANGES; i++) {
    if (maps[i].bytes && maps[i].at >= at && maps[i].at < at + bytes) {
      maps[i].bytes = 0;
      count(MAP, -1);
    }
  }
  return mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED;
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *desc, size_t descs) {
  IN_CONTEXT;
  if (descs != 1 || desc->location.type != 1 || desc->location.id != number(current) || desc->flags != 3) return 1;
  return mprotect((void *)(uintptr_t)address, bytes, PROT_READ | PROT_WRITE) ? 1 : 0;
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *prop, CUmemAllocationGranularity_flags which) {
  IN_CONTEXT;
  if (prop->type != 1 || which) return 1;
  *bytes = GRANULARITY;
  return 0;
}

// A map is what it was made of, so that tests can read it.
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
                                const cuuint64_t *sizes, const cuuint64_t *strides, const cuuint32_t *box,
                                const cuuint32_t *steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  ANYWHERE;
  if ((uintptr_t)map % 64 || (uintptr_t)address % 16 || type != 9 || rank != 2 || strides[0] % 16 || box[0] != 64 ||
      box[1] < 1 || box[1] > 256 || steps[0] != 1 || steps[1] != 1 || interleave || swizzle != 3 || promotion != 3 || fill) {
    return 1;
  }
  memset(map, 0, sizeof *map);
  map->opaque[0] = (uintptr_t)address;
  map->opaque[1] = sizes[0];
  map->opaque[2] = sizes[1];
  map->opaque[3] = strides[0];
  map->opaque[4] = box[1];
  return 0;
}
