// The commands on page tables (iommufd: hw_pagetable.c).

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum HWPTCommands {
  /// Flags of HWPT_ALLOC; those that are not here are the domain's.
  private static let faultIDValid = IOMMU_HWPT_FAULT_ID_VALID.rawValue

  // MARK: HWPT_ALLOC

  /// iommufd_hwpt_alloc()
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
      guard !parent.isAutomatic, parent.flags.contains(.nestParent),
        // The kernel compares the operations, which all units of a vendor share.
        type(of: parent.driver) == type(of: device.device.driver)
      else { throw .invalidArgument }
      return try NestedHWPT.make(for: device, on: .parent(parent), flags: flags, data: data)
    case let unit as VIOMMU:
      guard unit.driver === device.device.driver else { throw .invalidArgument }
      let flags = try nestedFlags(arguments)
      return try NestedHWPT.make(for: device, on: .virtualUnit(unit), flags: flags, data: data)
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

  /// iommufd_hwpt_set_dirty_tracking()
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

  /// iommufd_hwpt_get_dirty_bitmap(). Piece by piece, as the bitmap is written without the lock.
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
        arguments.iova, length: arguments.length, pageSize: arguments.page_size)
    }
    var bitmap = DirtyBitmap(
      at: arguments.data, for: range, pageSize: arguments.page_size, memory: command.client)
    var next: UInt64? = range.lowerBound
    while let first = next {
      let piece = try context.lock.withLock { () throws(Errno) in
        try hwpt.ioas.pageTable.readDirty(
          first...range.upperBound, of: hwpt.domain, clearing: arguments.flags & keep == 0)
      }
      for entry in piece.entries { bitmap.set(entry.iova.rawValue, length: entry.length) }
      next = piece.next
    }
    bitmap.finish()
  }

  // MARK: HWPT_INVALIDATE

  private static let entryLimit: UInt32 = 1 << 19
  private static let entryLengthLimit: UInt32 = 4096

  /// iommufd_hwpt_invalidate(). How much was done is told whatever the outcome.
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
    // A user more instead of the lock, as the driver reads many entries from the client.
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
    case let unit as VIOMMU: try unit.unit.invalidate(entries, handled: &handled)
    default: break
    }
  }
}
