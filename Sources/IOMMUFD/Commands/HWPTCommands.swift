// SPDX-License-Identifier: Apache-2.0

// The commands that allocate and use HWPTs (iommufd: hw_pagetable.c).

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum HWPTCommands {
  /// The flag of IOMMU_HWPT_ALLOC that is not a flag of the domain.
  private static let faultIDValid = IOMMU_HWPT_FAULT_ID_VALID.rawValue

  // MARK: IOMMU_HWPT_ALLOC

  /// iommufd: iommufd_hwpt_alloc()
  static func allocate(_ command: inout UserCommand<iommu_hwpt_alloc>) throws(Errno) {
    let arguments = command.arguments
    guard arguments.__reserved == 0 else { throw .notSupported }
    let hasType = arguments.data_type != IOMMU_HWPT_DATA_NONE.rawValue
    guard hasType == (arguments.data_len != 0) else { throw .invalidArgument }
    let (context, client) = (command.context, command.client)
    let data = UserData(
      type: arguments.data_type, address: arguments.data_uptr, length: UInt64(arguments.data_len),
      memory: client
    ).prefetched()
    let hwpt = try context.lock.withLock { () throws(Errno) in
      let device = try context.objects.lookUp(ObjectID(arguments.dev_id), as: BoundDevice.self)
      let hwpt = try make(for: device, arguments, data, client: client)
      if arguments.flags & faultIDValid != 0 {
        do throws(Errno) {
          let queue = ObjectID(arguments.fault_id)
          hwpt.setFaultQueue(try context.objects.lookUp(queue, as: FaultQueue.self))
        } catch {
          hwpt.abort()
          throw error
        }
      }
      return hwpt
    }
    command.arguments.out_hwpt_id = hwpt.id.rawValue
    try command.respond(publishing: hwpt)
  }

  private static func make(
    for device: BoundDevice, _ arguments: iommu_hwpt_alloc, _ data: UserData,
    client: any Client
  ) throws(Errno) -> HWPT {
    let objects = device.context.objects
    guard let target = try? objects.lookUp(ObjectID(arguments.pt_id)) else {
      throw .invalidArgument
    }
    switch target {
    case let ioas as IOAS:
      let flags = PagingDomainFlags(rawValue: arguments.flags & ~faultIDValid)
      guard flags.isSubset(of: [.nestParent, .dirtyTracking, .pasid]),
        !flags.contains(.dirtyTracking) || device.capabilities.contains(.dirtyTracking),
        !flags.contains(.nestParent) || arguments.flags & faultIDValid == 0
      else { throw .notSupported }
      return try PagingHWPT.make(
        for: device, on: ioas, flags: flags, data: data.length > 0 ? data : nil, attaching: false,
        client: client)
    case let parent as PagingHWPT:
      let flags = try nestedFlags(arguments)
      guard device.device.driver.hasNestedDomains else { throw .notSupported }
      guard !parent.isAutomatic, parent.flags.contains(.nestParent),
        // The kernel compares the driver's operations, which all units of a vendor share.
        type(of: parent.driver) == type(of: device.device.driver)
      else { throw .invalidArgument }
      return try NestedHWPT.make(for: device, on: .parent(parent), flags: flags, data: data)
    case let viommu as VIOMMU:
      guard viommu.driver === device.device.driver else { throw .invalidArgument }
      let flags = try nestedFlags(arguments)
      return try NestedHWPT.make(for: device, on: .viommu(viommu), flags: flags, data: data)
    default:
      throw .invalidArgument
    }
  }

  private static func nestedFlags(
    _ arguments: iommu_hwpt_alloc
  ) throws(Errno) -> NestedDomainFlags {
    let flags = NestedDomainFlags(rawValue: arguments.flags & ~faultIDValid)
    guard flags.isSubset(of: .pasid), arguments.data_len > 0 else { throw .notSupported }
    return flags
  }

  // MARK: Dirty tracking

  /// iommufd: iommufd_hwpt_set_dirty_tracking()
  static func setDirtyTracking(
    _ command: inout UserCommand<iommu_hwpt_set_dirty_tracking>
  ) throws(Errno) {
    let arguments = command.arguments
    let enable = IOMMU_HWPT_DIRTY_TRACKING_ENABLE.rawValue
    guard arguments.flags & ~enable == 0 else { throw .notSupported }
    let context = command.context
    try context.lock.withLock { () throws(Errno) in
      let id = ObjectID(arguments.hwpt_id)
      let hwpt = try context.objects.lookUp(id, as: PagingHWPT.self)
      try hwpt.ioas.pageTable.setDirtyTracking(arguments.flags & enable != 0, of: hwpt.domain)
    }
  }

  /// Reads the dirty entries in parts with the lock, and writes the bitmap of each part without it.
  /// iommufd: iommufd_hwpt_get_dirty_bitmap()
  static func getDirtyBitmap(
    _ command: inout UserCommand<iommu_hwpt_get_dirty_bitmap>
  ) throws(Errno) {
    let arguments = command.arguments
    let keep = IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR.rawValue
    guard arguments.flags & ~keep == 0, arguments.__reserved == 0 else { throw .notSupported }
    let context = command.context
    let hwpt = try context.lock.withLock { () throws(Errno) in
      let id = ObjectID(arguments.hwpt_id)
      let hwpt = try context.objects.lookUp(id, as: PagingHWPT.self)
      hwpt.addUser()
      return hwpt
    }
    defer { context.lock.withLock { hwpt.dropUser() } }
    let range = try context.lock.withLock { () throws(Errno) in
      try hwpt.ioas.pageTable.dirtyRange(
        IOVA(arguments.iova), length: arguments.length, pageSize: arguments.page_size)
    }
    var bitmap = DirtyBitmap(
      at: arguments.data, for: range, pageSize: arguments.page_size, memory: command.client)
    var next: IOVA? = range.lowerBound
    while let first = next {
      let part = try context.lock.withLock { () throws(Errno) in
        try hwpt.ioas.pageTable.readDirty(
          first...range.upperBound, of: hwpt.domain, clearing: arguments.flags & keep == 0)
      }
      for entry in part.entries { bitmap.set(entry.iova, length: entry.length) }
      next = part.next
    }
    bitmap.finish()
  }

  // MARK: IOMMU_HWPT_INVALIDATE

  private static let entryLimit: UInt32 = 1 << 19
  private static let entryLengthLimit: UInt32 = 4096

  /// Writes the number of handled entries back, also after a failure.
  /// iommufd: iommufd_hwpt_invalidate()
  static func invalidate(_ command: inout UserCommand<iommu_hwpt_invalidate>) throws(Errno) {
    var handled = 0
    var failure: Errno?
    do throws(Errno) {
      try invalidate(command.arguments, handled: &handled, command.context, command.client)
    } catch {
      failure = error
    }
    command.arguments.entry_num = UInt32(truncatingIfNeeded: handled)
    do throws(Errno) { try command.respond() } catch { throw .badAddress }
    if let failure { throw failure }
  }

  private static func invalidate(
    _ arguments: iommu_hwpt_invalidate, handled: inout Int, _ context: Context,
    _ client: any Client
  ) throws(Errno) {
    guard arguments.__reserved == 0 else { throw .notSupported }
    if arguments.entry_num > 0 {
      guard arguments.data_uptr != 0, (1...entryLengthLimit).contains(arguments.entry_len),
        arguments.entry_num <= entryLimit
      else { throw .invalidArgument }
    }
    let entries = UserDataArray(
      type: arguments.data_type, address: arguments.data_uptr,
      entryLength: Int(arguments.entry_len), count: Int(arguments.entry_num), memory: client)
    // The target gets a user instead of the lock, because the driver reads entries from the
    // client's memory.
    let target = try context.lock.withLock { () throws(Errno) in
      let target = try context.objects.lookUp(ObjectID(arguments.hwpt_id))
      guard target is NestedHWPT || target is VIOMMU else { throw Errno.invalidArgument }
      target.addUser()
      return target
    }
    defer { context.lock.withLock { target.dropUser() } }
    switch target {
    case let hwpt as NestedHWPT:
      for hooks in context.hooks {
        if try hooks.invalidate(hwpt, entries, handled: &handled) { return }
      }
      try hwpt.domain.invalidate(entries, handled: &handled)
    case let viommu as VIOMMU:
      try viommu.implementation.invalidate(entries, handled: &handled)
    default: break
    }
  }
}
