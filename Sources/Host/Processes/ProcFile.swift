// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import SystemPackage

/// Reads the small text files under /proc.
package enum ProcFile {
  /// Opens a file under /proc/<pid> (open(2)), with O_CLOEXEC added to `flags`.
  /// - Throws: `.noSuchProcess` when the file does not exist.
  static func open(
    _ path: String, _ flags: Int32, _ charge: ChargedShares.Charge? = nil
  ) throws(Errno) -> OwnedDescriptor {
    let descriptor = Glibc.open(path, flags | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw errno == ENOENT ? .noSuchProcess : Errno(rawValue: errno)
    }
    return OwnedDescriptor(owning: descriptor, closedBy: nil, charge: charge)
  }

  /// The text of the file at `path`.
  /// - Throws: the errno of open(2) or read(2); `.noSuchProcess` when the thread ends meanwhile.
  package static func read(_ path: String) throws(Errno) -> String {
    let file = try open(path, O_RDONLY)
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16384)
    while true {
      let count = Glibc.read(file.rawValue, &chunk, chunk.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw Errno(rawValue: errno)
      }
      if count == 0 { break }
      bytes.append(contentsOf: chunk[..<count])
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Whether `path` is a symbolic link whose text is `target`.
  package static func link(_ path: String, is target: String) -> Bool {
    var text = [UInt8](repeating: 0, count: target.utf8.count + 1)
    let count = readlink(path, &text, text.count)
    return count == target.utf8.count && text.prefix(count).elementsEqual(target.utf8)
  }

  /// The line that the file at `path` consists of, at most 256 bytes, by one read(2).
  /// - Throws: as ``read(_:)``.
  package static func readLine(_ path: String) throws(Errno) -> [UInt8] {
    let file = try open(path, O_RDONLY)
    var failure: Errno?
    let line = [UInt8](unsafeUninitializedCapacity: 256) { buffer, initialized in
      let count = Glibc.read(file.rawValue, buffer.baseAddress, buffer.count)
      if count < 0 { failure = Errno(rawValue: errno) }
      initialized = max(count, 0)
    }
    if let failure { throw failure }
    return line
  }

  /// The first word after `name:` in a text with the format of /proc/<pid>/status. `nil` when no
  /// line begins with `name:`. The search compares bytes, not characters: the kernel's text is
  /// ASCII, and every call that needs a process ID runs this search.
  package static func field(_ name: String, of text: String) -> Substring? {
    words(ofField: name, of: text).first
  }

  /// The words after `name:`, as ``field(_:of:)``. Empty when no line begins with `name:`.
  static func words(ofField name: String, of text: String) -> [Substring] {
    let key = name.utf8
    for line in text.utf8.split(separator: UInt8(ascii: "\n"))
    where line.starts(with: key) && line.dropFirst(key.count).first == UInt8(ascii: ":") {
      return words(of: line.dropFirst(key.count + 1))
    }
    return []
  }

  /// The parts between spaces, tabs and newlines.
  package static func words(of text: Substring.UTF8View) -> [Substring] {
    text.split { $0 == 0x20 || $0 == 0x09 || $0 == 0x0a }.map(Substring.init)
  }
}

enum ProcDirectory {
  /// Whether an entry of the directory at `path` satisfies `predicate`. False when the directory
  /// cannot be opened. Entries whose names begin with a dot are left out.
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
