// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import Host
internal import SystemPackage
internal import UAPI

/// The extension `register-calls`: pread(2) and pwrite(2) on an open /dev/iommu reach the registers
/// that a client could map from it, at IOMMUFD_SIM_REGISTERS + the offset for mmap(2). Each call
/// transfers one register of 4 bytes.
final class RegisterCalls: ExtensionHooks {
  var hasReadAndWrite: Bool { true }

  func read(
    into destination: UserBuffer, at offset: UInt64, from context: Context
  ) throws(Errno) -> Int {
    let (pages, register) = try register(at: offset, count: destination.count, of: context)
    try destination.memory.store(pages.load(register).littleEndian, at: destination.address)
    return destination.count
  }

  func write(
    from source: UserBuffer, at offset: UInt64, to context: Context
  ) throws(Errno) -> Int {
    let (pages, register) = try register(at: offset, count: source.count, of: context)
    let value = try source.memory.load(UInt32.self, at: source.address)
    pages.store(UInt32(littleEndian: value), at: register)
    return source.count
  }

  private func register(
    at offset: UInt64, count: Int, of context: Context
  ) throws(Errno) -> (pages: SharedRegisters, offset: Int) {
    guard count == 4, offset >= UInt64(IOMMUFD_SIM_REGISTERS) else { throw .invalidArgument }
    return try context.mappableRegions.register(at: offset - UInt64(IOMMUFD_SIM_REGISTERS))
  }
}
