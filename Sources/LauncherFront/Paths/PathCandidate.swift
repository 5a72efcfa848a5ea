// SPDX-License-Identifier: Apache-2.0

// Decides quickly that a path does not lead to a file of this server, as nearly no path does. The
// kernel then executes the call. The other paths are candidates and are walked (PathWalk).
//
// A path can lead to an entry of the tree when its last name is that of an entry, or when its last
// component is a symbolic link or a node that mknod(2) has made. So one lstat(2) decides for most
// paths, relative to the program's own directory, and nothing is allocated.

internal import CLinux
internal import Glibc
internal import Host

struct PathCandidate {
  private let tree: VirtualTree
  private let task: HostTask
  /// Whether programs may have other root directories than this process.
  private let rootsDiffer: Bool

  init(_ tree: VirtualTree, of task: HostTask, rootsDiffer: Bool) {
    self.tree = tree
    self.task = task
    self.rootsDiffer = rootsDiffer
  }

  /// The room for "/proc/<pid>/fd/<number>/" in front of a path.
  private static let prefixRoom = 64
  /// The kernel follows 40 links (ELOOP).
  private static let mostLinks = 40

  /// Returns the path at `address` when it may lead to a file of this server, without the 0 at its
  /// end. Returns `nil` for other paths, and for paths that cannot be read: the kernel then answers
  /// with the right errno.
  /// - Parameters:
  ///   - directory: where a relative path begins: AT_FDCWD or a descriptor.
  ///   - followsLast: whether a symbolic link at the end is followed.
  func path(
    at address: UInt64, from directory: Int32, followsLast: Bool
  ) -> [UInt8]? {
    withUnsafeTemporaryAllocation(byteCount: Self.prefixRoom + Int(PATH_MAX), alignment: 1) {
      let room = UnsafeMutableRawBufferPointer(rebasing: $0[Self.prefixRoom...])
      guard let count = task.readString(at: address, into: room), count > 0 else { return nil }
      let path = UnsafeRawBufferPointer(rebasing: room[..<count])
      if isCandidateByName(path) { return Array(path) }
      // A link is always followed where a slash follows it.
      var end = count
      while end > 1, path[end - 1] == PathName.slash { end -= 1 }
      guard followsLast || end < count else { return nil }
      let last = room[end]
      room[end] = 0
      let isCandidate = leadsOn(
        UnsafeRawBufferPointer(rebasing: path[..<end]), from: directory, in: $0)
      room[end] = last
      return isCandidate ? Array(path) : nil
    }
  }

  private func isCandidateByName(_ path: UnsafeRawBufferPointer) -> Bool {
    let last = PathName.last(of: path)
    if last.isEmpty { return false }
    if tree.mayLead(path) { return true }
    if last.count <= 2, last.allSatisfy({ $0 == PathName.dot }) { return true }
    // Links of procfs to an open file or to a directory.
    return last.allSatisfy { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }
      && (last.startIndex == 0 || path[..<last.startIndex].suffix(4).elementsEqual("/fd/".utf8))
      || last.elementsEqual("cwd".utf8)
  }

  /// Whether the last component is a link that leads to a candidate, or a node of this server.
  /// - Parameter buffer: `path` with room in front of it and a 0 behind it.
  private func leadsOn(
    _ path: UnsafeRawBufferPointer, from directory: Int32,
    in buffer: UnsafeMutableRawBufferPointer
  ) -> Bool {
    guard let whole = prefixed(path, from: directory, in: buffer) else { return false }
    var file = CLinux_file()
    guard CLinux_lstat(whole, &file) == 0 else { return false }
    if file.isCharacterDevice { return tree.node(number: file.special) != nil }
    guard file.isLink else { return false }
    return linkLeadsOn(String(cString: whole), 1)
  }

  /// As ``leadsOn(_:from:in:)``, for a link that this process reaches by `path`.
  private func linkLeadsOn(_ path: String, _ links: Int) -> Bool {
    guard links < Self.mostLinks, let text = Self.readLink(path) else { return false }
    let isCandidate = text.withUnsafeBytes { isCandidateByName($0) }
    if isCandidate { return true }
    let target = String(decoding: text, as: UTF8.self)
    let next: String
    if target.hasPrefix("/") {
      next = rootsDiffer ? "/proc/\(task.id)/root" + target : target
    } else {
      next = path.prefix(through: path.lastIndex(of: "/") ?? path.startIndex) + target
    }
    var file = CLinux_file()
    guard CLinux_lstat(next, &file) == 0 else { return false }
    if file.isCharacterDevice { return tree.node(number: file.special) != nil }
    return file.isLink && linkLeadsOn(next, links + 1)
  }

  private static func readLink(_ path: String) -> [UInt8]? {
    withUnsafeTemporaryAllocation(byteCount: Int(PATH_MAX), alignment: 1) { buffer in
      guard let base = buffer.baseAddress else { return nil }
      let count = readlink(path, base.assumingMemoryBound(to: CChar.self), buffer.count)
      guard count > 0, count < buffer.count else { return nil }
      return Array(buffer[..<count])
    }
  }

  /// Writes in front of a path what makes this process reach the same file by it.
  private func prefixed(
    _ path: UnsafeRawBufferPointer, from directory: Int32,
    in buffer: UnsafeMutableRawBufferPointer
  ) -> UnsafePointer<CChar>? {
    guard let base = buffer.baseAddress else { return nil }
    let start = base.advanced(by: Self.prefixRoom)
    if path.first == PathName.slash, !rootsDiffer {
      return UnsafePointer(start.assumingMemoryBound(to: CChar.self))
    }
    let below =
      path.first == PathName.slash ? "root" : directory == AT_FDCWD ? "cwd" : "fd/\(directory)"
    let prefix = "/proc/\(task.id)/\(below)/"
    guard prefix.utf8.count <= Self.prefixRoom else { return nil }
    let first = start.advanced(by: -prefix.utf8.count)
    buffer[(Self.prefixRoom - prefix.utf8.count)..<Self.prefixRoom].copyBytes(from: prefix.utf8)
    return UnsafePointer(first.assumingMemoryBound(to: CChar.self))
  }
}

extension HostTask {
  /// Reads a C string of at most `buffer.count - 1` bytes.
  /// - Returns: the number of bytes before the 0; `nil` when the string cannot be read or is
  ///   longer.
  func readString(at address: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
    var count = 0
    while count < buffer.count {
      let (next, overflow) = address.addingReportingOverflow(UInt64(count))
      if overflow { return nil }
      // A read never crosses a page boundary, because the page after the string may be unmapped.
      let piece = min(256, 4096 - Int(next % 4096), buffer.count - count)
      let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[count..<count + piece])
      do { try read(at: next, into: chunk) } catch { return nil }
      if let base = chunk.baseAddress, let end = memchr(base, 0, piece) {
        return count + (UnsafeMutableRawPointer(end) - base)
      }
      count += piece
    }
    return nil
  }
}
