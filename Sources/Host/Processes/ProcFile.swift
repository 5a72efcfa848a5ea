internal import Glibc
package import SystemPackage

/// Reading of the small text files under /proc.
package enum ProcFile {
  /// open(2) of a file under /proc/<pid>, O_CLOEXEC added.
  /// - Throws: `.noSuchProcess` for a file that is not there.
  static func open(_ path: String, _ flags: Int32) throws(Errno) -> OwnedDescriptor {
    let descriptor = Glibc.open(path, flags | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw errno == ENOENT ? .noSuchProcess : Errno(rawValue: errno)
    }
    return OwnedDescriptor(owning: descriptor)
  }

  /// The whole of `path`.
  /// - Throws: the errno of open(2) or read(2); a task that ends meanwhile gives `.noSuchProcess`.
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

  /// Whether the symbolic link at `path` says `target`.
  package static func link(_ path: String, is target: String) -> Bool {
    var text = [UInt8](repeating: 0, count: target.utf8.count + 1)
    let count = readlink(path, &text, text.count)
    return count == target.utf8.count && text.prefix(count).elementsEqual(target.utf8)
  }

  /// What one read(2) gives of `path`, which has one short line.
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

  /// The first word after `name:` in a status-like file, or nil. By bytes: text of the kernel's has no
  /// letters that are made of several characters, and every call that names a thread looks here.
  package static func field(_ name: String, of text: String) -> Substring? {
    let key = name.utf8
    for line in text.utf8.split(separator: UInt8(ascii: "\n"))
    where line.starts(with: key) && line.dropFirst(key.count).first == UInt8(ascii: ":") {
      return words(of: line.dropFirst(key.count + 1)).first
    }
    return nil
  }

  /// What is between spaces, tabs and ends of lines.
  package static func words(of text: Substring.UTF8View) -> [Substring] {
    text.split { $0 == 0x20 || $0 == 0x09 || $0 == 0x0a }.map(Substring.init)
  }
}
