// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Host
internal import SystemPackage

/// The memory of this process that subcommands map. It exists as long as the process.
extension ScriptSession {
  /// Returns the address of the memory to map: `address` when it is given, otherwise a new private
  /// buffer.
  func memory(at address: Number?, size: Number) throws(Failure) -> UInt64 {
    if let address { return address.value }
    return try makeBuffer(size: size.value, shared: false).address
  }

  /// Makes a buffer of zeros: private memory, or the mapping of a memfd when `shared` is set.
  /// - Returns: its address, and the descriptor of the memfd.
  func makeBuffer(
    size: UInt64, shared: Bool
  ) throws(Failure) -> (address: UInt64, descriptor: Int32?) {
    guard let length = Int(exactly: size), length > 0 else {
      throw .usage("a buffer cannot have \(size) bytes")
    }
    var descriptor: Int32 = -1
    if shared {
      do throws(Errno) {
        descriptor = try MemoryFile.create(name: "iommufdctl", length: size)
      } catch {
        throw .call("memfd_create", error)
      }
    }
    let flags = shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS
    let address = mmap(nil, length, PROT_READ | PROT_WRITE, flags, descriptor, 0)
    guard let address, address != MAP_FAILED else { throw .call("mmap", Errno(rawValue: errno)) }
    let key = UInt64(UInt(bitPattern: address))
    buffers[key] = UnsafeMutableRawBufferPointer(start: address, count: length)
    return (key, shared ? descriptor : nil)
  }

  /// Returns `length` bytes, from `offset` on, of the buffer that starts at `address`.
  func buffer(
    at address: UInt64, offset: UInt64, length: UInt64
  ) throws(Failure) -> UnsafeMutableRawBufferPointer {
    guard let buffer = buffers[address] else {
      throw .usage(
        "no buffer starts at 0x\(String(address, radix: 16)); `buffer` makes one")
    }
    let (end, overflow) = offset.addingReportingOverflow(length)
    guard !overflow, end <= UInt64(buffer.count) else {
      throw .usage(
        "\(length) bytes at offset \(offset) exceed the buffer, which has \(buffer.count) bytes")
    }
    return UnsafeMutableRawBufferPointer(rebasing: buffer[Int(offset)..<Int(end)])
  }
}
