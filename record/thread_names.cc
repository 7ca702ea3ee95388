// See thread_names.h.
#include "record/thread_names.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "record/chunk_format.h"

namespace uvmtrace {
namespace {

constexpr size_t kNameBytes = 16;

// Bytes of the name; 0 if the thread is gone.
size_t ReadName(uint32_t tid, char (&name)[kNameBytes]) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/task/%u/comm", tid);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t got = read(file, name, sizeof(name));
  close(file);
  if (got <= 0) return 0;
  return name[got - 1] == '\n' ? static_cast<size_t>(got - 1) : static_cast<size_t>(got);
}

}  // namespace

ThreadNames::Entry* ThreadNames::Find(uint32_t tid) {
  const uint32_t id =
      index_.Find(MixHash(0, tid), [&](uint32_t candidate) { return entries_[candidate - 1].tid == tid; });
  return id == 0 ? nullptr : &entries_[id - 1];
}

bool ThreadNames::Add(uint32_t tid, std::string_view name, uint64_t now_ns) {
  if (!entries_.Reserve(1) || !index_.Insert(MixHash(0, tid), static_cast<uint32_t>(entries_.size() + 1))) return false;
  Entry entry = {};
  entry.tid = tid;
  entry.first_seen_ns = now_ns;
  entries_.Append(entry);
  Rename(entries_[entries_.size() - 1], name);
  return true;
}

void ThreadNames::Rename(Entry& entry, std::string_view name) {
  const size_t bytes = name.size() < sizeof(entry.name) ? name.size() : sizeof(entry.name);
  if (bytes != 0) memcpy(entry.name, name.data(), bytes);
  entry.name_bytes = static_cast<uint8_t>(bytes);
  if (!entry.is_new) ++new_entries_;
  entry.is_new = true;
}

bool ThreadNames::See(uint32_t tid, uint64_t now_ns) {
  if (tid == last_tid_ || tid == 0) return true;
  if (Find(tid) == nullptr) {
    char name[kNameBytes];
    if (!Add(tid, {name, ReadName(tid, name)}, now_ns)) return false;
  }
  last_tid_ = tid;
  return true;
}

bool ThreadNames::SeeNamed(uint32_t tid, std::string_view name, uint64_t now_ns) {
  Entry* entry = Find(tid);
  if (entry == nullptr) return Add(tid, name, now_ns);
  if (std::string_view(entry->name, entry->name_bytes) != name) Rename(*entry, name);
  return true;
}

void ThreadNames::AskAgain(uint64_t now_ns) {
  for (; asked_again_ < entries_.size(); ++asked_again_) {
    Entry& entry = entries_[asked_again_];
    if (now_ns < entry.first_seen_ns + 1'000'000'000u) break;
    char name[kNameBytes];
    const size_t bytes = ReadName(entry.tid, name);
    if (bytes != 0 && std::string_view(entry.name, entry.name_bytes) != std::string_view(name, bytes)) {
      Rename(entry, {name, bytes});
    }
  }
}

void ThreadNames::Append(WireBuffer& out, bool everything) {
  if (!everything && new_entries_ == 0) return;
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (!everything && !entry.is_new) continue;
    entry.is_new = false;
    const size_t body = out.BeginMessage(chunk_field::kThread);
    out.Unsigned(1, entry.tid);
    out.String(2, {entry.name, entry.name_bytes});
    out.EndMessage(body);
  }
  new_entries_ = 0;
}

}  // namespace uvmtrace
