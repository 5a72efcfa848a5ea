internal import Glibc
internal import SystemPackage

/// The bytes AT_RANDOM points to: new at every exec, inherited by fork.
package struct ExecStamp: Sendable {
  typealias Bytes = SIMD16<UInt8>
  /// Where they are.
  let address: UInt64
  let bytes: Bytes

  init?(of task: HostTask) {
    guard let address = Self.auxiliaryValue(AT_RANDOM, of: task),
      let bytes = Self.bytes(at: address, in: task)
    else { return nil }
    self.address = address
    self.bytes = bytes
  }

  func isStill(in task: HostTask) -> Bool {
    Self.bytes(at: address, in: task) == bytes
  }

  private static func bytes(at address: UInt64, in task: HostTask) -> Bytes? {
    var bytes = Bytes()
    do {
      try withUnsafeMutableBytes(of: &bytes) { try task.read(at: address, into: $0) }
      return bytes
    } catch {
      return nil
    }
  }

  /// A value of /proc/<pid>/auxv, pairs of machine words that end with type 0.
  private static func auxiliaryValue(_ type: Int32, of task: HostTask) -> UInt64? {
    guard let file = try? ProcFile.open("/proc/\(task.id)/auxv", O_RDONLY) else { return nil }
    var words = [UInt64](repeating: 0, count: 128)
    let count = words.withUnsafeMutableBytes { Glibc.read(file.rawValue, $0.baseAddress, $0.count) }
    for index in stride(from: 0, to: max(0, count) / 16 * 2, by: 2)
    where words[index] == UInt64(type) {
      return words[index + 1]
    }
    return nil
  }
}
