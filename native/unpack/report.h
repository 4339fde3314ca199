// What a confined process tells the agent: lines of JSON.
#pragma once

#include <string>
#include <string_view>

#include "unpack/failure.h"

namespace berth::unpack {

// A JSON string. Names are bytes: those that are no ASCII are written as if they were Latin-1, so that the line is always
// valid JSON and the reader can get the bytes back.
std::string quoted(std::string_view text);

// Throw Failure.
void write_all(int fd, std::string_view text);
void write_line(int fd, std::string line);

// On standard error: {"step":"...","path":"...","errno":N,"message":"..."}, and "request" with an id of whom it is for
void report(const Failure& failure, std::string_view request_id = {});

}  // namespace berth::unpack
