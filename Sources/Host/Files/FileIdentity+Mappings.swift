// Who maps a file. Nobody is told when a process unmaps something, so it is looked up, in the maps of
// all processes that this one may look into.

internal import CLinux
internal import Glibc

extension FileIdentity {
  /// Whether a process maps any byte of `range` of the file. A process that may not be looked into
  /// does not count.
  /// - Parameter own: a mapping that does not count either.
  package func isMapped(_ range: Range<UInt64>, besides own: SharedPages? = nil) -> Bool {
    let myself = String(getpid())
    return ProcDirectory.contains("/proc") { process in
      guard process.first?.isNumber == true else { return false }
      let excluded = process == myself ? own : nil
      return switch isMapped(range, accordingTo: "/proc/\(process)/maps", besides: excluded) {
      case .some(let answer): answer
      // A main thread that has ended shows nothing of what its process maps.
      case nil:
        ProcDirectory.contains("/proc/\(process)/task") { task in
          isMapped(range, accordingTo: "/proc/\(process)/task/\(task)/maps") ?? false
        }
      }
    }
  }

  /// Nil when nothing at all is mapped.
  private func isMapped(
    _ range: Range<UInt64>, accordingTo path: String, besides own: SharedPages? = nil
  ) -> Bool? {
    guard let text = fopen(path, "re") else { return false }
    defer { fclose(text) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    var isEmpty = true
    // Most lines can be seen to be of another file without being taken apart.
    let inode = " \(inode) "
    while true {
      let count = getline(&line, &capacity, text)
      guard count > 0, let line else { return isEmpty ? nil : false }
      isEmpty = false
      guard strstr(line, inode) != nil,
        let area = VirtualMemoryArea(
          mapsLine: Array(UnsafeRawBufferPointer(start: line, count: count))),
        area.file == self, own?.begin(at: area.start) != true
      else { continue }
      let (end, overflow) = area.fileOffset.addingReportingOverflow(area.end &- area.start)
      if area.fileOffset < range.upperBound, overflow || end > range.lowerBound { return true }
    }
  }
}

enum ProcDirectory {
  /// Whether an entry of the directory at `path` satisfies `predicate`; false when there is none.
  static func contains(_ path: String, where predicate: (String) -> Bool) -> Bool {
    guard let directory = opendir(path) else { return false }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.first != ".", predicate(name) { return true }
    }
    return false
  }
}
