// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage

/// The 16 random bytes that the kernel stores on the stack at exec, where the auxiliary vector's
/// AT_RANDOM points. They differ for each exec, and fork copies them. So the same bytes at the same
/// address show that a process still has the address space of that exec, or one forked from it.
package struct ExecIdentity: Sendable, Equatable {
  typealias Bytes = SIMD16<UInt8>
  /// The address of the bytes in the process.
  let address: UInt64
  let bytes: Bytes

  /// - Returns: `nil` when the auxiliary vector or the bytes cannot be read.
  init?(of task: HostTask) {
    guard let address = Self.auxiliaryValue(AT_RANDOM, of: task),
      let bytes = Self.bytes(at: address, in: task)
    else { return nil }
    self.address = address
    self.bytes = bytes
  }

  /// Whether the process of `task` still has the bytes.
  func matches(_ task: HostTask) -> Bool {
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

  /// The value of an entry of /proc/<pid>/auxv, which is an array of (type, value) pairs of machine
  /// words that ends with type 0.
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
