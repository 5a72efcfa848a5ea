// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

/// VFIO_IOMMU_PASID_REQUEST in all forms that versions of the proposal had. The command and `argsz`
/// tell the forms apart.
struct PASIDRequest {
  let context: Context
  let client: any Client
  let addressing: SharedVirtualAddressing

  private var space: PASIDSpace { addressing.space }

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
      let pasid = try space.allocate(first, through: last, for: owner, by: context.identity)
      return Int32(pasid.rawValue)
    case (true, false):
      try allocate(first, through: last, for: owner, answerAt: argument)
    case (false, true):
      try free(first, through: last, of: owner)
    case (false, false):
      try free(PASID(rawValue: request.free_pasid), of: owner)
    }
    return 0
  }

  /// Frees the PASID again when its number cannot be stored for the caller.
  private func allocate(
    _ first: UInt32, through last: UInt32, for owner: AddressSpace, answerAt argument: UInt64
  ) throws(Errno) {
    let pasid = try space.allocate(first, through: last, for: owner, by: context.identity)
    do throws(Errno) {
      let (address, overflow) = argument.addingReportingOverflow(16)
      guard !overflow else { throw .badAddress }
      try client.store(pasid.rawValue, at: address)
    } catch {
      try? space.free(pasid, of: owner)
      throw error
    }
  }

  /// Unbinds the tables of this context before the PASID is freed, as the driver did that was
  /// notified. intel: intel_svm_free_async_fn()
  private func free(_ pasid: PASID, of owner: AddressSpace) throws(Errno) {
    try space.requireOwner(owner, of: pasid)
    _ = context.lock.withLock { addressing.unbind(pasid, in: context) }
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
