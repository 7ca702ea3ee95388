#include "examples/oversub/arguments.h"

#include <CLI/CLI.hpp>

#include "examples/oversub/mode.h"

namespace oversub {

ParseResult ParseArguments(int argc, char** argv, Arguments* arguments) {
  CLI::App app(
      "m chunks of data take turns on a GPU that has room for k of them. Measures what it costs to swap by hand\n"
      "(pageable or pinned copies) and to let unified memory do it (page faults or prefetch), and checks the data.");
  std::string mode = "all";
  std::vector<std::string> names = ModeNames();
  names.emplace_back("all");
  const CLI::AsSizeValue bytes(/*kb_is_1000=*/false);
  app.add_option("--mode", mode, "manual, pinned, uvm, prefetch, or all of them in turn")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  app.add_option("-m", arguments->chunks, "Chunks of data")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("-k", arguments->resident_chunks, "Chunks that fit on the GPU")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--capacity", arguments->capacity_bytes,
                 "Device memory to use, as 2GiB or 64MiB: the program itself evicts the least recently used chunk, and "
                 "the GPU is never oversubscribed. Without it: all free device memory, and the driver evicts")
      ->transform(bytes);
  app.add_option("--chunk", arguments->chunk_bytes, "Size of a chunk (default: capacity / k); rounded down to 2 MiB")
      ->transform(bytes);
  app.add_option("--cycles", arguments->cycles, "Passes over all chunks")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--seed", arguments->seed, "Seed of the data")->capture_default_str();
  app.add_option("--time-limit", arguments->time_limit_seconds,
                 "Seconds after which a mode is given up, looked at between chunks")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--readonly", arguments->readonly, "The kernel only reads: do clean chunks still travel back?");
  app.add_flag("--verify-host", arguments->verify_host,
               "After the last cycle also read everything on the host; this moves what is still on the GPU");
  app.add_flag("--allow-oversubscription", arguments->allow_oversubscription,
               "On real hardware, let managed memory exceed the GPU. Drivers are known to hang in this, some beyond "
               "repair but by a reboot: only on a machine that is yours");
  app.add_option("--json", arguments->json_path, "Write the results as JSON to this file, or to stdout for -");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? ParseResult::kStopOk : ParseResult::kStopUsage;
  }
  arguments->modes = mode == "all" ? ModeNames() : std::vector<std::string>{mode};
  return ParseResult::kRun;
}

}  // namespace oversub
