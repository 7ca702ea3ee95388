// What a reading function returns: either it worked, or one line for a person.
//
// A message names the file, the offset where it matters, what is wrong and what to do about it; uvmtrace-report prints
// it as it is. Damage inside a readable trace is not an error: it is counted (ReadStatistics) and printed in the
// report.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace uvmtrace::analyzer {

class [[nodiscard]] Status {
 public:
  static Status Ok() { return Status(); }
  static Status Error(std::string message) {
    Status status;
    status.message_ = std::move(message);
    return status;
  }
  bool ok() const { return !message_.has_value(); }
  // Empty when ok.
  const std::string& message() const {
    static const std::string empty;
    return message_ ? *message_ : empty;
  }

 private:
  std::optional<std::string> message_;
};

template <typename Value>
class [[nodiscard]] Result {
 public:
  Result(Value value) : value_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  Value& value() { return *value_; }
  const Value& value() const { return *value_; }

 private:
  std::optional<Value> value_;
  Status status_;
};

}  // namespace uvmtrace::analyzer
