// What those who attach get of a container's output: a socket for each stream, filled by the log writer's thread with what
// it reads. A socket that takes no more holds up the container's stream until its peer reads on; a peer that reads nothing
// for a while is cut off, so that no container waits for ever.
//
// As everything on that thread this neither allocates nor frees; the main thread makes and deletes attachments.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "common/unique_fd.h"

namespace berth {

class ContainerLog;
class Attachment;

// What the writer's epoll tells of.
class WriterSource {
 public:
  virtual void on_ready(uint32_t events) = 0;

 protected:
  ~WriterSource() = default;
};

class AttachmentObserver {
 public:
  // Nobody holds the stream up any more.
  virtual void on_drained(ContainerLog& log, size_t stream) = 0;
  // Somebody who could give input has ended it, or has gone.
  virtual void on_input_ended(ContainerLog& log) = 0;
  // The writer does not touch it any more: it is to be deleted, elsewhere.
  virtual void on_detached(Attachment& attachment) = 0;

 protected:
  ~AttachmentObserver() = default;
};

class Attachments;

class Attachment {
 public:
  static constexpr size_t kStreams = 2;

  // `peers`: the other ends. The first is always there: it stands for the whole attachment, and its peer's shutdown for
  // writing is the end of the input. Null with errno.
  static std::unique_ptr<Attachment> make(bool with_input, std::array<bool, kStreams> wanted,
                                          std::array<UniqueFd, kStreams>& peers);
  ~Attachment();
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;

  Attachment* next = nullptr;  // in whichever list it is

 private:
  friend class Attachments;

  struct Outlet final : public WriterSource {
    void on_ready(uint32_t events) override;

    Attachment* owner = nullptr;
    UniqueFd fd;
    bool wanted = false;
    bool ending = false;
    bool shut = false;  // the peer knows that nothing more comes
    // What the socket did not take: [begin, end) of `held`.
    char* held = nullptr;
    size_t begin = 0;
    size_t end = 0;
    uint64_t held_since_ms = 0;  // of its last progress
  };

  Attachment() = default;

  Attachments* list_ = nullptr;
  ContainerLog* log_ = nullptr;
  bool input_open_ = false;
  std::array<Outlet, kStreams> outlets_;
};

// Those of one pod, all on the writer's thread.
class Attachments {
 public:
  explicit Attachments(AttachmentObserver& observer) : observer_(observer) {}

  void use(int epoll) { epoll_ = epoll; }
  void add(Attachment& attachment, ContainerLog& log);
  // False: the stream should not be read on until on_drained(). What is passed all the same is held, as far as there is room.
  bool pass(const ContainerLog& log, size_t stream, const char* data, size_t length);
  // Nothing more comes: of one stream, or of the whole log, which is not touched any more.
  void end(const ContainerLog& log, size_t stream);
  void release(const ContainerLog& log);
  // To be called now and then while it is true that somebody holds something up.
  bool any_held() const { return held_ > 0; }
  void cut_off_stalled(uint64_t now_ms);

 private:
  friend class Attachment;
  using Outlet = Attachment::Outlet;

  void on_ready(Outlet& outlet, uint32_t events);
  void watch(Outlet& outlet, int operation);
  void write(Outlet& outlet, const char* data, size_t length);
  void flush(Outlet& outlet);
  void end_outlet(Outlet& outlet);
  void shut_or_close(Outlet& outlet);
  void end_input(Attachment& attachment);
  void close(Outlet& outlet);
  // What was to come does not: its peer is told.
  void cut_off(Outlet& outlet);
  void let_go(Outlet& outlet);
  void drained(const Outlet& outlet);
  void detach(Attachment& attachment);
  bool detach_when_ended(Attachment& attachment);

  AttachmentObserver& observer_;
  int epoll_ = -1;
  Attachment* first_ = nullptr;
  int held_ = 0;
};

}  // namespace berth
