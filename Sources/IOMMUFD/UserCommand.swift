// SPDX-License-Identifier: Apache-2.0

internal import SystemPackage
internal import UAPI

/// One call of an ioctl of /dev/iommu: the open file, the caller and the argument.
struct Invocation {
  let context: Context
  let client: any Client
  /// The address of the struct in the caller's memory.
  let address: UInt64
  /// The size in bytes that the caller gives the struct.
  let userSize: Int
}

/// A command in progress: its struct, which is zero-extended to today's size, and the functions
/// that write the answer into the caller's struct (iommufd: struct iommufd_ucmd).
struct UserCommand<Arguments> {
  var arguments: Arguments
  let invocation: Invocation
  /// The return value of the ioctl when it succeeds.
  var result: Int32 = 0

  var context: Context { invocation.context }
  var client: any Client { invocation.client }

  /// Writes the struct back, up to the size that the caller gives it (iommufd:
  /// iommufd_ucmd_respond()).
  func respond() throws(Errno) {
    try client.storePrefix(
      of: arguments, count: min(invocation.userSize, MemoryLayout<Arguments>.size),
      at: invocation.address)
  }

  /// Writes the struct back, with the ID that is reserved for `object`, and makes the object
  /// visible. When the struct cannot be written, the object is destroyed and its ID is free again,
  /// because the client does not know the ID.
  func respond(publishing object: Object) throws(Errno) {
    do throws(Errno) {
      try respond()
    } catch {
      context.lock.withLock {
        object.destroy()
        context.objects.abort(object.id)
      }
      throw error
    }
    context.lock.withLock { context.objects.finalize(object) }
  }

  /// Writes only one member back.
  func respond<Member: BitwiseCopyable>(
    only member: KeyPath<Arguments, Member>
  ) throws(Errno) {
    let offset = MemoryLayout.start(of: member)
    let (address, overflow) = invocation.address.addingReportingOverflow(UInt64(offset))
    guard !overflow else { throw .badAddress }
    try client.store(arguments[keyPath: member], at: address)
  }
}
