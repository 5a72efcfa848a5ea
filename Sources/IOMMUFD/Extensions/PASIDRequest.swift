// VFIO_IOMMU_PASID_REQUEST: all its forms. Their lengths tell them apart.

internal import CUAPI
internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

struct PASIDRequest {
  let context: Context
  let client: any Client
  let space: PASIDSpace

  /// vfio: vfio_iommu_type1_pasid_request()
  func execute(at argument: UInt64) throws(Errno) -> Int32 {
    var request = vfio_iommu_type1_pasid_request()
    let header = Ioctl.vfioIOMMUPASIDRequest.minimumSize
    try client.loadBytes(of: &request, count: header, at: argument)
    let isAllocation = request.flags == UInt32(VFIO_IOMMU_PASID_ALLOC)
    guard isAllocation || request.flags == UInt32(VFIO_IOMMU_PASID_FREE) else {
      throw .invalidArgument
    }
    let endOfRange = header + MemoryLayout.size(ofValue: request.range)
    let endOfFreePASID = header + MemoryLayout.size(ofValue: request.free_pasid)
    let hasRange = request.argsz == endOfRange
    let length = hasRange || isAllocation ? endOfRange : endOfFreePASID
    let needed =
      hasRange || !isAllocation ? length : MemoryLayout<vfio_iommu_type1_pasid_request>.size
    guard request.argsz >= needed else { throw .invalidArgument }
    try client.loadBytes(of: &request, count: length, at: argument)
    let (first, last) = (request.range.min, request.range.max)
    let owner = try client.addressSpace()
    switch (isAllocation, hasRange) {
    case (true, true):
      return Int32(try space.allocate(first, through: last, for: owner, by: context.identity))
    case (true, false):
      try allocate(first, through: last, for: owner, answerAt: argument)
    case (false, true):
      try free(first, through: last, of: owner)
    case (false, false):
      try free(request.free_pasid, of: owner)
    }
    return 0
  }

  /// A PASID that the caller is not told of does not stay.
  private func allocate(
    _ first: UInt32, through last: UInt32, for owner: AddressSpace, answerAt argument: UInt64
  ) throws(Errno) {
    let pasid = try space.allocate(first, through: last, for: owner, by: context.identity)
    do throws(Errno) {
      let (place, overflow) = argument.addingReportingOverflow(16)
      guard !overflow else { throw .badAddress }
      try client.store(pasid, at: place)
    } catch {
      try? space.free(pasid, of: owner)
      throw error
    }
  }

  /// What is bound to it here goes first, as the driver was to be told.
  /// intel: intel_svm_free_async_fn()
  private func free(_ pasid: UInt32, of owner: AddressSpace) throws(Errno) {
    try space.requireOwner(owner, of: pasid)
    _ = context.lock.withLock { context.endGuestTables(of: PASID(rawValue: pasid)) }
    try space.free(pasid, of: owner)
  }

  /// vfio: vfio_pasid_free_range()
  private func free(
    _ first: UInt32, through last: UInt32, of owner: AddressSpace
  ) throws(Errno) {
    guard first <= last else { throw .invalidArgument }
    for pasid in space.all(of: owner, first, through: last) { try free(pasid, of: owner) }
  }
}
