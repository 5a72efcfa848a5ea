// SPDX-License-Identifier: Apache-2.0

// The descriptor of an access of the selftest interface (selftest.c: struct selftest_access), and
// the pages that were pinned through it. Each pin is an item with a number.

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class AccessFile: OpenFile, @unchecked Sendable {
  let linkText = "anon_inode:[iommufd_test_staccess]"
  private struct Item {
    let pin: AccessPin
    /// `nil` until the call that pins the item has checked its pages.
    var number: UInt32?
  }

  let context: Context
  let canPin: Bool

  // Guarded by the context's lock.

  /// `nil` before ``open(_:)``, and after the file is closed, when an operation may still use the
  /// file.
  private var access: Access?
  private var items: [UInt64: Item] = [:]
  private var nextKey: UInt64 = 0
  /// The keys of the items that have numbers, and of those that pin pages of an area.
  private var keys: [UInt32: UInt64] = [:]
  private var keysByArea: [ObjectIdentifier: Set<UInt64>] = [:]
  private var nextNumber: UInt32 = 0

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
      let access = try Access.make(in: context, needsPins: canPin) { [unowned self] area in
        unpinItems(of: area)
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

  /// Pins a range. Releases the lock while pages are faulted in and while `check` runs; an unmap
  /// then unpins the item as if the call had returned.
  /// - Parameter check: is called with the pinned frames; when it throws, they are unpinned.
  /// - Returns: the number of the new item.
  func pin(
    _ iova: IOVA, length: UInt64, forWriting: Bool, client: any Client,
    check: ([FrameRun]) throws(Errno) -> Void
  ) throws(Errno) -> UInt32 {
    let pin = try openAccess().pin(iova, length: length, forWriting: forWriting, client: client)
    let key = pin.areas.isEmpty ? nil : insert(Item(pin: pin))
    do throws(Errno) {
      try context.lock.withoutLock { () throws(Errno) in try check(pin.frames) }
      try FaultInjection.step()
    } catch {
      if let key { remove(key) }
      throw error
    }
    let number = nextNumber
    nextNumber &+= 1
    if let key, items[key] != nil {
      items[key]?.number = number
      keys[number] = key
    }
    return number
  }

  /// - Throws: `.noSuchFileOrDirectory` (ENOENT) without such an item.
  func unpin(_ number: UInt32) throws(Errno) {
    _ = try openAccess()
    guard let key = keys[number] else { throw .noSuchFileOrDirectory }
    remove(key)
  }

  private func insert(_ item: Item) -> UInt64 {
    let key = nextKey
    nextKey += 1
    items[key] = item
    for area in item.pin.areas { keysByArea[area, default: []].insert(key) }
    return key
  }

  /// Unpins and removes an item, unless that has happened already.
  private func remove(_ key: UInt64) {
    guard let item = items.removeValue(forKey: key) else { return }
    if let number = item.number { keys[number] = nil }
    for area in item.pin.areas {
      keysByArea[area]?.remove(key)
      if keysByArea[area]?.isEmpty == true { keysByArea[area] = nil }
    }
    access?.unpin(item.pin)
  }

  /// Unpins every item that pins pages of an area, or all items. selftest.c:
  /// iommufd_test_access_unmap()
  private func unpinItems(of area: Area?) {
    guard let area else {
      for key in items.keys.sorted() { remove(key) }
      return
    }
    for key in (keysByArea[ObjectIdentifier(area)] ?? []).sorted() { remove(key) }
  }
}
