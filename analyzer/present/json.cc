#include "analyzer/present/json.h"

#include <google/protobuf/util/json_util.h>

namespace uvmtrace::analyzer {

std::string RenderJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return "";
  if (json.empty() || json.back() != '\n') json += '\n';
  return json;
}

}  // namespace uvmtrace::analyzer
