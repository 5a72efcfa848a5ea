// Hardware page tables: what stands between an address space and a device.

internal import ArgumentParser
internal import CUAPI
internal import UAPI

let pageTableCommands: [any ParsableCommand.Type] = [
  GetHWInfo.self, HWPTAlloc.self, HWPTInvalidate.self, HWPTSetDirtyTracking.self,
  HWPTGetDirtyBitmap.self,
]

struct GetHWInfo: Command {
  static let configuration = CommandConfiguration(
    commandName: "get-hw-info",
    abstract: "IOMMU_GET_HW_INFO: what the IOMMU of a device can do.",
    discussion: """
        iommufdctl get-hw-info --fd 3 --dev 2
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The bound device's object id.") var dev: Word
  @Option(help: "The data type to ask for (IOMMU_HW_INFO_FLAG_INPUT_TYPE).") var type: Word?
  @Option(help: "Bytes of room for the data.") var dataLength = Word(64)

  func perform(in session: Session) throws(Failure) -> Report {
    let room = [UInt8](repeating: 0, count: Int(min(dataLength.value, 1 << 16)))
    return try session.call(
      "IOMMU_GET_HW_INFO", .getHardwareInfo, iommu_hw_info(), data: room, at: \.data_uptr
    ) {
      $0.dev_id = dev.value
      $0.data_len = UInt32(room.count)
      guard let type else { return }
      $0.flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE.rawValue
      $0.in_data_type = type.value
    } outputs: { info, data in
      [
        .decimal("out_data_type", info.out_data_type), .decimal("data_len", info.data_len),
        .text("data", hexadecimal(data.prefix(Int(info.data_len)))),
        .decimal("out_max_pasid_log2", info.out_max_pasid_log2),
        .hex("out_capabilities", info.out_capabilities),
      ]
    }
  }
}

struct HWPTAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "hwpt-alloc",
    abstract: "IOMMU_HWPT_ALLOC: make a hardware page table.",
    discussion: """
      The result is its id.

        iommufdctl hwpt-alloc --fd 3 --dev 2 --pt 1 --nest-parent
        iommufdctl hwpt-alloc --fd 3 --dev 2 --pt 4 --data-type 1 \\
          --data 0000000000000000_0000100000000000_30000000_00000000
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The bound device's object id.") var dev: Word
  @Option(help: "The address space, parent page table or vIOMMU.") var pt: Word
  @Flag(help: "IOMMU_HWPT_ALLOC_NEST_PARENT.") var nestParent = false
  @Flag(help: "IOMMU_HWPT_ALLOC_DIRTY_TRACKING.") var dirtyTracking = false
  @Flag(help: "IOMMU_HWPT_ALLOC_PASID.") var pasid = false
  @Option(help: "The fault queue (IOMMU_HWPT_FAULT_ID_VALID).") var fault: Word?
  @Option(help: "Type of the data: 1 VT-d stage 1, 2 SMMUv3, 3 AMD guest.") var dataType = Word(0)
  @Option(help: "The data, as hexadecimal bytes in memory order.") var data: HexBytes?

  func perform(in session: Session) throws(Failure) -> Report {
    let bytes = data?.bytes ?? []
    return try session.call(
      "IOMMU_HWPT_ALLOC", .hwptAlloc, iommu_hwpt_alloc(), data: bytes, at: \.data_uptr
    ) {
      $0.flags = flags
      $0.dev_id = dev.value
      $0.pt_id = pt.value
      $0.data_type = dataType.value
      $0.data_len = UInt32(bytes.count)
      $0.fault_id = fault?.value ?? 0
    } outputs: { hwpt, _ in
      [.decimal("out_hwpt_id", hwpt.out_hwpt_id)]
    }
  }

  private var flags: UInt32 {
    var flags: UInt32 = 0
    if nestParent { flags |= IOMMU_HWPT_ALLOC_NEST_PARENT.rawValue }
    if dirtyTracking { flags |= IOMMU_HWPT_ALLOC_DIRTY_TRACKING.rawValue }
    if pasid { flags |= IOMMU_HWPT_ALLOC_PASID.rawValue }
    if fault != nil { flags |= IOMMU_HWPT_FAULT_ID_VALID.rawValue }
    return flags
  }
}

struct HWPTInvalidate: Command {
  static let configuration = CommandConfiguration(
    commandName: "hwpt-invalidate",
    abstract: "IOMMU_HWPT_INVALIDATE: drop cached translations of a nested page table or vIOMMU.",
    discussion: """
      The result is the number of entries handled.

        iommufdctl hwpt-invalidate --fd 3 --hwpt 5 --entry-length 24 \\
          0000000000000000_ffffffffffffffff_00000000_00000000
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The nested page table or vIOMMU.") var hwpt: Word
  @Option(help: "Type of the entries: 0 VT-d stage 1, 1 SMMUv3 commands.") var dataType = Word(0)
  @Option(help: "Bytes of one entry.") var entryLength: Word
  @Argument(help: "Entries, each as hexadecimal bytes in memory order.") var entries: [HexBytes]

  func perform(in session: Session) throws(Failure) -> Report {
    let name = "IOMMU_HWPT_INVALIDATE"
    var bytes = entries.flatMap(\.bytes)
    var argument = session.sized(iommu_hwpt_invalidate())
    argument.hwpt_id = hwpt.value
    argument.data_type = dataType.value
    argument.entry_len = entryLength.value
    argument.entry_num = UInt32(entries.count)
    do throws(Failure) {
      try session.issue(name, .hwptInvalidate, &argument, data: &bytes, at: \.data_uptr)
    } catch {
      // How far it came is written on failure too.
      guard case .call(_, let errno, _) = error else { throw error }
      throw .call(name, errno, fields: [.decimal("entry_num", argument.entry_num)])
    }
    return Report(name, fields: [.decimal("entry_num", argument.entry_num)])
  }
}

struct HWPTSetDirtyTracking: Command {
  static let configuration = CommandConfiguration(
    commandName: "hwpt-set-dirty-tracking",
    abstract: "IOMMU_HWPT_SET_DIRTY_TRACKING: start or stop dirty tracking.",
    discussion: """
        iommufdctl hwpt-set-dirty-tracking --fd 3 --hwpt 4 --enable-tracking
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The hardware page table's id.") var hwpt: Word
  @Flag(inversion: .prefixedEnableDisable, help: "Start or stop.") var tracking: Bool

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call(
      "IOMMU_HWPT_SET_DIRTY_TRACKING", .hwptSetDirtyTracking, iommu_hwpt_set_dirty_tracking()
    ) {
      $0.flags = tracking ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE.rawValue : 0
      $0.hwpt_id = hwpt.value
    }
  }
}

struct HWPTGetDirtyBitmap: Command {
  static let configuration = CommandConfiguration(
    commandName: "hwpt-get-dirty-bitmap",
    abstract: "IOMMU_HWPT_GET_DIRTY_BITMAP: which pages devices wrote to.",
    discussion: """
      The result is the number of dirty pages.

        iommufdctl hwpt-get-dirty-bitmap --fd 3 --hwpt 4 --iova 0x40000000 --length 2M --page-size 4K
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The hardware page table's id.") var hwpt: Word
  @Option(help: "First IOVA.") var iova: Number
  @Option(help: "Bytes, as 4096, 0x1000 or 4K.") var length: Number
  @Option(help: "Bytes that one bit stands for.") var pageSize = Number(4096)
  @Flag(help: "IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR.") var noClear = false

  func perform(in session: Session) throws(Failure) -> Report {
    let pages = pageSize.value == 0 ? 0 : length.value / pageSize.value
    guard pages <= 1 << 32 else {
      throw .usage(
        "--length has \(pages) pages of --page-size, and a bitmap at most \(UInt64(1) << 32)")
    }
    let clean = [UInt8](repeating: 0, count: Int(pages / 64 + 1) * 8)
    return try session.call(
      "IOMMU_HWPT_GET_DIRTY_BITMAP", .hwptGetDirtyBitmap, iommu_hwpt_get_dirty_bitmap(),
      data: clean, at: \.data
    ) {
      $0.hwpt_id = hwpt.value
      $0.flags = noClear ? IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR.rawValue : 0
      $0.iova = iova.value
      $0.length = length.value
      $0.page_size = pageSize.value
    } outputs: { _, bitmap in
      [
        .decimal("dirty", bitmap.reduce(0) { $0 + $1.nonzeroBitCount }),
        .text("data", hexadecimal(bitmap)),
      ]
    }
  }
}
