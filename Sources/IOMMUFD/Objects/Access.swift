// Somebody in the kernel who uses the memory of an IOAS without a device (iommufd: struct
// iommufd_access): an emulated device, or a hardware queue that reads its entries there.
//
// Its id is never told. As long as its holder has it, nobody can destroy it, and it is not counted among
// the users of anything but its IOAS. There are two kinds: an external holder is told when memory that
// it has pinned is to go, and keeps the whole context alive; an internal one is an object of the same
// context, and what it pins cannot be unmapped.
//
// Everything is guarded by the control lock of the context. A holder is told with the lock held.

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class Access: Object, PageTableAccess, @unchecked Sendable {
  let alignment: UInt64
  let isInternal: Bool
  private let onUnmap: (ClosedRange<UInt64>) -> Void
  private(set) var ioas: IOAS?

  private init(
    id: ObjectID, in context: Context, alignment: UInt64, isInternal: Bool,
    onUnmap: @escaping (ClosedRange<UInt64>) -> Void
  ) {
    self.alignment = alignment
    self.isInternal = isInternal
    self.onUnmap = onUnmap
    super.init(id: id, in: context)
  }

  /// An access that keeps the context; its holder ends it with ``end()``, then releases the context.
  /// iommufd: iommufd_access_create()
  /// - Parameters:
  ///   - needsPins: it will pin, which goes by whole pages.
  ///   - onUnmap: takes back all pins that overlap a range; does nothing else to the IOAS.
  static func make(
    in context: Context, needsPins: Bool, onUnmap: @escaping (ClosedRange<UInt64>) -> Void
  ) throws(Errno) -> Access {
    let access = try make(
      in: context, alignment: needsPins ? 4096 : 1, isInternal: false, onUnmap: onUnmap)
    do throws(Errno) {
      try context.retain()
    } catch {
      access.end()
      throw error
    }
    return access
  }

  /// An access of another object of the context, which ends it with ``end()``.
  /// iommufd: iommufd_access_create_internal()
  static func makeInternal(in context: Context) throws(Errno) -> Access {
    try make(in: context, alignment: 4096, isInternal: true, onUnmap: { _ in })
  }

  private static func make(
    in context: Context, alignment: UInt64, isInternal: Bool,
    onUnmap: @escaping (ClosedRange<UInt64>) -> Void
  ) throws(Errno) -> Access {
    context.lock.assertHeld()
    let access = Access(
      id: try context.objects.reserve(), in: context, alignment: alignment, isInternal: isInternal,
      onUnmap: onUnmap)
    // The holder.
    access.addUser()
    context.objects.finalize(access)
    return access
  }

  /// The holder is done; it has no pins any more. iommufd: iommufd_access_destroy()
  func end() {
    dropUser()
    // Nobody else can be a user of what cannot be looked up as anything in particular.
    try? context.destroy(id)
  }

  /// iommufd: iommufd_access_destroy_object()
  override func destroy() {
    detach()
  }

  // MARK: The IOAS

  /// iommufd: iommufd_access_attach(), iommufd_access_replace()
  /// - Throws: `.addressInUse` when something is mapped there that is not aligned as the access needs.
  ///   It stays where it is then.
  func attach(to new: IOAS) throws(Errno) {
    context.lock.assertHeld()
    if new === ioas { return }
    try new.pageTable.addAccess(self)
    new.addUser()
    detach()
    ioas = new
  }

  /// iommufd: iommufd_access_detach()
  func detach() {
    context.lock.assertHeld()
    guard let old = ioas else { return }
    onUnmap(0...UInt64.max)
    old.pageTable.removeAccess(self)
    old.dropUser()
    ioas = nil
  }

  // MARK: Memory

  func unmap(_ range: ClosedRange<UInt64>) { onUnmap(range) }

  /// iommufd: iommufd_access_pin_pages()
  /// - Throws: `.invalidArgument` for no bytes, `.overflow`, `.noSuchFileOrDirectory` without an IOAS; as
  ///   ``IOPageTable/pin(_:forWriting:isLocking:client:)``.
  func pin(
    _ iova: UInt64, length: UInt64, forWriting: Bool, client: (any Client)?
  ) throws(Errno) -> AccessPin {
    context.lock.assertHeld()
    let range = try Self.range(iova, length: length)
    guard let ioas else { throw .noSuchFileOrDirectory }
    return try ioas.pageTable.pin(
      range, forWriting: forWriting, isLocking: isInternal, client: client)
  }

  /// iommufd: iommufd_access_unpin_pages()
  func unpin(_ pin: AccessPin) {
    context.lock.assertHeld()
    ioas?.pageTable.unpin(pin)
  }

  /// Copies between a range and `buffer`, which is as long. What was copied before an error stays. The
  /// lock is taken where it is needed, not held.
  /// iommufd: iommufd_access_rw()
  /// - Parameter directly: memory of the caller is reached as the caller does it.
  func copy(
    _ buffer: CopyBuffer, at iova: UInt64, directly: Bool, client: any Client
  ) throws(Errno) {
    let range = try Self.range(iova, length: UInt64(buffer.count))
    let (slices, failure) = try context.lock.withLock { () throws(Errno) in
      guard let ioas else { throw Errno.noSuchFileOrDirectory }
      return ioas.pageTable.slices(of: range, forWriting: buffer.isWrite)
    }
    var done = 0
    for slice in slices {
      let part = buffer[done..<done + Int(slice.length)]
      done += part.count
      if directly, try slice.copyDirectly(part, by: client) { continue }
      let caller = try? client.addressSpace()
      try context.lock.withLock { () throws(Errno) in try slice.copy(part, caller: caller) }
    }
    if let failure { throw failure }
  }

  private static func range(
    _ iova: UInt64, length: UInt64
  ) throws(Errno) -> ClosedRange<UInt64> {
    guard length > 0 else { throw .invalidArgument }
    let (last, overflow) = iova.addingReportingOverflow(length - 1)
    if overflow { throw .overflow }
    return iova...last
  }
}
