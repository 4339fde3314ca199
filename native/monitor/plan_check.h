// What of a request can be refused before anything is made.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "monitor/messages.h"

namespace berth {

std::optional<Failure> check_container_id(std::string_view id);
std::optional<Failure> check_process(const Process& process);
// `descriptors`: how many came with the request.
std::optional<Failure> check_plan(const Plan& plan, size_t descriptors);

}  // namespace berth
