// A guest's page table on a PASID of every device of a container (struct iommu_gpasid_bind_data). What
// Linux 5.10 accepted is accepted: its generic checks come first, then those of its intel driver, and the
// nested domain's own at last, which are the same in today's driver.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

struct GuestTable {
  private let root: UInt64
  private let addressWidth: UInt32
  /// IOMMU_VTD_S1_…
  private let flags: UInt64

  /// - Throws: `.invalidArgument` for what cannot be a PASID of a device. intel: intel_svm_bind_gpasid()
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
    let asked = data.vendor.vtd.flags
    // The unit has no memory types to choose from.
    guard asked & ~Self.supported == 0 else { throw .invalidArgument }
    var flags: UInt64 = 0
    if asked & UInt64(IOMMU_SVA_VTD_GPASID_SRE) != 0 {
      flags |= UInt64(IOMMU_VTD_S1_SRE.rawValue)
      if asked & UInt64(IOMMU_SVA_VTD_GPASID_WPE) != 0 {
        flags |= UInt64(IOMMU_VTD_S1_WPE.rawValue)
      }
    }
    if asked & UInt64(IOMMU_SVA_VTD_GPASID_EAFE) != 0 {
      flags |= UInt64(IOMMU_VTD_S1_EAFE.rawValue)
    }
    root = data.gpgd
    addressWidth = data.addr_width
    self.flags = flags
  }

  private static let supported = UInt64(
    IOMMU_SVA_VTD_GPASID_SRE | IOMMU_SVA_VTD_GPASID_EAFE | IOMMU_SVA_VTD_GPASID_WPE)

  /// - Throws: `.invalidArgument` when the table's top is where no guest of `parent` has memory.
  ///   intel: intel_pasid_setup_nested()
  fileprivate func makeHWPT(
    for device: BoundDevice, on parent: PagingHWPT
  ) throws(Errno) -> NestedHWPT {
    guard parent.domain.aperture.contains(root) else { throw .invalidArgument }
    let configuration = iommu_hwpt_vtd_s1(
      flags: flags, pgtbl_addr: root, addr_width: addressWidth, __reserved: 0)
    return try NestedHWPT.make(
      for: device, on: .parent(parent), flags: .pasid,
      data: UserData(IOMMU_HWPT_DATA_VTD_S1.rawValue, holding: configuration))
  }
}

// MARK: Binding, with the control lock held

extension Context {
  /// Who this is to what outlives it.
  var identity: ObjectIdentifier { ObjectIdentifier(self) }

  /// The devices that are attached to the container, by id.
  /// - Throws: `.operationNotSupportedByDevice` without container, `.invalidArgument` without devices.
  func containerDevices() throws(Errno) -> [BoundDevice] {
    let ioas = try requireContainerIOAS()
    let devices = groups.values.flatMap { group in
      group.attachments[nil].map { $0.hwpt.ioas === ioas ? Array($0.devices.values) : [] } ?? []
    }
    guard !devices.isEmpty else { throw .invalidArgument }
    return devices.sorted { $0.id < $1.id }
  }

  /// For all of `devices` or for none.
  /// - Parameter hold: keeps the PASID from being freed.
  func bind(
    _ table: GuestTable, to pasid: PASID, of devices: [BoundDevice],
    hold: () throws(Errno) -> Void
  ) throws(Errno) {
    guard devices.allSatisfy({ $0.guestTables[pasid] == nil }) else { throw .resourceBusy }
    try hold()
    var made: [ObjectIdentifier: NestedHWPT] = [:]
    do throws(Errno) {
      for device in devices {
        let parent = try device.nestingParent()
        let hwpt: NestedHWPT
        if let known = made[ObjectIdentifier(parent)] {
          hwpt = known
        } else {
          hwpt = try table.makeHWPT(for: device, on: parent)
          made[ObjectIdentifier(parent)] = hwpt
        }
        try device.attachDirectly(to: hwpt, pasid: pasid)
        device.addUser()
        device.guestTables[pasid] = hwpt
      }
    } catch {
      for device in devices where device.guestTables.removeValue(forKey: pasid) != nil {
        device.detachAndPut(pasid: pasid)
      }
      for hwpt in made.values { hwpt.abort() }
      letGoIfUnused(pasid)
      throw error
    }
    for hwpt in made.values { objects.finalize(hwpt) }
  }

  fileprivate func letGoIfUnused(_ pasid: PASID) {
    let isUsed = objects.all(BoundDevice.self).contains { $0.guestTables[pasid] != nil }
    if !isUsed { extensions.pasids?.letGo(pasid.rawValue, by: identity) }
  }

  /// - Returns: false when nothing was bound to `pasid`.
  func endGuestTables(of pasid: PASID) -> Bool {
    let devices = objects.all(BoundDevice.self).filter { $0.guestTables[pasid] != nil }
    for device in devices { device.endGuestTable(of: pasid) }
    return !devices.isEmpty
  }
}

extension BoundDevice {
  /// The table that the device is attached to, or what it stands on.
  /// - Throws: `.invalidArgument` unless it is one of a VT-d unit and can be nested on.
  fileprivate func nestingParent() throws(Errno) -> PagingHWPT {
    let parent =
      switch group.attachments[nil]?.hwpt {
      case let paging as PagingHWPT: paging
      case let nested as NestedHWPT: nested.parent
      default: nil as PagingHWPT?
      }
    guard let parent, parent.flags.contains(.nestParent), device.driver is VTdDriver else {
      throw .invalidArgument
    }
    return parent
  }

  /// The table goes with the last device that has it.
  fileprivate func endGuestTable(of pasid: PASID) {
    guard let hwpt = guestTables.removeValue(forKey: pasid) else { return }
    detachAndPut(pasid: pasid)
    // EBUSY: another device still has it.
    try? context.destroy(hwpt.id)
    context.letGoIfUnused(pasid)
  }

  /// The device leaves the container.
  func endGuestTables() {
    for pasid in guestTables.keys.sorted(by: { $0.rawValue < $1.rawValue }) {
      endGuestTable(of: pasid)
    }
  }
}

extension IOAS {
  /// Whether tables of devices attached from now on are made to be nested on: VFIO_TYPE1_NESTING_IOMMU.
  /// - Throws: `.resourceBusy` to change it when there are such tables.
  func setNesting(_ nests: Bool) throws(Errno) {
    let flags: PagingDomainFlags = nests ? [.nestParent, .pasid] : []
    guard flags != automaticFlags else { return }
    guard !hwpts.contains(where: \.isAutomatic) else { throw .resourceBusy }
    automaticFlags = flags
  }
}

extension UserData {
  /// A structure that no client has written.
  fileprivate init(_ type: UInt32, holding value: some BitwiseCopyable & Sendable) {
    let bytes = withUnsafeBytes(of: value) { Array($0) }
    self.init(type: type, address: 0, length: UInt64(bytes.count), memory: OwnBytes(bytes: bytes))
  }
}

/// Memory of ours in which a structure lies, at address 0.
private struct OwnBytes: UserMemory {
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
