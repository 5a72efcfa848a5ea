// One call of an ioctl of /dev/iommu.

internal import SystemPackage
internal import UAPI

/// Who calls what, from where.
struct Invocation {
  let context: Context
  let client: any Client
  /// The struct in the caller's memory, and how long the caller says it is.
  let address: UInt64
  let userSize: Int
}

/// A command while it runs: its struct, zero-extended, and the way back to the caller
/// (iommufd: struct iommufd_ucmd).
struct UserCommand<Arguments> {
  var arguments: Arguments
  let invocation: Invocation
  /// What the ioctl returns when it succeeds.
  var result: Int32 = 0

  var context: Context { invocation.context }
  var client: any Client { invocation.client }

  /// Writes the struct back, as much of it as the caller knows (iommufd: iommufd_ucmd_respond()).
  func respond() throws(Errno) {
    try client.storePrefix(
      of: arguments, count: min(invocation.userSize, MemoryLayout<Arguments>.size),
      at: invocation.address)
  }

  /// Writes the struct back, with the id of `object`, which is reserved so far, and publishes it. An id
  /// that the client never learned must not exist: when the struct cannot be written the object is
  /// taken back.
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

  /// Writes one member back and nothing else.
  func respond<Member: BitwiseCopyable>(
    only member: KeyPath<Arguments, Member>
  ) throws(Errno) {
    let offset = MemoryLayout.start(of: member)
    let (address, overflow) = invocation.address.addingReportingOverflow(UInt64(offset))
    guard !overflow else { throw .badAddress }
    try client.store(arguments[keyPath: member], at: address)
  }
}
