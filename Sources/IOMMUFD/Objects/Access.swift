// SPDX-License-Identifier: Apache-2.0

// A user of the memory of an IOAS that is no device (iommufd: struct iommufd_access): an emulated
// device of a kernel driver, or a hardware queue whose entries lie in an IOAS.
//
// No client knows the ID of an access. The object that made the access, its owner, is a user of it
// until `end()`, so that IOMMU_DESTROY of a guessed ID fails with EBUSY. The access is a user of
// its IOAS. There are two kinds. An external access has an `onUnmap` callback, which unpins what is
// about to be unmapped, and keeps the context alive. An internal access belongs to another object
// of the same context and has no callback: what it pins cannot be unmapped.
//
// Guarded by the context's lock, with which the callback is called.

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class Access: Object, PageTableAccess, @unchecked Sendable {
  let alignment: UInt64
  let isInternal: Bool
  private let onUnmap: (Area?) -> Void
  private(set) var ioas: IOAS?

  private init(
    id: ObjectID, in context: Context, alignment: UInt64, isInternal: Bool,
    onUnmap: @escaping (Area?) -> Void
  ) {
    self.alignment = alignment
    self.isInternal = isInternal
    self.onUnmap = onUnmap
    super.init(id: id, in: context)
  }

  /// Makes an external access. The owner calls ``end()`` and then ``Context/release()``.
  /// iommufd: iommufd_access_create()
  /// - Parameters:
  ///   - needsPins: the access will pin, which requires an alignment to pages (needs_pin_pages).
  ///   - onUnmap: unpins every pin of pages of an area; `nil` stands for all areas. It must not map
  ///     or unmap.
  static func make(
    in context: Context, needsPins: Bool, onUnmap: @escaping (Area?) -> Void
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

  /// Makes an internal access, which its owner ends with ``end()``.
  /// iommufd: iommufd_access_create_internal()
  static func makeInternal(in context: Context) throws(Errno) -> Access {
    try make(in: context, alignment: 4096, isInternal: true, onUnmap: { _ in })
  }

  private static func make(
    in context: Context, alignment: UInt64, isInternal: Bool,
    onUnmap: @escaping (Area?) -> Void
  ) throws(Errno) -> Access {
    context.lock.assertHeld()
    let access = Access(
      id: try context.objects.reserve(), in: context, alignment: alignment, isInternal: isInternal,
      onUnmap: onUnmap)
    access.addUser()  // the owner
    context.objects.finalize(access)
    return access
  }

  /// Destroys the access. Its owner must have unpinned everything, or unpin it in the callback.
  /// iommufd: iommufd_access_destroy()
  func end() {
    dropUser()
    // Cannot be EBUSY: only look-ups by type add users, and no command looks up an access.
    try? context.destroy(id)
  }

  /// iommufd: iommufd_access_destroy_object()
  override func destroy() {
    detach()
  }

  // MARK: The IOAS

  /// Moves the access to another IOAS. iommufd: iommufd_access_attach(), iommufd_access_replace()
  /// - Throws: `.addressInUse` when a mapping of `new` has not the alignment that the access needs.
  ///   The access stays in its IOAS then.
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
    onUnmap(nil)
    old.pageTable.removeAccess(self)
    old.dropUser()
    ioas = nil
  }

  // MARK: Memory

  func unmap(_ area: Area) { onUnmap(area) }

  /// Pins the pages of a range of IOVAs. Releases the lock while pages are faulted in. When an area
  /// is unmapped meanwhile, or the access moves to another IOAS, the pin has no pages any more, as
  /// if the access had unpinned them.
  /// iommufd: iommufd_access_pin_pages()
  /// - Throws: `.invalidArgument` for length 0, `.overflow` when the range wraps,
  ///   `.noSuchFileOrDirectory` without an IOAS; as
  ///   ``IOPageTable/pin(_:forWriting:isLocking:client:)``.
  func pin(
    _ iova: IOVA, length: UInt64, forWriting: Bool, client: (any Client)?
  ) throws(Errno) -> AccessPin {
    context.lock.assertHeld()
    let range = try ClosedRange(iova, length: length)
    guard let ioas else { throw .noSuchFileOrDirectory }
    let pin = try ioas.pageTable.pin(
      range, forWriting: forWriting, isLocking: isInternal, client: client)
    if ioas === self.ioas { return pin }
    ioas.pageTable.unpin(pin)
    return pin.withoutPages
  }

  /// iommufd: iommufd_access_unpin_pages()
  func unpin(_ pin: AccessPin) {
    context.lock.assertHeld()
    ioas?.pageTable.unpin(pin)
  }

  /// Copies between a range of IOVAs and `buffer`, which is as long. After an error the part before
  /// it stays copied. The lock is held only while the areas are looked up, because the copy can
  /// wait for the client's memory; the caller must not hold it.
  /// iommufd: iommufd_access_rw()
  /// - Parameter directly: copies the caller's own memory with the caller's access rights, as
  ///   copy_from_user() does, instead of through frames.
  func copy(
    _ buffer: CopyBuffer, at iova: IOVA, directly: Bool, client: any Client
  ) throws(Errno) {
    let range = try ClosedRange(iova, length: UInt64(buffer.count))
    let (slices, failure) = try context.lock.withLock { () throws(Errno) in
      guard let ioas else { throw Errno.noSuchFileOrDirectory }
      return ioas.pageTable.slices(of: range, forWriting: buffer.isWrite)
    }
    var done = 0
    for slice in slices {
      let part = buffer[done..<done + Int(slice.length)]
      done += part.count
      if directly, try slice.copyDirectly(part, by: client) { continue }
      try slice.copy(part, caller: try? client.addressSpace())
    }
    if let failure { throw failure }
  }
}
