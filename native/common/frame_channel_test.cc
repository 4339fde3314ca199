#include "common/frame_channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "monitor/check.h"

namespace {

using namespace berth;
using Result = FrameReceiver::Result;

struct Pair {
  UniqueFd ours;
  UniqueFd theirs;
};

Pair make_pair() {
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  return Pair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void send_with_descriptors(int socket, const std::string& bytes, const std::vector<int>& descriptors) {
  char control[CMSG_SPACE(8 * sizeof(int))] = {};
  iovec part = {const_cast<char*>(bytes.data()), bytes.size()};
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
    memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size() * sizeof(int));
  }
  CHECK(sendmsg(socket, &message, 0) == static_cast<ssize_t>(bytes.size()));
}

// Descriptors stay with their frame, however the frames follow each other.
void test_descriptors() {
  const Pair pair = make_pair();
  send_with_descriptors(pair.theirs.get(), std::string("\x01\0\0\0a", 5), {});
  send_with_descriptors(pair.theirs.get(), std::string("\x02\0\0\0bc", 6), {0, 1});
  send_with_descriptors(pair.theirs.get(), std::string("\0\0\0\0", 4), {2});
  send_with_descriptors(pair.theirs.get(), std::string("\x01\0\0\0d", 5), {});
  FrameReceiver receiver;
  const std::pair<const char*, size_t> expected[] = {{"a", 0}, {"bc", 2}, {"", 1}, {"d", 0}};
  for (const auto& [body, descriptors] : expected) {
    Frame frame;
    CHECK(receiver.receive(pair.ours.get(), frame) == Result::kFrame);
    CHECK(frame.body == body && frame.descriptors.size() == descriptors);
    for (const UniqueFd& fd : frame.descriptors) CHECK((fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
  }
  Frame none;
  CHECK(receiver.receive(pair.ours.get(), none) == Result::kWouldBlock);
}

void test_pieces() {
  Pair pair = make_pair();
  FrameReceiver receiver;
  Frame frame;
  const std::string bytes("\x03\0\0\0xyz", 7);
  for (size_t i = 0; i < bytes.size(); ++i) {
    CHECK(receiver.receive(pair.ours.get(), frame) == Result::kWouldBlock);
    CHECK(write(pair.theirs.get(), bytes.data() + i, 1) == 1);
  }
  CHECK(receiver.receive(pair.ours.get(), frame) == Result::kFrame && frame.body == "xyz");
  CHECK(write(pair.theirs.get(), bytes.data(), 5) == 5);
  pair.theirs.reset();
  CHECK(receiver.receive(pair.ours.get(), frame) == Result::kFailed && errno == EPROTO);
}

void test_ends() {
  Pair pair = make_pair();
  FrameReceiver receiver;
  Frame frame;
  pair.theirs.reset();
  CHECK(receiver.receive(pair.ours.get(), frame) == Result::kClosed);
  const Pair other = make_pair();
  FrameReceiver second;
  CHECK(write(other.theirs.get(), "\xff\xff\xff\xff", 4) == 4);
  CHECK(second.receive(other.ours.get(), frame) == Result::kFailed && errno == EMSGSIZE);
}

// A sender whose peer does not read keeps the rest, and goes on where it stopped.
void test_sender() {
  Pair pair = make_pair();
  FrameSender sender;
  const std::string body(300000, 'q');
  for (int i = 0; i < 10; ++i) sender.queue(body);
  FrameReceiver receiver;
  int frames = 0;
  for (int turns = 0; frames < 10 && turns < 1000; ++turns) {
    CHECK(sender.flush(pair.ours.get()));
    Frame frame;
    while (receiver.receive(pair.theirs.get(), frame) == Result::kFrame) {
      CHECK(frame.body == body);
      ++frames;
      if (frames == 5) sender.queue(body);
    }
  }
  CHECK(frames >= 10 && sender.flush(pair.ours.get()));
  pair.theirs.reset();
  sender.queue(body);
  CHECK(!sender.flush(pair.ours.get()));
}

}  // namespace

int main() {
  test_descriptors();
  test_pieces();
  test_ends();
  test_sender();
  return 0;
}
