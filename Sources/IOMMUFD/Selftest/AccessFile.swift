// SPDX-License-Identifier: Apache-2.0

// The descriptor of an access of the selftest interface (selftest.c: struct selftest_access), and
// the pages that were pinned through it. Each pin is an item with a number.

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class AccessFile: OpenFile, @unchecked Sendable {
  let linkText = "anon_inode:[iommufd_test_staccess]"
  private struct Item {
    let range: ClosedRange<IOVA>
    let pin: AccessPin
  }

  let context: Context
  let canPin: Bool

  // Guarded by the context's lock.

  /// `nil` before ``open(_:)``, and after the file is closed, when an operation may still use the
  /// file.
  private var access: Access?
  private var items: [UInt32: Item] = [:]
  private var nextItem: UInt32 = 0

  init(in context: Context, canPin: Bool) {
    self.context = context
    self.canPin = canPin
  }

  /// Returns the file of a descriptor of the caller. selftest.c: iommufd_access_get()
  /// - Throws: EBADFD, also for a closed descriptor.
  static func of(_ number: UInt32, _ client: any Client) throws(Errno) -> AccessFile {
    guard let file = try? client.openFile(Int32(bitPattern: number)) as? AccessFile else {
      throw .badFileDescriptorState
    }
    return file
  }

  // MARK: Life

  /// Makes the access and attaches it to the IOAS `id`.
  func open(_ id: ObjectID) throws(Errno) {
    try context.lock.withLock { () throws(Errno) in
      let access = try Access.make(in: context, needsPins: canPin) { [unowned self] range in
        unpinItems(in: range)
      }
      do throws(Errno) {
        try access.attach(to: try context.ioas(id))
      } catch {
        access.end()
        context.release()
        throw error
      }
      self.access = access
    }
  }

  /// selftest.c: iommufd_test_staccess_release()
  func release() {
    let access = context.lock.withLock {
      defer { self.access = nil }
      self.access?.end()
      return self.access
    }
    if access != nil { context.release() }
  }

  /// - Throws: EBADFD when the file was closed meanwhile.
  func openAccess() throws(Errno) -> Access {
    context.lock.assertHeld()
    guard let access else { throw .badFileDescriptorState }
    return access
  }

  // MARK: Items, with the lock held

  /// Pins a range.
  /// - Parameter check: is called with the pinned frames; when it throws, they are unpinned.
  /// - Returns: the number of the new item.
  func pin(
    _ iova: IOVA, length: UInt64, forWriting: Bool, client: any Client,
    check: ([FrameRun]) throws(Errno) -> Void
  ) throws(Errno) -> UInt32 {
    let access = try openAccess()
    let pin = try access.pin(iova, length: length, forWriting: forWriting, client: client)
    do throws(Errno) {
      try check(pin.frames)
      try FaultInjection.step()
    } catch {
      access.unpin(pin)
      throw error
    }
    let number = nextItem
    nextItem &+= 1
    items[number] = Item(range: iova...iova + (length - 1), pin: pin)
    return number
  }

  /// - Throws: `.noSuchFileOrDirectory` (ENOENT) without such an item.
  func unpin(_ number: UInt32) throws(Errno) {
    let access = try openAccess()
    guard let item = items.removeValue(forKey: number) else { throw .noSuchFileOrDirectory }
    access.unpin(item.pin)
  }

  /// selftest.c: iommufd_test_access_unmap()
  private func unpinItems(in range: ClosedRange<IOVA>) {
    for (number, item) in items where item.range.overlaps(range) {
      items[number] = nil
      access?.unpin(item.pin)
    }
  }
}
