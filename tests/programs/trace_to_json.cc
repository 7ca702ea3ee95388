// Prints a trace as JSON, by libprotobuf: an oracle that shares no code with our own writer and reader.
#include <google/protobuf/util/json_util.h>

#include <fstream>
#include <iostream>
#include <sstream>

#include "proto/uvmtrace.pb.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::ifstream file(argv[1], std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  uvmtrace::Trace trace;
  if (!file || !trace.ParseFromString(bytes.str())) {
    std::cerr << argv[1] << ": not a trace\n";
    return 3;
  }
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(trace, &json, options).ok()) return 3;
  std::cout << json << "\n";
}
