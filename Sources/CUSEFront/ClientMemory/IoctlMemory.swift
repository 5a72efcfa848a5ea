// SPDX-License-Identifier: Apache-2.0

internal import Host
internal import SystemPackage
internal import UAPI

/// The caller's memory during one ioctl, with the argument struct in a copy where the kernel has
/// fetched it (see ``IoctlExchange``).
final class IoctlMemory: UserMemory {
  private let task: HostTask
  private let argument: UInt64
  /// The argument struct that the kernel fetched, with what the device has stored in it.
  private(set) var fetched: [UInt8]?
  /// The first access was a read at the argument and was denied. The device has had no effect yet.
  private(set) var wasDeniedAtFirst = false
  /// An access was denied that fetching cannot replace.
  private(set) var wasDenied = false
  private var isFirst = true

  init(of task: HostTask, argument: UInt64, fetched: [UInt8]?) {
    self.task = task
    self.argument = argument
    self.fetched = fetched
  }

  func copyIn(
    from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    defer { isFirst = false }
    if wasDeniedAtFirst { throw .badAddress }
    if let fetched, let range = fetchedRange(address, buffer.count) {
      fetched.withUnsafeBytes { buffer.copyMemory(from: .init(rebasing: $0[range])) }
      return
    }
    // The device tries to read more bytes than the caller says its struct has. This is no denied
    // access: the device fails and then reads the size and the bytes that are there.
    if fetched != nil, address == argument { throw .badAddress }
    do {
      try task.read(at: address, into: buffer)
    } catch {
      throw recordDenial(error, isReadAtArgument: address == argument)
    }
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    defer { isFirst = false }
    if wasDeniedAtFirst { throw .badAddress }
    if let range = fetchedRange(address, bytes.count) {
      fetched?.replaceSubrange(range, with: bytes)
      return
    }
    do {
      try task.write(bytes, at: address)
    } catch {
      throw recordDenial(error, isReadAtArgument: false)
    }
  }

  /// Returns the part of `fetched` that holds the range. `nil` unless it holds the whole range.
  private func fetchedRange(_ address: UInt64, _ count: Int) -> Range<Int>? {
    guard let fetched, address >= argument, address - argument <= UInt64(fetched.count) else {
      return nil
    }
    let start = Int(address - argument)
    return count <= fetched.count - start ? start..<start + count : nil
  }

  /// Records an access that was denied for want of ptrace rights.
  /// - Returns: EFAULT, which a device gets for every failure, as in the kernel.
  private func recordDenial(_ error: Errno, isReadAtArgument: Bool) -> Errno {
    if error == .notPermitted {
      if isFirst && isReadAtArgument && fetched == nil {
        wasDeniedAtFirst = true
      } else {
        wasDenied = true
      }
    }
    return .badAddress
  }
}
