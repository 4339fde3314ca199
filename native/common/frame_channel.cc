#include "common/frame_channel.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace berth {

namespace {
constexpr size_t kDescriptorsPerMessage = 253;  // the kernel's SCM_MAX_FD

void take_descriptors(msghdr& message, std::vector<UniqueFd>& into) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      into.emplace_back(fd);
    }
  }
}
}  // namespace

long FrameReceiver::read_some(int socket, char* into, size_t length) {
  alignas(cmsghdr) char control[CMSG_SPACE(kDescriptorsPerMessage * sizeof(int))];
  iovec part = {into, length};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  long count;
  do {
    count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return -1;
  take_descriptors(message, descriptors_);
  // The table of descriptors was full, and some of the frame's are lost.
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    errno = EMFILE;
    return -1;
  }
  return count;
}

FrameReceiver::Result FrameReceiver::receive(int socket, Frame& frame) {
  for (;;) {
    char* into;
    size_t wanted;
    if (header_length_ < sizeof header_) {
      into = reinterpret_cast<char*>(header_) + header_length_;
      wanted = sizeof header_ - header_length_;
    } else {
      into = body_.data() + body_length_;
      wanted = body_.size() - body_length_;
    }
    if (wanted > 0) {
      const long count = read_some(socket, into, wanted);
      if (count < 0) return errno == EAGAIN ? Result::kWouldBlock : Result::kFailed;
      if (count == 0) {
        if (header_length_ == 0) return Result::kClosed;
        errno = EPROTO;
        return Result::kFailed;
      }
      if (header_length_ < sizeof header_) {
        header_length_ += static_cast<size_t>(count);
        if (header_length_ < sizeof header_) continue;
        const size_t length = header_[0] | header_[1] << 8 | header_[2] << 16 | static_cast<size_t>(header_[3]) << 24;
        if (length > kLargestFrame) {
          errno = EMSGSIZE;
          return Result::kFailed;
        }
        body_.resize(length);
        body_length_ = 0;
      } else {
        body_length_ += static_cast<size_t>(count);
      }
    }
    if (body_length_ == body_.size() && header_length_ == sizeof header_) {
      frame.body = std::move(body_);
      frame.descriptors = std::move(descriptors_);
      body_.clear();
      descriptors_.clear();
      header_length_ = 0;
      body_length_ = 0;
      return Result::kFrame;
    }
  }
}

void FrameSender::queue(std::string_view body, std::vector<UniqueFd> descriptors) {
  data_.erase(0, sent_);
  for (Carried& carried : carried_) carried.offset -= sent_;
  sent_ = 0;
  if (!descriptors.empty()) carried_.push_back({data_.size(), std::move(descriptors)});
  const auto length = static_cast<uint32_t>(body.size());
  const char header[4] = {static_cast<char>(length), static_cast<char>(length >> 8), static_cast<char>(length >> 16),
                          static_cast<char>(length >> 24)};
  data_.append(header, sizeof header).append(body);
}

long FrameSender::send_some(int socket, size_t length, const std::vector<UniqueFd>& descriptors) const {
  alignas(cmsghdr) char control[CMSG_SPACE(kDescriptorsPerMessage * sizeof(int))];
  iovec part = {const_cast<char*>(data_.data()) + sent_, length};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    for (size_t i = 0; i < descriptors.size(); ++i) {
      const int fd = descriptors[i].get();
      memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool FrameSender::flush(int socket) {
  while (queued() > 0) {
    const bool carries = !carried_.empty() && carried_.front().offset == sent_;
    // As far as the next frame with descriptors, which go with its first byte.
    const size_t next = carries ? 1 : 0;
    const size_t end = carried_.size() > next ? carried_[next].offset : data_.size();
    static const std::vector<UniqueFd> kNone;
    const long count = send_some(socket, end - sent_, carries ? carried_.front().descriptors : kNone);
    if (count < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN;
    }
    if (carries) carried_.pop_front();
    sent_ += static_cast<size_t>(count);
  }
  // The buffers are given back: a monitor at rest holds no memory for what it once sent.
  std::deque<Carried>().swap(carried_);
  std::string().swap(data_);
  sent_ = 0;
  return true;
}

}  // namespace berth
