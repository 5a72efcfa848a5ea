// SPDX-License-Identifier: Apache-2.0

// A search for mappings of a file. The kernel does not report when a process unmaps a file, so the
// maps of all processes are searched that this process may inspect.

internal import CLinux
internal import Glibc

extension FileIdentity {
  /// Whether a process maps any byte of `range` of the file. Processes that this process may not
  /// inspect are left out.
  /// - Parameter own: a mapping of this process that is left out too.
  package func isMapped(_ range: Range<UInt64>, besides own: SharedRegisters? = nil) -> Bool {
    let myself = String(getpid())
    return ProcDirectory.contains("/proc") { process in
      guard process.first?.isNumber == true else { return false }
      let excluded = process == myself ? own : nil
      return switch isMapped(range, accordingTo: "/proc/\(process)/maps", besides: excluded) {
      case .some(let answer): answer
      // When the main thread of a process has ended, /proc/<pid>/maps is empty although the process
      // may have mappings; the maps of the other threads show them.
      case nil:
        ProcDirectory.contains("/proc/\(process)/task") { task in
          isMapped(range, accordingTo: "/proc/\(process)/task/\(task)/maps") ?? false
        }
      }
    }
  }

  /// Whether the maps file at `path` shows a mapping of any byte of `range`. `nil` when the file is
  /// empty.
  private func isMapped(
    _ range: Range<UInt64>, accordingTo path: String, besides own: SharedRegisters? = nil
  ) -> Bool? {
    guard let text = fopen(path, "re") else { return false }
    defer { fclose(text) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    var isEmpty = true
    // Most lines are about other files, which this text search finds without parsing the line.
    let inode = " \(inode) "
    while true {
      let count = getline(&line, &capacity, text)
      guard count > 0, let line else { return isEmpty ? nil : false }
      isEmpty = false
      guard strstr(line, inode) != nil,
        let area = VirtualMemoryArea(
          mapsLine: Array(UnsafeRawBufferPointer(start: line, count: count))),
        area.file == self, own?.isMapped(at: area.start) != true
      else { continue }
      let (end, overflow) = area.fileOffset.addingReportingOverflow(area.end &- area.start)
      if area.fileOffset < range.upperBound, overflow || end > range.lowerBound { return true }
    }
  }
}
