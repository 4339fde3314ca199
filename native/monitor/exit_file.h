// <pod directory>/exits/<container id>: how a container ended, for agents that were not there.
#pragma once

#include <string>

#include "monitor/messages.h"

namespace berth {

bool make_exit_directory(const std::string& pod_directory);
// Whole or not at all.
void write_exit_file(const std::string& pod_directory, const ContainerExit& exit);
void remove_exit_file(const std::string& pod_directory, const std::string& id);

}  // namespace berth
