// What the stub of the driver and that of cuBLASLt have in common: the memory that they share with the test, and the log.
#ifndef QUIRE_STUB_H
#define QUIRE_STUB_H

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {  // what is counted while it lives
  CONTEXT, STREAM, EVENT, MODULE, GRAPH, EXEC, MEMORY, HOST, REGISTERED, RANGE, PAGES, MAP, KINDS
};

// The Go test has the same struct.
struct control {
  int32_t version, devices, major, minor;
  int64_t memory;     // bytes of a device
  char fail[64];      // this call fails
  int32_t fail_code;  // with this code
  int32_t fail_skip;  // after so many good ones
  char fault[64];     // this kernel is the end of the context
  int32_t fault_code;  // with this code
  int32_t fault_pending;  // the code, until a call that waits or copies finds out
  int32_t lost;           // the code that every call gives since
  int32_t quiet;  // no log
  int32_t busy;   // so many queries of an event say that it is not ready
  int32_t live[KINDS];
  int64_t launches;  // kernels that ran
  int32_t log_bytes;
  char log[1 << 20];
};

static struct control *control;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void attach(void) {
  const char *file = getenv("QUIRE_STUB");
  int fd = file ? open(file, O_RDWR) : -1;
  if (fd < 0) {
    fprintf(stderr, "stub: cannot open the file that QUIRE_STUB names\n");
    abort();
  }
  control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (control == MAP_FAILED) abort();
  close(fd);
}

// say adds to the log. No two libraries do so at once: cuBLASLt's calls are the owner's, who logs all but uploads.
static void say(const char *format, ...) {
  if (control->quiet) return;
  va_list args;
  va_start(args, format);
  pthread_mutex_lock(&mutex);
  size_t room = sizeof control->log - control->log_bytes;
  int wrote = vsnprintf(control->log + control->log_bytes, room, format, args);
  if (wrote > 0 && (size_t)wrote < room) control->log_bytes += wrote;
  pthread_mutex_unlock(&mutex);
  va_end(args);
}

// failing is the code that the test wants of a call, 0 for none.
static int failing(const char *call) {
  return !strcmp(call, control->fail) && control->fail_skip-- <= 0 ? control->fail_code : 0;
}

// Objects begin with their kind, so that a wrong or a closed handle is noticed. Freed ones stay readable on purpose.
struct object {
  int kind;
  int number;  // of its kind, from 1, for the log
};

static int number(const void *handle) { return ((const struct object *)handle)->number; }

#endif
