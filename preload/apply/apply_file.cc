#include "preload/apply/apply_file.h"

#include <charconv>

namespace uvmtrace {
namespace {

constexpr std::string_view kBlanks = " \t\r";

// substr would throw.
std::string_view Front(std::string_view text, size_t count) {
  return {text.data(), count < text.size() ? count : text.size()};
}
std::string_view From(std::string_view text, size_t first) {
  text.remove_prefix(first < text.size() ? first : text.size());
  return text;
}

std::string_view Trimmed(std::string_view text) {
  text = From(text, text.find_first_not_of(kBlanks));
  return Front(text, text.find_last_not_of(kBlanks) + 1);
}

// Takes what stands before `separator`, or all, off the front.
std::string_view TakeUpTo(std::string_view separator, std::string_view* text) {
  const size_t at = text->find(separator);
  const std::string_view part = Front(*text, at);
  text->remove_prefix(at == std::string_view::npos ? text->size() : at + separator.size());
  return part;
}

class Parser {
 public:
  Parser(ApplyFile* file, ApplyError* error) : file_(file), error_(error) {}

  bool Parse(std::string_view text) {
    if (text.size() > kApplyFileBytes) return Refuse("the file is larger than 1 MiB");
    while (!text.empty()) {
      ++line_;
      const std::string_view line = Trimmed(TakeUpTo("\n", &text));
      for (const char c : line) {
        if (static_cast<unsigned char>(c) < 0x20 && c != '\t') return Refuse("a control character: this is no text");
      }
      if (line.empty() || line.front() == '#') continue;
      if (!ParseLine(line)) return false;
    }
    if (!version_) return Refuse("there is no line \"version 1\"");
    return change_ == nullptr || CheckChange();
  }

 private:
  bool Refuse(const char* cause) {
    *error_ = {line_, cause};
    return false;
  }

  bool ParseLine(std::string_view line) {
    const size_t blank = line.find_first_of(kBlanks);
    const std::string_view keyword = Front(line, blank);
    const std::string_view value = Trimmed(From(line, blank));
    if (keyword == "version") {
      if (value != "1") return Refuse("this uvmtrace reads version 1 only");
      version_ = true;
      return true;
    }
    if (!version_) return Refuse("the first line must be \"version 1\"");
    if (keyword == "change") return BeginChange(value);
    if (change_ == nullptr) return Refuse("this must follow a line \"change\"");
    if (value.empty()) return Refuse("the value is missing");
    if (keyword == "site" || keyword == "reason" || keyword == "gain" || keyword == "place") return true;  // for people
    if (keyword == "path") return ParsePath(value, false);
    if (keyword == "python") return ParsePath(value, true);
    if (keyword == "action") return ParseAction(value);
    if (keyword == "kernel") return SetOnce(value, &change_->kernel);
    if (keyword == "variable") return SetOnce(value, &change_->variable);
    return Refuse("an unknown keyword");
  }

  bool BeginChange(std::string_view name) {
    if (change_ != nullptr && !CheckChange()) return false;
    if (name.empty()) return Refuse("the value is missing");
    if (file_->changes == kApplyChanges) return Refuse("more than 24 changes");
    change_ = &file_->change[file_->changes++];
    *change_ = {};
    change_->line = line_;
    return true;
  }

  bool CheckChange() {
    const bool complete = change_->actions != 0 && (change_->paths != 0 || !change_->variable.empty());
    if (complete) return true;
    line_ = change_->line;
    return Refuse(change_->actions == 0 ? "this change has no action" : "this change has no path and no variable");
  }

  bool SetOnce(std::string_view value, std::string_view* field) {
    if (!field->empty()) return Refuse("given twice in this change");
    *field = value;
    return true;
  }

  bool ParseAction(std::string_view value) {
    for (size_t i = 0; i < kApplyActionCount; ++i) {
      if (value != kApplyActionNames[i]) continue;
      change_->actions |= 1u << i;
      return true;
    }
    return Refuse("an unknown action");
  }

  bool ParsePath(std::string_view value, bool python) {
    if (file_->paths == kApplyPaths) return Refuse("more than 256 paths");
    ApplyPath path;
    path.first_frame = file_->frames;
    path.change = static_cast<uint8_t>(file_->changes - 1);
    path.python = python;
    while (!value.empty()) {
      const std::string_view text = Trimmed(TakeUpTo(" < ", &value));
      if (text == "..." && value.empty()) {
        path.open_end = true;
        break;
      }
      if (file_->frames == kApplyFrames) return Refuse("more than 4096 frames");
      ApplyFrame& frame = file_->frame[file_->frames];
      if (!(python ? ParsePythonFrame(text, &frame) : ParseFrame(text, &frame))) {
        return Refuse(python ? "a frame that is not \"function (file)\""
                             : "a frame that is neither \"file!symbol\" nor \"file+0xoffset\"");
      }
      ++file_->frames;
      ++path.frames;
    }
    file_->path[file_->paths++] = path;
    ++change_->paths;
    return true;
  }

  static bool ParseFrame(std::string_view text, ApplyFrame* frame) {
    *frame = {};
    const size_t mark = text.find('!');
    if (mark != std::string_view::npos) {
      frame->file = Front(text, mark);
      frame->function = From(text, mark + 1);
      return !frame->file.empty() && !frame->function.empty() &&
             frame->function.find_first_of(kBlanks) == std::string_view::npos;
    }
    const size_t plus = text.rfind("+0x");
    if (plus == std::string_view::npos || plus == 0) return false;
    frame->file = Front(text, plus);
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + plus + 3, end, frame->offset, 16);
    return error == std::errc() && rest == end;
  }

  static bool ParsePythonFrame(std::string_view text, ApplyFrame* frame) {
    *frame = {};
    const size_t open = text.rfind(" (");
    if (open == std::string_view::npos || open == 0 || text.back() != ')') return false;
    frame->function = Front(text, open);
    frame->file = Front(From(text, open + 2), text.size() - open - 3);
    return !frame->file.empty();
  }

  ApplyFile* const file_;
  ApplyError* const error_;
  ApplyChange* change_ = nullptr;
  uint32_t line_ = 0;
  bool version_ = false;
};

}  // namespace

bool ParseApplyFile(std::string_view text, ApplyFile* file, ApplyError* error) {
  file->changes = file->paths = file->frames = 0;
  return Parser(file, error).Parse(text);
}

}  // namespace uvmtrace
