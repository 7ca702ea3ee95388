// See memory_areas.h.
#include "driver/memory_areas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <string_view>

#include "driver/directory.h"
#include "driver/proc_file.h"
#include "record/hash_index.h"
#include "record/proc_file.h"

namespace uvmtrace {
namespace {

constexpr const char* kSource = "memory_areas";
constexpr uint64_t kBlockShift = 21;
// A mapping is defined again when so many bytes have gone to another node.
constexpr uint64_t kNodeStepBytes = 64 << 20;

uint64_t BlockOf(uint64_t address) { return address >> kBlockShift; }

// What stands behind the first `begin` characters. substr can throw, and this library has no exceptions.
std::string_view From(std::string_view text, size_t begin) {
  text.remove_prefix(std::min(begin, text.size()));
  return text;
}

// Takes the next word off the front of `line`.
std::string_view TakeWord(std::string_view* line) {
  const size_t begin = std::min(line->find_first_not_of(' '), line->size());
  line->remove_prefix(begin);
  const std::string_view word = line->substr(0, line->find(' '));
  line->remove_prefix(word.size());
  return word;
}

bool ParseHex(std::string_view text, uint64_t* value) {
  *value = 0;
  if (text.empty() || text.size() > 16) return false;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return false;
    *value = *value << 4 | static_cast<uint64_t>(digit);
  }
  return true;
}

// Whether there is a node with memory and without processors: a GPU's.
bool AnyNodeWithoutCpus(const char* root) {
  char folder[128];
  snprintf(folder, sizeof folder, "%s/sys/devices/system/node", root);
  bool found = false;
  ForEachEntry(folder, [&](const char* name) {
    if (strncmp(name, "node", 4) != 0 || name[4] < '0' || name[4] > '9') return;
    char path[256];
    char cpus[64];
    snprintf(path, sizeof path, "%s/%.64s/cpulist", folder, name);
    const ssize_t length = ReadSmallFile(path, cpus, sizeof cpus);
    if (length == 0 || (length == 1 && cpus[0] == '\n')) found = true;
  });
  return found;
}

}  // namespace

size_t MemoryAreas::ParseNodes(std::string_view line, uint64_t* start, NodeBytes* nodes, size_t capacity) {
  constexpr std::string_view kPageKib = "kernelpagesize_kB=";
  if (!ParseHex(TakeWord(&line), start)) return 0;
  size_t count = 0;
  uint64_t page_kib = 4;
  for (std::string_view word = TakeWord(&line); !word.empty(); word = TakeWord(&line)) {
    if (word.starts_with(kPageKib)) {
      page_kib = ParseDecimal(From(word, kPageKib.size()));
    } else if (word[0] == 'N' && count < capacity) {
      const size_t equals = word.find('=');
      if (equals == std::string_view::npos) continue;
      nodes[count++] = {static_cast<uint32_t>(ParseDecimal(From(word, 1))), ParseDecimal(From(word, equals + 1))};
    }
  }
  for (size_t i = 0; i < count; ++i) nodes[i].bytes *= page_kib * 1024;
  return count;
}

std::string_view MemoryAreas::NodeLine(uint64_t start, std::string_view* rest) {
  while (!rest->empty()) {
    const std::string_view line = rest->substr(0, rest->find('\n'));
    std::string_view words = line;
    uint64_t at = 0;
    if (ParseHex(TakeWord(&words), &at) && at > start) return {};
    rest->remove_prefix(std::min(line.size() + 1, rest->size()));
    if (at == start) return line;
  }
  return {};
}

bool MemoryAreas::ParseLine(std::string_view line, MemoryAreaDefinition* area) {
  const std::string_view range = TakeWord(&line);
  const size_t dash = range.find('-');
  if (dash == std::string_view::npos || !ParseHex(range.substr(0, dash), &area->start) ||
      !ParseHex(From(range, dash + 1), &area->end) || area->end <= area->start) {
    return false;
  }
  const std::string_view permissions = TakeWord(&line);
  for (int i = 0; i < 3; ++i) TakeWord(&line);  // offset, device, inode
  const size_t begin = line.find_first_not_of(' ');
  area->name = begin == std::string_view::npos ? std::string_view() : From(line, begin);
  if (area->name.starts_with("/dev/nvidia")) return false;
  const bool shared = permissions.size() == 4 && permissions[3] == 's';
  area->kind = area->name == "[heap]"             ? MemoryAreaKind::kHeap
               : area->name.starts_with("[stack") ? MemoryAreaKind::kStack
               : area->name.starts_with("/dev/shm") || area->name.starts_with("/memfd:") ||
                       area->name.starts_with("/SYSV") || (area->name.starts_with("/dev/zero") && shared)
                   ? MemoryAreaKind::kShared
               : area->name.starts_with("/") ? MemoryAreaKind::kFile
                                             : MemoryAreaKind::kAnonymous;
  return true;
}

void MemoryAreas::Start(const char* root) {
  snprintf(path_, sizeof path_, "%s/proc/self/maps", root);
  snprintf(nodes_path_, sizeof nodes_path_, "%s/proc/self/numa_maps", root);
  gpu_is_node_ = AnyNodeWithoutCpus(root);
  hit_blocks_ = static_cast<uint64_t*>(MapPages(kHitSlots * sizeof(uint64_t)));
  if (hit_blocks_ != nullptr) return Recorder::Get().SetSourceState(kSource, SourceStateKind::kActive);
  Recorder::Get().SetSourceState(kSource, SourceStateKind::kUnavailable,
                                 "no memory to remember which addresses were hit");
}

void MemoryAreas::Hit(uint64_t address) {
  const uint64_t block = BlockOf(address);
  if (!started() || block == 0) return;
  uint64_t& slot = hit_blocks_[block % kHitSlots];
  if (slot == block) return;
  if (slot != 0) Look();  // two blocks want one place: nothing that was hit is forgotten
  slot = block;
  ++hits_;
}

void MemoryAreas::Update(uint64_t now_ns) {
  if (hits_ > 0 && now_ns - last_look_ns_ >= kLookPeriodNs) Look();
}

void MemoryAreas::Finish() {
  if (hits_ > 0) Look();
}

void MemoryAreas::Look() {
  last_look_ns_ = NowNs();
  // What was hit, in order; free places, which are 0, come first.
  std::sort(hit_blocks_, hit_blocks_ + kHitSlots);
  const uint64_t* const end = hit_blocks_ + kHitSlots;
  if (!ReadProcFile(path_, text_)) {
    Recorder::Get().CountLoss(kSource, "/proc/self/maps could not be read: the mappings of these events are not known",
                              1);
  } else {
    std::string_view rest = AsText(text_);
    std::string_view nodes_rest;
    if (gpu_is_node_ && ReadProcFile(nodes_path_, nodes_text_)) nodes_rest = AsText(nodes_text_);
    const uint64_t* hit = std::upper_bound(hit_blocks_, hit_blocks_ + kHitSlots, uint64_t{0});
    while (!rest.empty() && hit != end) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
      MemoryAreaDefinition area{};
      if (!ParseLine(line, &area)) continue;
      hit = std::lower_bound(hit, end, BlockOf(area.start));
      if (hit == end || *hit > BlockOf(area.end - 1)) continue;
      area.seen_ns = last_look_ns_;
      NodeBytes nodes[kMaxNodes];
      uint64_t start = 0;
      area.nodes = {nodes, ParseNodes(NodeLine(area.start, &nodes_rest), &start, nodes, kMaxNodes)};
      Define(area);
    }
  }
  memset(hit_blocks_, 0, kHitSlots * sizeof(uint64_t));
  hits_ = 0;
}

// A mapping is defined again when it has grown, when another one has taken its place, or when its pages have moved.
void MemoryAreas::Define(const MemoryAreaDefinition& area) {
  uint64_t hash = static_cast<uint64_t>(area.kind);
  for (const char c : area.name) hash = MixHash(hash, static_cast<unsigned char>(c));
  for (const NodeBytes& one : area.nodes) hash = MixHash(MixHash(hash, one.node), one.bytes / kNodeStepBytes);
  Defined* place = nullptr;
  for (size_t i = 0; i < defined_.size(); ++i) {
    Defined& one = defined_[i];
    if (one.start == area.start && one.end == area.end && one.hash == hash) return;
    if (one.start == area.start) place = &one;
  }
  if (place != nullptr) {
    *place = {area.start, area.end, hash};
  } else if (defined_.Reserve(1)) {
    defined_.Append({area.start, area.end, hash});
  }
  Recorder::Get().DefineMemoryArea(area);
}

}  // namespace uvmtrace
