// SPDX-License-Identifier: Apache-2.0

// A guest's page table as VFIO_IOMMU_BIND describes it (struct iommu_gpasid_bind_data). Accepted is
// what Linux 5.10 accepted. Its generic checks come first, then those of its intel driver; the
// nested domain's own checks come last and are the same in today's driver.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

struct BoundGuestTable {
  /// The address of the top-level table in the guest's memory, which is IOVAs of the container.
  private let root: UInt64
  private let addressWidth: UInt32
  /// IOMMU_VTD_S1_…
  private let flags: UInt64

  /// Returns the PASID that the table is for.
  /// - Throws: `.invalidArgument` for 0 and for more than 20 bits, and for an unknown version,
  ///   format or flag. intel: intel_svm_bind_gpasid()
  static func pasid(of data: iommu_gpasid_bind_data) throws(Errno) -> PASID {
    // iommu: iommu_check_bind_data()
    guard data.version == UInt32(IOMMU_GPASID_BIND_VERSION_1),
      data.format == UInt32(IOMMU_PASID_FORMAT_INTEL_VTD),
      data.flags & ~UInt64(IOMMU_SVA_GPASID_VAL) == 0,
      withUnsafeBytes(of: data.padding, { bytes in bytes.allSatisfy { $0 == 0 } }),
      let pasid = UInt32(exactly: data.hpasid), PASIDSpace.range.contains(pasid)
    else { throw .invalidArgument }
    return PASID(rawValue: pasid)
  }

  /// intel: intel_svm_bind_gpasid(), intel_pasid_setup_bind_data()
  init(_ data: iommu_gpasid_bind_data) throws(Errno) {
    guard data.argsz >= MemoryLayout<iommu_gpasid_bind_data>.size else { throw .invalidArgument }
    let requested = data.vendor.vtd.flags
    // The other flags choose memory types, which the unit does not have.
    guard requested & ~Self.supported == 0 else { throw .invalidArgument }
    var flags: UInt64 = 0
    if requested & UInt64(IOMMU_SVA_VTD_GPASID_SRE) != 0 {
      flags |= UInt64(IOMMU_VTD_S1_SRE.rawValue)
      if requested & UInt64(IOMMU_SVA_VTD_GPASID_WPE) != 0 {
        flags |= UInt64(IOMMU_VTD_S1_WPE.rawValue)
      }
    }
    if requested & UInt64(IOMMU_SVA_VTD_GPASID_EAFE) != 0 {
      flags |= UInt64(IOMMU_VTD_S1_EAFE.rawValue)
    }
    root = data.gpgd
    addressWidth = data.addr_width
    self.flags = flags
  }

  private static let supported = UInt64(
    IOMMU_SVA_VTD_GPASID_SRE | IOMMU_SVA_VTD_GPASID_EAFE | IOMMU_SVA_VTD_GPASID_WPE)

  /// Makes the nested HWPT that binds the table. Its ID is reserved; the caller finalizes or
  /// aborts.
  /// - Throws: `.invalidArgument` when the top-level table is outside of what `parent` can map;
  ///   what the driver throws. intel: intel_pasid_setup_nested()
  func makeHWPT(for device: BoundDevice, on parent: PagingHWPT) throws(Errno) -> NestedHWPT {
    guard parent.domain.aperture.contains(root) else { throw .invalidArgument }
    let configuration = iommu_hwpt_vtd_s1(
      flags: flags, pgtbl_addr: root, addr_width: addressWidth, __reserved: 0)
    return try NestedHWPT.make(
      for: device, on: .parent(parent), flags: .pasid,
      data: UserData(IOMMU_HWPT_DATA_VTD_S1.rawValue, holding: configuration))
  }
}

extension UserData {
  /// A structure of the server's own in place of one in a client's memory.
  fileprivate init(_ type: UInt32, holding value: some BitwiseCopyable & Sendable) {
    let bytes = withUnsafeBytes(of: value) { Array($0) }
    self.init(
      type: type, address: 0, length: UInt64(bytes.count), memory: ServerBytes(bytes: bytes))
  }
}

/// Bytes of the server, from address 0 on, for code that reads a client's memory.
private struct ServerBytes: UserMemory {
  let bytes: [UInt8]

  func copyIn(
    from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    guard address <= UInt64(bytes.count), buffer.count <= bytes.count - Int(address) else {
      throw .badAddress
    }
    buffer.copyBytes(from: bytes[Int(address)..<Int(address) + buffer.count])
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    throw .badAddress
  }
}
