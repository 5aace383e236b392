#include "tests/checkpoint/lying_file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/base/error.h"

namespace weft::checkpoint::test {
namespace {

std::vector<std::string> parts_of(const std::string& path) {
  std::vector<std::string> parts;
  for (const auto& part : std::filesystem::path(path))
    if (part != "/" && !part.empty()) parts.push_back(part.string());
  return parts;
}

std::string name_in(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

}  // namespace

class LyingFile : public File {
 public:
  LyingFile(LyingFileSystem& files, LyingFileSystem::NodePtr node, std::string path)
      : files_(files), node_(std::move(node)), path_(std::move(path)) {}

  void write_at(const void* data, size_t bytes, int64_t offset) override {
    const std::lock_guard<std::mutex> guard(files_.mutex_);
    const bool fails = files_.step(path_);
    const size_t done = fails ? bytes / 2 : bytes;
    if (node_->data.size() < static_cast<size_t>(offset) + done)
      node_->data.resize(static_cast<size_t>(offset) + done);
    std::memcpy(node_->data.data() + offset, data, done);
    if (fails) files_.fire(path_);
  }

  void read_at(void* data, size_t bytes, int64_t offset) override {
    const std::lock_guard<std::mutex> guard(files_.mutex_);
    files_.check_alive();
    if (!files_.unreadable_.empty() && path_.find(files_.unreadable_) != std::string::npos)
      fail_io(EIO, "read", path_);
    const size_t end = static_cast<size_t>(offset) + bytes;
    if (end > node_->data.size())
      fail(ErrorKind::bad_data, "{} ends at byte {}", path_, node_->data.size());
    std::memcpy(data, node_->data.data() + offset, bytes);
  }

  void reserve(int64_t bytes) override {
    const std::lock_guard<std::mutex> guard(files_.mutex_);
    if (files_.step(path_)) files_.fire(path_);
    node_->data.resize(static_cast<size_t>(bytes));
  }

  int64_t size() override {
    const std::lock_guard<std::mutex> guard(files_.mutex_);
    files_.check_alive();
    return static_cast<int64_t>(node_->data.size());
  }

  void sync() override {
    const std::lock_guard<std::mutex> guard(files_.mutex_);
    if (files_.step(path_)) files_.fire(path_);
    node_->synced_data = node_->data;
  }

 private:
  LyingFileSystem& files_;
  LyingFileSystem::NodePtr node_;
  std::string path_;
};

class LyingLock : public FileLock {
 public:
  explicit LyingLock(LyingFileSystem::NodePtr node) : node_(std::move(node)) {}
  ~LyingLock() override { node_->locked = false; }

 private:
  LyingFileSystem::NodePtr node_;
};

LyingFileSystem::NodePtr LyingFileSystem::make_folder_node() {
  auto node = std::make_shared<Node>();
  node->folder = true;
  node->durable.emplace_back();
  return node;
}

void LyingFileSystem::arm(Fault fault) {
  const std::lock_guard<std::mutex> guard(mutex_);
  fault_ = std::move(fault);
  armed_ = true;
  fired_ = false;
  calls_ = 0;
}

void LyingFileSystem::disarm() {
  const std::lock_guard<std::mutex> guard(mutex_);
  armed_ = false;
}

void LyingFileSystem::check_alive() const {
  if (dead_) throw Crash();
}

bool LyingFileSystem::step(const std::string& path) {
  check_alive();
  if (!armed_ || path.find(fault_.path_part) == std::string::npos) return false;
  return calls_++ == fault_.call;
}

void LyingFileSystem::fire(const std::string& path) {
  fired_ = true;
  if (fault_.error_number == 0) {
    dead_ = true;
    throw Crash();
  }
  fail_io(fault_.error_number, "do it to", path);
}

void LyingFileSystem::lose(Node& node, Survives survives, std::mt19937& luck) {
  node.locked = false;
  const bool lucky = survives == Survives::synced_and_luck;
  if (!node.folder) {
    if (survives == Survives::everything) return;
    const std::string written = node.data;
    node.data = node.synced_data;
    if (lucky && luck() % 2 == 0) {  // the size had reached the disk, and some of the bytes
      node.data.resize(written.size());
      const size_t some = written.empty() ? 0 : luck() % written.size();
      std::copy_n(written.begin(), some, node.data.begin());
    }
    node.synced_data = node.data;
    return;
  }
  if (survives != Survives::everything)
    node.entries = node.durable[lucky ? luck() % node.durable.size() : 0];
  node.durable = {node.entries};
  for (auto& [name, child] : node.entries) lose(*child, survives, luck);
}

void LyingFileSystem::restart(Survives survives, uint32_t seed) {
  const std::lock_guard<std::mutex> guard(mutex_);
  std::mt19937 luck(seed);
  lose(*root_, survives, luck);
  dead_ = armed_ = false;
}

std::string& LyingFileSystem::bytes_of(const std::string& path) {
  const std::lock_guard<std::mutex> guard(mutex_);
  return require(path, "damage")->data;
}

LyingFileSystem::NodePtr LyingFileSystem::find(const std::string& path) {
  NodePtr node = root_;
  for (const std::string& part : parts_of(path)) {
    const auto next = node->entries.find(part);
    if (next == node->entries.end()) return nullptr;
    node = next->second;
  }
  return node;
}

LyingFileSystem::NodePtr LyingFileSystem::require(const std::string& path, const char* action) {
  NodePtr node = find(path);
  if (!node) fail_io(ENOENT, action, path);
  return node;
}

LyingFileSystem::NodePtr LyingFileSystem::parent_of(const std::string& path, const char* action) {
  return require(std::filesystem::path(path).parent_path().string(), action);
}

std::unique_ptr<File> LyingFileSystem::create(const std::string& path) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (step(path)) fire(path);
  const NodePtr parent = parent_of(path, "create");
  NodePtr& node = parent->entries[name_in(path)];
  if (!node) {
    node = std::make_shared<Node>();
    changed(*parent);
  }
  node->data.clear();
  return std::make_unique<LyingFile>(*this, node, path);
}

std::unique_ptr<File> LyingFileSystem::open(const std::string& path) {
  const std::lock_guard<std::mutex> guard(mutex_);
  check_alive();
  return std::make_unique<LyingFile>(*this, require(path, "open"), path);
}

bool LyingFileSystem::exists(const std::string& path) {
  const std::lock_guard<std::mutex> guard(mutex_);
  check_alive();
  return find(path) != nullptr;
}

std::vector<std::string> LyingFileSystem::list(const std::string& folder) {
  const std::lock_guard<std::mutex> guard(mutex_);
  check_alive();
  std::vector<std::string> names;
  for (const auto& [name, node] : require(folder, "list")->entries) names.push_back(name);
  return names;
}

void LyingFileSystem::make_folder(const std::string& path) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (step(path)) fire(path);
  NodePtr node = root_;
  for (const std::string& part : parts_of(path)) {
    NodePtr& next = node->entries[part];
    if (!next) {
      next = make_folder_node();
      changed(*node);
    }
    node = next;
  }
}

void LyingFileSystem::rename(const std::string& from, const std::string& to) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (step(from)) fire(from);
  const NodePtr node = require(from, "rename");
  const NodePtr old_parent = parent_of(from, "rename"), new_parent = parent_of(to, "rename");
  const NodePtr there = find(to);
  if (there && there->folder && !there->entries.empty()) fail_io(ENOTEMPTY, "rename to", to);
  old_parent->entries.erase(name_in(from));
  new_parent->entries[name_in(to)] = node;
  changed(*old_parent);
  if (new_parent != old_parent) changed(*new_parent);
}

void LyingFileSystem::remove(const std::string& path) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (step(path)) fire(path);
  if (!find(path)) return;
  const NodePtr parent = parent_of(path, "remove");
  parent->entries.erase(name_in(path));
  changed(*parent);
}

void LyingFileSystem::sync_folder(const std::string& path) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (step(path)) fire(path);
  const NodePtr node = require(path, "sync");
  node->durable = {node->entries};
}

int64_t LyingFileSystem::free_bytes(const std::string&) {
  const std::lock_guard<std::mutex> guard(mutex_);
  check_alive();
  return free_bytes_;
}

std::unique_ptr<FileLock> LyingFileSystem::lock(const std::string& path, const std::string& owner,
                                                std::string* holder) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (step(path)) fire(path);
  const NodePtr parent = parent_of(path, "lock");
  NodePtr& node = parent->entries[name_in(path)];
  if (!node) {
    node = std::make_shared<Node>();
    changed(*parent);
  }
  if (node->locked) {
    *holder = node->data;
    return nullptr;
  }
  node->locked = true;
  node->data = owner;
  return std::make_unique<LyingLock>(node);
}

}  // namespace weft::checkpoint::test
