// SPDX-License-Identifier: Apache-2.0

// The driver's side of a vIOMMU on an SMMUv3 with Tegra241's CMDQ-Virtualization (struct
// tegra241_vintf): a vIOMMU as on any SMMUv3, and a virtual interface. The virtual command queues
// are made in the order of their indices and destroyed in reverse order. The registers of all
// queues are in one page that the client can map.

internal import CUAPI
internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class Tegra241VirtualIOMMU: VirtualIOMMU {
  static let type = IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV.rawValue
  static let hardwareInfoType = IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV.rawValue

  private let base: SMMUv3VirtualIOMMU
  let interface: VirtualInterface
  private let interfaceID: UInt16
  private let pageOffset: UInt64
  private let queues: Mutex<[Tegra241CommandQueue?]>

  private init(
    _ base: SMMUv3VirtualIOMMU, _ interface: VirtualInterface, id: UInt16, pageOffset: UInt64
  ) {
    self.base = base
    self.interface = interface
    self.pageOffset = pageOffset
    interfaceID = id
    let capabilities = base.parent.driver.unit.virtualQueues
    queues = Mutex(Array(repeating: nil, count: 1 << capabilities.queueBitsPerInterface))
  }

  /// tegra241-cmdqv: tegra241_cmdqv_init_vintf_user()
  /// - Throws: `.noSpace` when all interfaces are in use.
  static func make(
    _ base: SMMUv3VirtualIOMMU, data: UserData?
  ) throws(Errno) -> Tegra241VirtualIOMMU {
    guard let data else { throw .invalidArgument }
    _ = try data.load(
      iommu_viommu_tegra241_cmdqv.self, type: type, minimumThrough: \.out_vintf_mmap_length)
    let driver = base.parent.driver
    let id = try driver.interfaces.allocate()
    do throws(Errno) {
      let host = base.host
      let interface = VirtualInterface(of: driver.unit, vmid: base.parent.tag) { map in
        report(map, to: host)
      }
      return Tegra241VirtualIOMMU(
        base, interface, id: id, pageOffset: try addPage(of: interface, data, host))
    } catch {
      driver.interfaces.release(id)
      throw error
    }
  }

  /// Lets the client map the page of registers, and stores the page's offset in the client's
  /// struct.
  private static func addPage(
    of interface: VirtualInterface, _ data: UserData, _ host: any VirtualIOMMUHost
  ) throws(Errno) -> UInt64 {
    let length = UInt64(VirtualQueueRegisters.pageLength)
    let offset = try host.addRegion(holding: [], length: length) {
      [weak interface] pages throws(Errno) in
      guard interface?.share(pages) != false else { throw .noMemory }
    }
    do throws(Errno) {
      try data.store(
        iommu_viommu_tegra241_cmdqv(out_vintf_mmap_offset: offset, out_vintf_mmap_length: length),
        type: type, minimumThrough: \.out_vintf_mmap_length)
    } catch {
      host.removeRegion(at: offset)
      throw error
    }
    return offset
  }

  /// tegra241-cmdqv: tegra241_vintf_user_handle_error()
  private static func report(_ map: VirtualInterface.ErrorMap, to host: any VirtualIOMMUHost) {
    let event = iommu_vevent_tegra241_cmdqv(
      lvcmdq_err_map: (map[0].littleEndian, map[1].littleEndian))
    // A vIOMMU without an event queue of this type loses the event.
    try? host.report(
      withUnsafeBytes(of: event) { Array($0) }, type: IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV.rawValue)
  }

  /// tegra241-cmdqv: tegra241_cmdqv_destroy_vintf_user()
  deinit {
    base.host.removeRegion(at: pageOffset)
    base.parent.driver.interfaces.release(interfaceID)
  }

  /// tegra241-cmdqv: tegra241_cmdqv_hw_info()
  static func hardwareInfo(of unit: VirtualQueueCapabilities) -> HardwareInfo {
    var info = iommu_hw_info_tegra241_cmdqv()
    info.version = unit.version
    info.log2vcmdqs = UInt8(unit.queueBitsPerInterface)
    info.log2vsids = UInt8(unit.streamBits)
    return HardwareInfo(type: hardwareInfoType, info)
  }

  // MARK: Operations of every SMMUv3

  func makeNestedDomain(
    for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain {
    try base.makeNestedDomain(for: device, flags: flags, data: data)
  }

  func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno) {
    try base.invalidate(entries, handled: &handled)
  }

  // MARK: Devices

  /// tegra241-cmdqv: tegra241_vintf_init_vsid()
  func addDevice(_ device: RequesterID, virtualID: UInt64) throws(Errno) {
    // VINTF_SID_MATCH_VIRT_SID
    guard virtualID < 1 << 20 else { throw .invalidArgument }
    guard interface.match(StreamID(rawValue: UInt32(virtualID)), StreamID(device)) else {
      throw .noSpace
    }
  }

  func removeDevice(_ device: RequesterID, virtualID: UInt64) {
    interface.unmatch(StreamID(rawValue: UInt32(truncatingIfNeeded: virtualID)))
  }

  // MARK: Queues

  func supportsHardwareQueue(type: UInt32) -> Bool {
    type == IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV.rawValue
  }

  /// tegra241-cmdqv: tegra241_vintf_alloc_lvcmdq_user()
  func makeHardwareQueue(_ request: HardwareQueueRequest) throws(Errno) -> any HardwareQueue {
    try queues.withLock { queues throws(Errno) in
      guard request.index < queues.count else { throw .invalidArgument }
      let index = Int(request.index)
      guard queues[index] == nil else { throw .fileExists }
      let previous = index > 0 ? queues[index - 1] : nil
      guard index == 0 || previous != nil else { throw .ioError }
      let sizeBits = try sizeBits(of: request)
      guard interface.addQueue(index, base: request.physical, sizeBits: sizeBits) else {
        throw .noMemory
      }
      let queue = Tegra241CommandQueue(index, after: previous, of: self)
      queues[index] = queue
      return queue
    }
  }

  /// Returns log2 of the number of commands in the queue. A command has 16 bytes.
  private func sizeBits(of request: HardwareQueueRequest) throws(Errno) -> Int {
    let longest = UInt64(16) << UInt64(base.parent.driver.unit.capabilities.commandQueueBits)
    guard request.length.nonzeroBitCount == 1, 32...longest ~= request.length else {
      throw .invalidArgument
    }
    // VCMDQ_ADDR
    guard request.physical.rawValue & (request.length - 1) == 0,
      request.physical.rawValue < 1 << 48
    else { throw .invalidArgument }
    return request.length.trailingZeroBitCount - 4
  }

  /// tegra241-cmdqv: tegra241_vintf_destroy_lvcmdq_user()
  fileprivate func removeQueue(_ index: Int) {
    interface.removeQueue(index)
    queues.withLock { $0[index] = nil }
  }
}

final class Tegra241CommandQueue: HardwareQueue {
  private let index: Int
  private let previous: Tegra241CommandQueue?
  private let viommu: Tegra241VirtualIOMMU

  fileprivate init(
    _ index: Int, after previous: Tegra241CommandQueue?, of viommu: Tegra241VirtualIOMMU
  ) {
    self.index = index
    self.previous = previous
    self.viommu = viommu
  }

  var dependsOn: (any HardwareQueue)? { previous }

  func destroy() { viommu.removeQueue(index) }
}
