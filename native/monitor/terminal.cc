#include "monitor/terminal.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "monitor/path_in_root.h"

namespace berth {

UniqueFd open_terminal_slave(int master, const Process& process, const ChildChannel& channel) {
  if (master < 0) channel.refuse("open a terminal", "/dev/pts/ptmx");
  const int unlocked = 0;
  if (ioctl(master, TIOCSPTLCK, &unlocked) != 0) channel.refuse("unlock the terminal", "/dev/pts/ptmx");
  UniqueFd slave(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave) channel.refuse("open the terminal's other end", "/dev/pts/ptmx");
  if (fchown(slave.get(), process.uid, static_cast<gid_t>(-1)) != 0) channel.refuse("chown", "the terminal");
  winsize size = {};
  size.ws_col = static_cast<unsigned short>(process.terminal_columns);
  size.ws_row = static_cast<unsigned short>(process.terminal_rows);
  if (size.ws_col != 0 && size.ws_row != 0 && ioctl(slave.get(), TIOCSWINSZ, &size) != 0) {
    channel.refuse("set the terminal's size", "the terminal");
  }
  return slave;
}

UniqueFd open_terminal_in_container(const Process& process, const ChildChannel& channel) {
  const UniqueFd root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) channel.break_off("open", "/");
  const UniqueFd master = open_in_root(root.get(), "/dev/pts/ptmx", O_RDWR | O_NOCTTY, Links::kRefused);
  struct statfs status = {};
  if (master && (fstatfs(master.get(), &status) != 0 || status.f_type != DEVPTS_SUPER_MAGIC)) {
    channel.fail(ErrorKind::kInvalid, "open a terminal", "/dev/pts/ptmx", 0, "/dev/pts is not a devpts");
  }
  UniqueFd slave = open_terminal_slave(master.get(), process, channel);
  channel.send_terminal(master.get());
  return slave;
}

}  // namespace berth
