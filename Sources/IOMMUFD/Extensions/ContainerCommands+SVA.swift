// Shared virtual addressing on a VFIO container, as proposed in 2020: a process allocates PASIDs, binds a
// guest's page table to one of them, for every device of the container, and passes the guest's
// invalidations on. The container is the IOAS of IOMMU_VFIO_IOAS; the tables are nested domains on the
// tables its devices are attached to, which must have been made for that.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

extension ContainerCommands {
  /// Whether VFIO_TYPE1_NESTING_IOMMU is a type.
  var canNest: Bool { context.extensions.pasids != nil }

  func callExtension(_ request: IoctlNumber, _ argument: UInt64) throws(Errno) -> Int32 {
    guard let pasids = context.extensions.pasids else { throw .inappropriateIOCTLForDevice }
    switch IoctlTable.iommufd[request] {
    case .vfioIOMMUPASIDRequest:
      return try PASIDRequest(context: context, client: client, space: pasids)
        .execute(at: argument)
    case .vfioIOMMUBind: try bind(at: argument, pasids)
    case .vfioIOMMUCacheInvalidate: try invalidateCaches(at: argument, pasids)
    default: throw .inappropriateIOCTLForDevice
    }
    return 0
  }

  /// vfio: vfio_iommu_type1_bind_gpasid(), vfio_iommu_type1_unbind_gpasid()
  private func bind(at argument: UInt64, _ pasids: PASIDSpace) throws(Errno) {
    var command = vfio_iommu_type1_bind()
    try client.loadBytes(of: &command, at: argument)
    let isBinding = command.flags == UInt32(VFIO_IOMMU_BIND_GUEST_PGTBL)
    guard isBinding || command.flags == UInt32(VFIO_IOMMU_UNBIND_GUEST_PGTBL) else {
      throw .invalidArgument
    }
    let data = try loadBehindHeader(
      iommu_gpasid_bind_data.self, of: command.argsz, at: argument,
      minimum: Self.bindHeaderSize)
    let pasid = try GuestTable.pasid(of: data)
    let table = isBinding ? try GuestTable(data) : nil
    let owner = try client.addressSpace()
    try pasids.requireOwner(owner, of: pasid.rawValue)
    try context.lock.withLock { () throws(Errno) in
      let devices = try context.containerDevices()
      if let table {
        try context.bind(table, to: pasid, of: devices) { () throws(Errno) in
          try pasids.hold(pasid.rawValue, of: owner, by: context.identity)
        }
      } else {
        guard context.endGuestTables(of: pasid) else { throw Errno.invalidArgument }
      }
    }
  }

  /// vfio: vfio_iommu_invalidate_cache()
  private func invalidateCaches(at argument: UInt64, _ pasids: PASIDSpace) throws(Errno) {
    var command = vfio_iommu_type1_cache_invalidate()
    try client.loadBytes(
      of: &command, count: Ioctl.vfioIOMMUCacheInvalidate.minimumSize, at: argument)
    guard command.flags == 0 else { throw .invalidArgument }
    let info = try loadBehindHeader(
      iommu_cache_invalidate_info.self, of: command.argsz, at: argument,
      minimum: GuestCacheInvalidation.headerSize)
    let invalidation = try GuestCacheInvalidation(info)
    if let pasid = invalidation.pasid {
      try pasids.requireOwner(client.addressSpace(), of: pasid.rawValue)
    }
    try context.lock.withLock { () throws(Errno) in
      _ = try context.requireContainerIOAS()
      try context.invalidate(invalidation)
    }
  }

  /// The part before the vendor's data.
  private static var bindHeaderSize: Int {
    MemoryLayout<iommu_gpasid_bind_data>.end(of: \.padding)
  }

  /// A structure behind `argsz` and `flags`, which begins with a length of its own: what is longer than
  /// ours is left alone, what is shorter is followed by zeros.
  /// iommu: iommu_sva_prepare_bind_data(), iommu_uapi_cache_invalidate()
  private func loadBehindHeader<Value: LengthPrefixed>(
    _: Value.Type, of length: UInt32, at argument: UInt64, minimum: Int
  ) throws(Errno) -> Value {
    let header: UInt64 = 8
    guard length >= header + UInt64(minimum) else { throw .invalidArgument }
    let (address, overflow) = argument.addingReportingOverflow(header)
    guard !overflow else { throw .badAddress }
    var value = Value()
    try client.loadBytes(of: &value, count: 4, at: address)
    let size = min(Int(value.argsz), MemoryLayout<Value>.size)
    guard size >= minimum, UInt64(length) >= header + UInt64(size) else {
      throw .invalidArgument
    }
    try client.loadBytes(of: &value, count: size, at: address)
    return value
  }
}

/// One that says how long it is.
private protocol LengthPrefixed {
  init()
  var argsz: UInt32 { get }
}
extension iommu_gpasid_bind_data: LengthPrefixed {}
extension iommu_cache_invalidate_info: LengthPrefixed {}
