// SPDX-License-Identifier: Apache-2.0

// The container commands of shared virtual addressing: VFIO_IOMMU_PASID_REQUEST, VFIO_IOMMU_BIND
// and VFIO_IOMMU_CACHE_INVALIDATE. Like the other container commands they read a struct up to what
// its first version had, and argsz may be longer.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

extension SharedVirtualAddressing {
  func callContainer(
    _ request: IoctlNumber, argument: UInt64, client: any Client, on context: Context
  ) throws(Errno) -> Int32? {
    switch IoctlTable.iommufd[request] {
    case .vfioIOMMUPASIDRequest:
      return try PASIDRequest(context: context, client: client, addressing: self)
        .execute(at: argument)
    case .vfioIOMMUBind: try bind(at: argument, client, context)
    case .vfioIOMMUCacheInvalidate: try invalidateCaches(at: argument, client, context)
    default: return nil
    }
    return 0
  }

  /// vfio: vfio_iommu_type1_bind_gpasid(), vfio_iommu_type1_unbind_gpasid()
  private func bind(
    at argument: UInt64, _ client: any Client, _ context: Context
  ) throws(Errno) {
    var command = vfio_iommu_type1_bind()
    try client.loadBytes(of: &command, at: argument)
    let isBinding = command.flags == UInt32(VFIO_IOMMU_BIND_GUEST_PGTBL)
    guard isBinding || command.flags == UInt32(VFIO_IOMMU_UNBIND_GUEST_PGTBL) else {
      throw .invalidArgument
    }
    let data = try client.loadBehindHeader(
      iommu_gpasid_bind_data.self, of: command.argsz, at: argument,
      minimum: Self.bindHeaderSize)
    let pasid = try BoundGuestTable.pasid(of: data)
    let table = isBinding ? try BoundGuestTable(data) : nil
    let owner = try client.addressSpace()
    try space.requireOwner(owner, of: pasid)
    try context.lock.withLock { () throws(Errno) in
      let devices = try context.containerDevices()
      if let table {
        try bind(table, to: pasid, of: devices, in: context) { () throws(Errno) in
          try space.hold(pasid, of: owner, by: context.identity)
        }
      } else {
        guard unbind(pasid, in: context) else { throw Errno.invalidArgument }
      }
    }
  }

  /// vfio: vfio_iommu_invalidate_cache()
  private func invalidateCaches(
    at argument: UInt64, _ client: any Client, _ context: Context
  ) throws(Errno) {
    var command = vfio_iommu_type1_cache_invalidate()
    try client.loadBytes(
      of: &command, count: Ioctl.vfioIOMMUCacheInvalidate.minimumSize, at: argument)
    guard command.flags == 0 else { throw .invalidArgument }
    let info = try client.loadBehindHeader(
      iommu_cache_invalidate_info.self, of: command.argsz, at: argument,
      minimum: GuestCacheInvalidation.headerSize)
    let invalidation = try GuestCacheInvalidation(info)
    if let pasid = invalidation.pasid {
      try space.requireOwner(client.addressSpace(), of: pasid)
    }
    try context.lock.withLock { () throws(Errno) in
      _ = try context.requireContainerIOAS()
      try invalidate(invalidation)
    }
  }

  /// Through `padding`; the part of the vendor follows.
  private static var bindHeaderSize: Int {
    MemoryLayout<iommu_gpasid_bind_data>.end(of: \.padding)
  }
}

extension Context {
  /// Returns the devices that are attached to the container's IOAS, in the order of IDs.
  /// - Throws: `.operationNotSupportedByDevice` without container, `.invalidArgument` without
  ///   devices.
  fileprivate func containerDevices() throws(Errno) -> [BoundDevice] {
    let ioas = try requireContainerIOAS()
    let devices = groups.values.flatMap { group in
      group.attachments[nil].map { $0.hwpt.ioas === ioas ? Array($0.devices.values) : [] } ?? []
    }
    guard !devices.isEmpty else { throw .invalidArgument }
    return devices.sorted { $0.id < $1.id }
  }
}

extension Client {
  /// Loads the structure behind `argsz` and `flags` of a command. The structure begins with an
  /// `argsz` of its own. Bytes beyond today's structure are ignored, missing ones are zero.
  /// iommu: iommu_sva_prepare_bind_data(), iommu_uapi_cache_invalidate()
  fileprivate func loadBehindHeader<Value: LengthPrefixed>(
    _: Value.Type, of length: UInt32, at argument: UInt64, minimum: Int
  ) throws(Errno) -> Value {
    let header: UInt64 = 8
    guard length >= header + UInt64(minimum) else { throw .invalidArgument }
    let (address, overflow) = argument.addingReportingOverflow(header)
    guard !overflow else { throw .badAddress }
    var value = Value()
    try loadBytes(of: &value, count: 4, at: address)
    let size = min(Int(value.argsz), MemoryLayout<Value>.size)
    guard size >= minimum, UInt64(length) >= header + UInt64(size) else {
      throw .invalidArgument
    }
    try loadBytes(of: &value, count: size, at: address)
    return value
  }
}

/// A structure that begins with its own length.
private protocol LengthPrefixed {
  init()
  var argsz: UInt32 { get }
}
extension iommu_gpasid_bind_data: LengthPrefixed {}
extension iommu_cache_invalidate_info: LengthPrefixed {}
