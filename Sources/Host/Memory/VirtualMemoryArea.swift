// SPDX-License-Identifier: Apache-2.0

// A mapping of another process: the fields of the kernel's struct vm_area_struct that
// /proc/<pid>/maps shows. Since Linux 6.11 an ioctl on that file (PROCMAP_QUERY) looks up one
// address; on older hosts its text is read.

internal import CLinux
internal import Glibc
package import SystemPackage

package struct VirtualMemoryArea: Equatable, Sendable {
  package struct Access: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let read = Access(rawValue: 1)
    package static let write = Access(rawValue: 2)
    package static let execute = Access(rawValue: 4)
    /// MAP_SHARED: a store changes the file, so all other mappings of the file show it.
    package static let shared = Access(rawValue: 8)
  }

  package let start: UInt64
  /// Exclusive.
  package let end: UInt64
  package let access: Access
  /// The offset in the file of the byte at `start`.
  package let fileOffset: UInt64
  /// `nil` for private anonymous memory and for the kernel's own pages ([vdso] and similar).
  package let file: FileIdentity?

  init(
    start: UInt64, end: UInt64, access: Access, fileOffset: UInt64,
    major: UInt32, minor: UInt32, inode: UInt64
  ) {
    self.start = start
    self.end = end
    self.access = access
    self.fileOffset = fileOffset
    file = inode == 0 ? nil : FileIdentity(major: major, minor: minor, inode: inode)
  }
}

extension AddressSpace {
  /// The mapping that contains `address`. `nil` when nothing is mapped there.
  /// - Throws: `.noSuchProcess` when the mm is gone.
  package func area(containing address: UInt64) throws(Errno) -> VirtualMemoryArea? {
    var found = CLinux_vma()
    switch CLinux_procmap_query(maps.rawValue, address, &found) {
    case 0:
      return VirtualMemoryArea(
        start: found.start, end: found.end, access: .init(rawValue: found.flags),
        fileOffset: found.offset, major: found.device_major, minor: found.device_minor,
        inode: found.inode)
    case -ENOENT: return nil
    case -ENOTTY, -EINVAL: return try areaFromText(containing: address)
    case -ESRCH: throw .noSuchProcess
    case let failure: throw Errno(rawValue: -failure)
    }
  }

  /// Does what ``area(containing:)`` does, on hosts before Linux 6.11.
  func areaFromText(containing address: UInt64) throws(Errno) -> VirtualMemoryArea? {
    guard let area = try firstArea(endingAfter: address, where: { _ in true }) else { return nil }
    return area.start <= address ? area : nil
  }

  /// The shared mapping of `file`, writable by the process, that contains the byte at `offset`.
  /// - Throws: `.noSuchProcess` when the mm is gone.
  package func writableArea(
    of file: FileIdentity, at offset: UInt64
  ) throws(Errno) -> VirtualMemoryArea? {
    try firstArea(endingAfter: 0) { area in
      area.file == file && area.access.isSuperset(of: [.shared, .write])
        && offset >= area.fileOffset && offset - area.fileOffset < area.end - area.start
    }
  }

  /// The first mapping that ends behind `address` and satisfies `isWanted`. The lines of the text
  /// are sorted by address; of the lines before `address` only the end address is parsed.
  private func firstArea(
    endingAfter address: UInt64, where isWanted: (VirtualMemoryArea) -> Bool
  ) throws(Errno) -> VirtualMemoryArea? {
    let capacity = 65536
    let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 1)
    defer { chunk.deallocate() }
    // The bytes of an incomplete line, moved to the start of the chunk.
    var kept = 0
    var position: off_t = 0
    var text = maps
    while true {
      let free = UnsafeMutableRawBufferPointer(rebasing: chunk[kept...])
      let count = pread(text.rawValue, free.baseAddress, free.count, position)
      if count < 0 {
        if errno == EINTR { continue }
        guard errno == ESRCH, position == 0, text === maps else {
          throw errno == ESRCH ? .noSuchProcess : Errno(rawValue: errno)
        }
        text = try mapsOfCaller()
        continue
      }
      if count == 0 {
        if position == 0 { throw .noSuchProcess }
        return nil
      }
      position += off_t(count)
      var rest = UnsafeRawBufferPointer(rebasing: chunk[..<(kept + count)])
      while let length = rest.firstIndex(of: UInt8(ascii: "\n")) {
        let line = UnsafeRawBufferPointer(rebasing: rest[..<length])
        if let end = VirtualMemoryArea.end(ofMapsLine: line), end > address,
          let area = VirtualMemoryArea(mapsLine: Array(line)), isWanted(area)
        {
          return area
        }
        rest = UnsafeRawBufferPointer(rebasing: rest[(length + 1)...])
      }
      guard rest.count < capacity else { return nil }
      kept = rest.count
      chunk.copyMemory(from: rest)
    }
  }
}

extension AddressSpace {
  /// Opens the text for the process whose call is being served. The text of a process that has
  /// ended cannot be read, also while another process has the same mm (fs/proc: m_start()).
  private func mapsOfCaller() throws(Errno) -> OwnedDescriptor {
    let process = processID
    let text = try ProcFile.open("/proc/\(process)/maps", O_RDONLY)
    // Checked after the open: the process may have executed another program.
    guard isMemory(ofProcess: process) else { throw .noSuchProcess }
    return text
  }
}

extension VirtualMemoryArea {
  /// Parses `start-end rwxp offset major:minor inode name` (proc_pid_maps(5)).
  init?(mapsLine line: [UInt8]) {
    let words = line.split(separator: UInt8(ascii: " "), maxSplits: 5)
    guard words.count >= 5 else { return nil }
    let range = words[0].split(separator: UInt8(ascii: "-"))
    let device = words[3].split(separator: UInt8(ascii: ":"))
    guard range.count == 2, device.count == 2,
      let start = Self.number(range[0], radix: 16), let end = Self.number(range[1], radix: 16),
      let offset = Self.number(words[2], radix: 16),
      let major = Self.number(device[0], radix: 16), let minor = Self.number(device[1], radix: 16),
      let inode = Self.number(words[4], radix: 10)
    else { return nil }
    var access: Access = []
    for (letter, flag) in zip("rwxs".utf8, [Access.read, .write, .execute, .shared])
    where words[1].contains(letter) {
      access.insert(flag)
    }
    self.init(
      start: start, end: end, access: access, fileOffset: offset,
      major: UInt32(truncatingIfNeeded: major), minor: UInt32(truncatingIfNeeded: minor),
      inode: inode)
  }

  /// The end address, which stands between '-' and ' '.
  fileprivate static func end(ofMapsLine line: UnsafeRawBufferPointer) -> UInt64? {
    guard let dash = line.firstIndex(of: UInt8(ascii: "-")) else { return nil }
    return number(line[(dash + 1)...].prefix { $0 != UInt8(ascii: " ") }, radix: 16)
  }

  private static func number(_ digits: some Collection<UInt8>, radix: UInt64) -> UInt64? {
    var value: UInt64 = 0
    for byte in digits {
      let digit: UInt8
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
      default: return nil
      }
      value = value &* radix &+ UInt64(digit)
    }
    return digits.isEmpty ? nil : value
  }
}
