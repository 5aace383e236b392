// A disk in memory that can lie: it fails or dies at the n-th call, and forgets what was not
// synced.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/file_system.h"

namespace weft::checkpoint::test {

// Thrown by every call from the moment of the simulated crash on. No std::exception, so that no
// code can handle it.
struct Crash {};

class LyingFileSystem : public FileSystem {
 public:
  // The call number `call` (from 0) of those that change something, on paths that contain
  // `path_part`, fails with `error_number`; 0: the machine dies there. A write does half of its
  // work first.
  struct Fault {
    int64_t call = 0;
    int error_number = 0;
    std::string path_part;
  };
  void arm(Fault fault);
  void disarm();
  bool fired() const { return fired_; }
  int64_t calls() const { return calls_; }  // matching ones since arm()

  // What is on the disk when the machine starts again.
  enum class Survives {
    everything,      // only the process died
    synced_only,     // power loss, and nothing else had reached the disk
    synced_and_luck  // power loss, and some more had
  };
  void restart(Survives survives, uint32_t seed = 0);

  void set_free_bytes(int64_t bytes) { free_bytes_ = bytes; }
  void fail_reads_of(const std::string& path_part) { unreadable_ = path_part; }
  std::string& bytes_of(const std::string& path);  // for damaging them

  std::unique_ptr<File> create(const std::string& path) override;
  std::unique_ptr<File> open(const std::string& path) override;
  bool exists(const std::string& path) override;
  std::vector<std::string> list(const std::string& folder) override;
  void make_folder(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  void remove(const std::string& path) override;
  void sync_folder(const std::string& path) override;
  int64_t free_bytes(const std::string& path) override;
  std::unique_ptr<FileLock> lock(const std::string& path, const std::string& owner,
                                 std::string* holder) override;

 private:
  friend class LyingFile;
  friend class LyingLock;
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  using Entries = std::map<std::string, NodePtr>;
  struct Node {
    bool folder = false;
    std::string data, synced_data;
    Entries entries;
    std::vector<Entries> durable;  // the synced state, then each state since
    bool locked = false;
  };

  NodePtr find(const std::string& path);
  NodePtr require(const std::string& path, const char* action);
  NodePtr parent_of(const std::string& path, const char* action);
  bool step(const std::string& path);  // counts a changing call; true: it fails now
  [[noreturn]] void fire(const std::string& path);
  void check_alive() const;
  void changed(Node& folder) { folder.durable.push_back(folder.entries); }
  void lose(Node& node, Survives survives, std::mt19937& luck);

  std::mutex mutex_;
  NodePtr root_ = make_folder_node();
  static NodePtr make_folder_node();
  Fault fault_;
  bool armed_ = false, fired_ = false, dead_ = false;
  int64_t calls_ = 0;
  int64_t free_bytes_ = int64_t{1} << 40;
  std::string unreadable_;
};

}  // namespace weft::checkpoint::test
