// Frames over a non-blocking stream socket: four bytes of length, little-endian, then that many bytes. Descriptors come as
// SCM_RIGHTS with the first byte of the frame that they belong to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "common/unique_fd.h"

namespace berth {

constexpr size_t kLargestFrame = 4 << 20;

struct Frame {
  std::string body;
  std::vector<UniqueFd> descriptors;
};

class FrameReceiver {
 public:
  enum class Result { kFrame, kWouldBlock, kClosed, kFailed };

  // Takes one frame, or as much of it as is there. kFailed: errno says why (EMSGSIZE: a frame over kLargestFrame;
  // EPROTO: the peer closed in the middle of one).
  //
  // It never reads past the end of a frame, so that descriptors cannot be given to the wrong one.
  Result receive(int socket, Frame& frame);

 private:
  // Bytes read (0: the peer closed), or -1 with errno.
  long read_some(int socket, char* into, size_t length);

  uint8_t header_[4] = {};
  size_t header_length_ = 0;
  std::string body_;
  size_t body_length_ = 0;
  std::vector<UniqueFd> descriptors_;
};

class FrameSender {
 public:
  void queue(std::string_view body, std::vector<UniqueFd> descriptors = {});
  // Writes what the socket takes. False: the peer is gone (errno).
  bool flush(int socket);
  // Bytes that wait for the peer.
  size_t queued() const { return data_.size() - sent_; }

 private:
  // Sends bytes, the first of which carries the descriptors.
  long send_some(int socket, size_t length, const std::vector<UniqueFd>& descriptors) const;

  struct Carried {
    size_t offset;  // of the frame in data_
    std::vector<UniqueFd> descriptors;
  };

  std::string data_;
  size_t sent_ = 0;
  std::deque<Carried> carried_;
};

}  // namespace berth
