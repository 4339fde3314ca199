// A child of clone is alone with a copy of the heap, whose lock the log writer's thread may have held at that moment: a child
// that allocates could wait for it for ever, once in a million times. Here it ends at once, every time, so that a test sees
// it. What the children need is made before the clone.
#include <cstdlib>
#include <new>

#include "common/clone3.h"

void* operator new(size_t size) {
  if (berth::is_clone()) abort();
  void* const memory = malloc(size == 0 ? 1 : size);
  if (memory == nullptr) abort();
  return memory;
}

void* operator new[](size_t size) { return operator new(size); }

void operator delete(void* memory) noexcept {
  if (!berth::is_clone()) free(memory);
}

void operator delete[](void* memory) noexcept { operator delete(memory); }
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
void operator delete[](void* memory, size_t) noexcept { operator delete(memory); }
