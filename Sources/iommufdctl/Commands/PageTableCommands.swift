// SPDX-License-Identifier: Apache-2.0

// The ioctls on hardware page tables (HWPT), and the one that describes the IOMMU of a device.

internal import ArgumentParser
internal import CUAPI
internal import UAPI

let pageTableCommands: [any ParsableCommand.Type] = [
  GetHWInfo.self, HWPTAlloc.self, HWPTInvalidate.self, HWPTSetDirtyTracking.self,
  HWPTGetDirtyBitmap.self,
]

struct GetHWInfo: IoctlCommand {
  static let ioctl = Ioctl.getHardwareInfo
  static let configuration = ioctlConfiguration(
    "get-hw-info", "describe the IOMMU of a device.",
    discussion: """
      The result is the type of the data: 1 Intel VT-d, 2 Arm SMMUv3, 3 Tegra241 CMDQV, 4 AMD, 0 \
      none. `data` is the struct iommu_hw_info_… of that type.

        iommufdctl get-hw-info --fd 3 --dev 2
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the bound device.") var dev: Word
  @Option(help: "The type to ask for (IOMMU_HW_INFO_FLAG_INPUT_TYPE).") var type: Word?
  @Option(help: "Bytes of the buffer for the data.") var dataLength = Word(64)

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let buffer = [UInt8](repeating: 0, count: Int(min(dataLength.value, 1 << 16)))
    return try session.call(Self.ioctl, iommu_hw_info(), data: buffer, at: \.data_uptr) {
      $0.dev_id = dev.value
      $0.data_len = UInt32(buffer.count)
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

struct HWPTAlloc: IoctlCommand {
  static let ioctl = Ioctl.hwptAlloc
  static let configuration = ioctlConfiguration(
    "hwpt-alloc", "make a hardware page table (HWPT).",
    discussion: """
      Over an IOAS, the HWPT contains the mappings of the IOAS. Over a nesting parent, or over a \
      vIOMMU, and with data, the HWPT is nested: the data say where the guest's tables are. The \
      result is its object ID.

        iommufdctl hwpt-alloc --fd 3 --dev 2 --pt 1 --nest-parent
        iommufdctl hwpt-alloc --fd 3 --dev 2 --pt 4 --data-type 1 \\
          --data 0000000000000000_0000100000000000_30000000_00000000
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the bound device whose IOMMU will walk the tables.") var dev: Word
  @Option(help: "Object ID of the IOAS, the nesting parent or the vIOMMU.") var pt: Word
  @Flag(help: "Other HWPTs can be nested on it (IOMMU_HWPT_ALLOC_NEST_PARENT).")
  var nestParent = false
  @Flag(help: "It can track dirty pages (IOMMU_HWPT_ALLOC_DIRTY_TRACKING).")
  var dirtyTracking = false
  @Flag(help: "It can be attached to a PASID (IOMMU_HWPT_ALLOC_PASID).") var pasid = false
  @Option(help: "Object ID of the fault queue for page requests (IOMMU_HWPT_FAULT_ID_VALID).")
  var fault: Word?
  @Option(help: "Type of the data: 1 VT-d first stage, 2 SMMUv3 STE, 3 AMD guest DTE; 0 none.")
  var dataType = Word(0)
  @Option(help: "The data, as hexadecimal bytes in memory order.") var data: HexBytes?

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let bytes = data?.bytes ?? []
    return try session.call(Self.ioctl, iommu_hwpt_alloc(), data: bytes, at: \.data_uptr) {
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

struct HWPTInvalidate: IoctlCommand {
  static let ioctl = Ioctl.hwptInvalidate
  static let configuration = ioctlConfiguration(
    "hwpt-invalidate", "invalidate cached translations of guest tables.",
    discussion: """
      The result is the number of entries that were executed. With --json it is also printed when \
      the call fails.

        iommufdctl hwpt-invalidate --fd 3 --hwpt 5 --entry-length 24 \\
          0000000000000000_ffffffffffffffff_00000000_00000000
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the nested HWPT or of the vIOMMU.") var hwpt: Word
  @Option(help: "Type of the entries: 0 VT-d first stage, 1 SMMUv3 commands.")
  var dataType = Word(0)
  @Option(help: "Bytes of one entry.") var entryLength: Word
  @Argument(help: "The entries, each as hexadecimal bytes in memory order.")
  var entries: [HexBytes]

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    var bytes = entries.flatMap(\.bytes)
    var argument = session.sized(iommu_hwpt_invalidate())
    argument.hwpt_id = hwpt.value
    argument.data_type = dataType.value
    argument.entry_len = entryLength.value
    argument.entry_num = UInt32(entries.count)
    do throws(Failure) {
      try session.issue(Self.ioctl, &argument, data: &bytes, at: \.data_uptr)
    } catch {
      // The call writes entry_num also when it fails.
      guard case .call(let name, let errno, _) = error else { throw error }
      throw .call(name, errno, fields: [.decimal("entry_num", argument.entry_num)])
    }
    return Report(Self.ioctl.name, fields: [.decimal("entry_num", argument.entry_num)])
  }
}

struct HWPTSetDirtyTracking: IoctlCommand {
  static let ioctl = Ioctl.hwptSetDirtyTracking
  static let configuration = ioctlConfiguration(
    "hwpt-set-dirty-tracking", "start or stop dirty tracking.",
    discussion: """
      While it is on, the IOMMU records which pages devices write. Starting forgets what was \
      recorded before.

        iommufdctl hwpt-set-dirty-tracking --fd 3 --hwpt 4 --enable-tracking
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the HWPT.") var hwpt: Word
  @Flag(inversion: .prefixedEnableDisable, help: "Start or stop.") var tracking: Bool

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_hwpt_set_dirty_tracking()) {
      $0.flags = tracking ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE.rawValue : 0
      $0.hwpt_id = hwpt.value
    }
  }
}

struct HWPTGetDirtyBitmap: IoctlCommand {
  static let ioctl = Ioctl.hwptGetDirtyBitmap
  static let configuration = ioctlConfiguration(
    "hwpt-get-dirty-bitmap", "read which pages devices wrote.",
    discussion: """
      Reading clears the records. The result is the number of dirty pages; `data` is the bitmap.

        iommufdctl hwpt-get-dirty-bitmap --fd 3 --hwpt 4 --iova 0x40000000 \\
          --length 2M --page-size 4K
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the HWPT.") var hwpt: Word
  @Option(help: "First IOVA.") var iova: Number
  @Option(help: "Bytes, for example 4096, 0x1000 or 4K.") var length: Number
  @Option(help: "Bytes that one bit stands for.") var pageSize = Number(4096)
  @Flag(help: "Keep the records (IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR).") var noClear = false

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let pages = pageSize.value == 0 ? 0 : length.value / pageSize.value
    guard pages <= 1 << 32 else {
      throw .usage(
        "--length is \(pages) pages of --page-size; a bitmap has at most \(UInt64(1) << 32) bits")
    }
    let clean = [UInt8](repeating: 0, count: Int(pages / 64 + 1) * 8)
    return try session.call(
      Self.ioctl, iommu_hwpt_get_dirty_bitmap(), data: clean, at: \.data
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
