// SPDX-License-Identifier: Apache-2.0

// VFIO_IOMMU_GET_INFO: page sizes, and a chain of capabilities behind the struct.
//
// The kernel stores what fits while it computes the length of the whole. A capability is stored
// when it fits whole; the IOVA ranges are stored element by element. The link from the previous
// capability is set when the next one begins within the buffer. `cap_offset`, where the chain
// begins, is set only when the whole chain fits. `argsz` always returns the length of the whole.

internal import CUAPI
internal import SystemPackage
internal import UAPI

extension ContainerCommands {
  /// iommufd: iommufd_vfio_iommu_get_info()
  func getInfo(at argument: UInt64) throws(Errno) {
    let minimum = Ioctl.vfioIOMMUGetInfo.minimumSize
    var info = try client.loadPrefix(of: vfio_iommu_type1_info.self, count: minimum, at: argument)
    guard info.argsz >= minimum else { throw .invalidArgument }
    let known = min(Int(info.argsz), MemoryLayout<vfio_iommu_type1_info>.size)
    let (pageSizes, ranges) = try context.lock.withLock { () throws(Errno) in
      let ioas = try context.requireContainerIOAS()
      return (ioas.pageSizes, ioas.pageTable.usableRanges)
    }
    info.flags = UInt32(VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS)
    info.iova_pgsizes = pageSizes
    var chain = CapabilityChain(client: client, base: argument, room: Int(info.argsz))
    try chain.appendAvailableMappings()
    try chain.append(ranges: ranges)
    info.cap_offset = chain.room >= chain.length ? UInt32(CapabilityChain.start) : 0
    info.argsz = UInt32(clamping: chain.length)
    try client.storePrefix(of: info, count: known, at: argument)
  }
}

extension IOAS {
  /// The page sizes that every domain of the IOAS has. Sizes below 4 KiB are replaced by 4 KiB.
  /// iommufd: iommufd_get_pagesizes()
  fileprivate var pageSizes: UInt64 {
    var sizes = hwpts.reduce(UInt64.max) { $0 & $1.domain.pageSizes }
    let page: UInt64 = 4096
    if sizes & (page - 1) != 0 { sizes = sizes & ~(page - 1) | page }
    return max(sizes, pageTable.alignment)
  }
}

/// The chain of capabilities, which are stored while the length is computed.
private struct CapabilityChain {
  static var start: Int { MemoryLayout<vfio_iommu_type1_info>.size }

  let client: any Client
  let base: UInt64
  /// The length of the caller's buffer, for the struct and the chain.
  let room: Int
  /// The length of the struct and the chain so far.
  private(set) var length = Self.start
  /// The offset of the previous capability.
  private var last: Int?

  init(client: any Client, base: UInt64, room: Int) {
    self.client = client
    self.base = base
    self.room = room
  }

  /// Appends the number of mappings that can still be made, without a limit.
  /// iommufd: iommufd_fill_cap_dma_avail()
  mutating func appendAvailableMappings() throws(Errno) {
    let capability = vfio_iommu_type1_info_dma_avail(
      header: header(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL), avail: .max)
    let size = MemoryLayout<vfio_iommu_type1_info_dma_avail>.size
    if room - length >= size { try client.store(capability, at: address(length)) }
    try link(size: size)
  }

  /// iommufd: iommufd_fill_cap_iova()
  mutating func append(ranges: [ClosedRange<UInt64>]) throws(Errno) {
    let fixed = MemoryLayout<vfio_iommu_type1_info_cap_iova_range>.size
    let element = MemoryLayout<vfio_iova_range>.stride
    for (index, range) in ranges.enumerated() where room - length >= fixed + (index + 1) * element {
      try client.store(
        vfio_iova_range(start: range.lowerBound, end: range.upperBound),
        at: address(length + fixed + index * element))
    }
    let size = fixed + ranges.count * element
    if room - length >= size {
      var capability = vfio_iommu_type1_info_cap_iova_range()
      capability.header = header(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
      capability.nr_iovas = UInt32(clamping: ranges.count)
      try client.storeBytes(of: capability, at: address(length))
    }
    try link(size: size)
  }

  private func header(_ id: Int32) -> vfio_info_cap_header {
    vfio_info_cap_header(id: UInt16(truncatingIfNeeded: id), version: 1, next: 0)
  }

  /// Links the previous capability to the one at `length`, and adds its size.
  private mutating func link(size: Int) throws(Errno) {
    if let last, room >= length {
      try client.store(UInt32(clamping: length), at: address(last + 4))
    }
    last = length
    length += (size + 7) & ~7
  }

  private func address(_ offset: Int) throws(Errno) -> UInt64 {
    let (sum, overflow) = base.addingReportingOverflow(UInt64(offset))
    guard !overflow else { throw .badAddress }
    return sum
  }
}
