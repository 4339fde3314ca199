#include "monitor/attachment.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "monitor/cri_format.h"
#include "monitor/event_loop.h"

namespace berth {

namespace {

// The rest of one read, and what a pipe can have in it when its container ends. It takes memory only while it is used.
constexpr size_t kHeldBytes = 2 * kReadBytes;
constexpr uint64_t kStalledMs = 10000;

// Each socket begins with a byte from its peer that is taken when all has come to its end. It is there still in one that is
// cut off: then the kernel ends the peer's reading with ECONNRESET, however full the socket is, instead of as if that were all.
bool leave_mark(int peer) { return send(peer, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1; }

void take_mark(int fd) {
  char mark;
  while (recv(fd, &mark, 1, MSG_DONTWAIT) < 0 && errno == EINTR) {
  }
}

}  // namespace

std::unique_ptr<Attachment> Attachment::make(bool with_input, std::array<bool, kStreams> wanted,
                                             std::array<UniqueFd, kStreams>& peers) {
  std::unique_ptr<Attachment> attachment(new Attachment());
  attachment->input_open_ = with_input;
  for (size_t i = 0; i < kStreams; ++i) {
    Outlet& outlet = attachment->outlets_[i];
    outlet.owner = attachment.get();
    outlet.wanted = wanted[i];
    if (i > 0 && !wanted[i]) continue;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return nullptr;
    outlet.fd.reset(ends[0]);
    peers[i].reset(ends[1]);
    if (!leave_mark(ends[1])) return nullptr;
    if (!wanted[i]) continue;
    void* held = mmap(nullptr, kHeldBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (held == MAP_FAILED) return nullptr;
    outlet.held = static_cast<char*>(held);
  }
  return attachment;
}

Attachment::~Attachment() {
  for (Outlet& outlet : outlets_) {
    if (outlet.held != nullptr) munmap(outlet.held, kHeldBytes);
  }
}

void Attachment::Outlet::on_ready(uint32_t events) { owner->list_->on_ready(*this, events); }

void Attachments::watch(Outlet& outlet, int operation) {
  epoll_event event = {};
  const bool is_first = &outlet == &outlet.owner->outlets_.front();
  if (is_first && outlet.owner->input_open_) event.events |= EPOLLRDHUP;
  if (outlet.end > 0) event.events |= EPOLLOUT;
  event.data.ptr = static_cast<WriterSource*>(&outlet);
  // When the kernel has no memory for it, its end is found by the next write.
  epoll_ctl(epoll_, operation, outlet.fd.get(), &event);
}

void Attachments::add(Attachment& attachment, ContainerLog& log) {
  attachment.list_ = this;
  attachment.log_ = &log;
  attachment.next = first_;
  first_ = &attachment;
  for (Outlet& outlet : attachment.outlets_) {
    if (outlet.fd) watch(outlet, EPOLL_CTL_ADD);
  }
}

bool Attachments::pass(const ContainerLog& log, size_t stream, const char* data, size_t length) {
  bool all_taken = true;
  for (Attachment* attachment = first_; attachment != nullptr;) {
    Attachment& current = *attachment;
    attachment = attachment->next;
    Outlet& outlet = current.outlets_[stream];
    if (current.log_ != &log || !outlet.wanted || outlet.ending || !outlet.fd) continue;
    write(outlet, data, length);
    if (outlet.fd && outlet.end > 0) all_taken = false;
    detach_when_ended(current);
  }
  return all_taken;
}

void Attachments::write(Outlet& outlet, const char* data, size_t length) {
  while (length > 0 && outlet.end == 0) {
    const ssize_t count = send(outlet.fd.get(), data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) {
      data += count;
      length -= static_cast<size_t>(count);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      return close(outlet);
    }
  }
  if (length == 0) return;
  if (outlet.end + length > kHeldBytes) return cut_off(outlet);
  memcpy(outlet.held + outlet.end, data, length);
  const bool held_nothing = outlet.end == 0;
  outlet.end += length;
  if (!held_nothing) return;
  ++held_;
  outlet.held_since_ms = monotonic_ms();
  watch(outlet, EPOLL_CTL_MOD);
}

void Attachments::on_ready(Outlet& outlet, uint32_t events) {
  Attachment& attachment = *outlet.owner;
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
    // Its peer closes all of it at once.
    if (!outlet.shut) return detach(attachment);
    // Ours is ended already, so that this may be the input's end alone. Whether the peer has gone, the other outlet tells.
    epoll_ctl(epoll_, EPOLL_CTL_DEL, outlet.fd.get(), nullptr);
    return end_input(attachment);
  }
  if ((events & EPOLLRDHUP) != 0 && attachment.input_open_) {
    end_input(attachment);
    watch(outlet, EPOLL_CTL_MOD);
  }
  if ((events & EPOLLOUT) != 0) flush(outlet);
}

void Attachments::flush(Outlet& outlet) {
  while (outlet.begin < outlet.end) {
    const ssize_t count =
        send(outlet.fd.get(), outlet.held + outlet.begin, outlet.end - outlet.begin, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) {
      outlet.begin += static_cast<size_t>(count);
      outlet.held_since_ms = monotonic_ms();
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR) {
      return detach(*outlet.owner);
    }
  }
  outlet.begin = outlet.end = 0;
  --held_;
  madvise(outlet.held, kHeldBytes, MADV_DONTNEED);
  watch(outlet, EPOLL_CTL_MOD);
  drained(outlet);
  if (!outlet.ending) return;
  shut_or_close(outlet);
  detach_when_ended(*outlet.owner);
}

void Attachments::end_input(Attachment& attachment) {
  if (!attachment.input_open_) return;
  attachment.input_open_ = false;
  if (attachment.log_ != nullptr) observer_.on_input_ended(*attachment.log_);
}

void Attachments::drained(const Outlet& outlet) {
  const Attachment& owner = *outlet.owner;
  const auto stream = static_cast<size_t>(&outlet - owner.outlets_.data());
  if (owner.log_ == nullptr) return;
  for (const Attachment* other = first_; other != nullptr; other = other->next) {
    if (other->log_ == owner.log_ && other->outlets_[stream].fd && other->outlets_[stream].end > 0) return;
  }
  observer_.on_drained(*owner.log_, stream);
}

void Attachments::end(const ContainerLog& log, size_t stream) {
  for (Attachment* attachment = first_; attachment != nullptr;) {
    Attachment& current = *attachment;
    attachment = attachment->next;
    if (current.log_ != &log) continue;
    Outlet& outlet = current.outlets_[stream];
    // There for the input alone.
    if (!outlet.wanted && current.input_open_) continue;
    end_outlet(outlet);
    detach_when_ended(current);
  }
}

void Attachments::end_outlet(Outlet& outlet) {
  outlet.ending = true;
  if (outlet.fd && outlet.end == 0) shut_or_close(outlet);
}

void Attachments::shut_or_close(Outlet& outlet) {
  if (&outlet != &outlet.owner->outlets_.front()) return close(outlet);
  // The first one stays until all has ended: its peer's half is the input.
  shutdown(outlet.fd.get(), SHUT_WR);
  outlet.shut = true;
}

void Attachments::release(const ContainerLog& log) {
  for (Attachment* attachment = first_; attachment != nullptr;) {
    Attachment& current = *attachment;
    attachment = attachment->next;
    if (current.log_ != &log) continue;
    current.log_ = nullptr;
    for (Outlet& outlet : current.outlets_) end_outlet(outlet);
    detach_when_ended(current);
  }
}

void Attachments::cut_off_stalled(uint64_t now_ms) {
  for (Attachment* attachment = first_; attachment != nullptr;) {
    Attachment& current = *attachment;
    attachment = attachment->next;
    const bool stalled = std::any_of(current.outlets_.begin(), current.outlets_.end(), [now_ms](const Outlet& outlet) {
      return outlet.fd && outlet.end > 0 && now_ms - outlet.held_since_ms >= kStalledMs;
    });
    if (!stalled) continue;
    for (Outlet& outlet : current.outlets_) cut_off(outlet);
    detach(current);
  }
}

void Attachments::close(Outlet& outlet) {
  if (!outlet.fd) return;
  take_mark(outlet.fd.get());
  // A child of the monitor may have a copy of it for a moment.
  shutdown(outlet.fd.get(), SHUT_RDWR);
  let_go(outlet);
}

void Attachments::cut_off(Outlet& outlet) {
  if (outlet.fd) let_go(outlet);
}

void Attachments::let_go(Outlet& outlet) {
  epoll_ctl(epoll_, EPOLL_CTL_DEL, outlet.fd.get(), nullptr);
  outlet.fd.reset();
  outlet.ending = true;
  if (outlet.end == 0) return;
  outlet.begin = outlet.end = 0;
  --held_;
  drained(outlet);
}

bool Attachments::detach_when_ended(Attachment& attachment) {
  for (const Outlet& outlet : attachment.outlets_) {
    if (outlet.fd && (!outlet.ending || outlet.end > 0)) return false;
  }
  detach(attachment);
  return true;
}

void Attachments::detach(Attachment& attachment) {
  for (Outlet& outlet : attachment.outlets_) close(outlet);
  Attachment** place = &first_;
  while (*place != nullptr && *place != &attachment) place = &(*place)->next;
  if (*place == nullptr) return;
  *place = attachment.next;
  if (attachment.input_open_ && attachment.log_ != nullptr) observer_.on_input_ended(*attachment.log_);
  observer_.on_detached(attachment);
}

}  // namespace berth
