// A child of clone is alone with a copy of the heap, whose lock the log writer's thread may have held at that moment: a child
// that allocates could wait for it for ever, once in a million times. Here it ends at once, every time, so that a test sees
// it. What the children need is made before the clone. The C library's own functions may ask for memory, too: the linker
// (--wrap) leads their calls here as it does ours.
#include <cstdlib>
#include <new>

#include "common/clone3.h"

extern "C" {

void* __real_malloc(size_t size);
void* __real_calloc(size_t count, size_t size);
void* __real_realloc(void* memory, size_t size);
void __real_free(void* memory);

void* __wrap_malloc(size_t size) {
  if (berth::is_clone()) abort();
  return __real_malloc(size);
}

void* __wrap_calloc(size_t count, size_t size) {
  if (berth::is_clone()) abort();
  return __real_calloc(count, size);
}

void* __wrap_realloc(void* memory, size_t size) {
  if (berth::is_clone()) abort();
  return __real_realloc(memory, size);
}

void __wrap_free(void* memory) {
  if (!berth::is_clone()) __real_free(memory);
}

}  // extern "C"

void* operator new(size_t size) {
  void* const memory = malloc(size == 0 ? 1 : size);
  if (memory == nullptr) abort();
  return memory;
}

void* operator new[](size_t size) { return operator new(size); }

void operator delete(void* memory) noexcept { free(memory); }
void operator delete[](void* memory) noexcept { operator delete(memory); }
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
void operator delete[](void* memory, size_t) noexcept { operator delete(memory); }
