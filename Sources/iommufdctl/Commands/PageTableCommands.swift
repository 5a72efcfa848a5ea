// Hardware page tables: what stands between an address space and a device.

internal import ArgumentParser
internal import CUAPI

let pageTableCommands: [any ParsableCommand.Type] = [
  GetHWInfo.self, HWPTAlloc.self, HWPTInvalidate.self, HWPTSetDirtyTracking.self,
  HWPTGetDirtyBitmap.self,
]

struct GetHWInfo: Command {
  static let configuration = CommandConfiguration(
    commandName: "get-hw-info", abstract: "IOMMU_GET_HW_INFO: what the IOMMU of a device can do.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The bound device's object id.") var dev: Word
  @Option(help: "The data type to ask for (IOMMU_HW_INFO_FLAG_INPUT_TYPE).") var type: Word?
  @Option(help: "Bytes of room for the data.") var dataLength = Word(64)

  func perform(in session: Session) throws(Failure) -> Report {
    let name = "IOMMU_GET_HW_INFO"
    var data = [UInt8](repeating: 0, count: Int(min(dataLength.value, 1 << 16)))
    var argument = iommu_hw_info()
    argument.size = size(of: iommu_hw_info.self)
    argument.dev_id = dev.value
    argument.data_len = UInt32(data.count)
    if let type {
      argument.flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE.rawValue
      argument.in_data_type = type.value
    }
    try withAddress(of: &data) { address throws(Failure) in
      argument.data_uptr = address
      try session.ioctl(name, IOMMUFD_CMD_GET_HW_INFO, &argument)
    }
    let filled = data.prefix(Int(argument.data_len))
    return Report(
      name,
      fields: [
        .init("out_data_type", .decimal(argument.out_data_type)),
        .init("data_len", .decimal(argument.data_len)),
        .init("data", .text(hexadecimal(filled))),
        .init("out_max_pasid_log2", .decimal(argument.out_max_pasid_log2)),
        .init("out_capabilities", .hex(argument.out_capabilities)),
      ])
  }
}

struct HWPTAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "hwpt-alloc", abstract: "IOMMU_HWPT_ALLOC: make a hardware page table.",
    discussion: "The result is its id.")
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
    var bytes = data?.bytes ?? []
    var argument = iommu_hwpt_alloc()
    argument.size = size(of: iommu_hwpt_alloc.self)
    if nestParent { argument.flags |= IOMMU_HWPT_ALLOC_NEST_PARENT.rawValue }
    if dirtyTracking { argument.flags |= IOMMU_HWPT_ALLOC_DIRTY_TRACKING.rawValue }
    if pasid { argument.flags |= IOMMU_HWPT_ALLOC_PASID.rawValue }
    if let fault {
      argument.flags |= IOMMU_HWPT_FAULT_ID_VALID.rawValue
      argument.fault_id = fault.value
    }
    argument.dev_id = dev.value
    argument.pt_id = pt.value
    argument.data_type = dataType.value
    argument.data_len = UInt32(bytes.count)
    try withAddress(of: &bytes) { address throws(Failure) in
      argument.data_uptr = address
      try session.ioctl("IOMMU_HWPT_ALLOC", IOMMUFD_CMD_HWPT_ALLOC, &argument)
    }
    return Report(
      "IOMMU_HWPT_ALLOC", fields: [.init("out_hwpt_id", .decimal(argument.out_hwpt_id))])
  }
}

struct HWPTInvalidate: Command {
  static let configuration = CommandConfiguration(
    commandName: "hwpt-invalidate",
    abstract: "IOMMU_HWPT_INVALIDATE: drop cached translations of a nested page table or vIOMMU.",
    discussion: "The result is the number of entries handled.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The nested page table or vIOMMU.") var hwpt: Word
  @Option(help: "Type of the entries: 0 VT-d stage 1, 1 SMMUv3 commands.") var dataType = Word(0)
  @Option(help: "Bytes of one entry.") var entryLength: Word
  @Argument(help: "Entries, each as hexadecimal bytes in memory order.") var entries: [HexBytes]

  func perform(in session: Session) throws(Failure) -> Report {
    var bytes = entries.flatMap(\.bytes)
    var argument = iommu_hwpt_invalidate()
    argument.size = size(of: iommu_hwpt_invalidate.self)
    argument.hwpt_id = hwpt.value
    argument.data_type = dataType.value
    argument.entry_len = entryLength.value
    argument.entry_num = UInt32(entries.count)
    let name = "IOMMU_HWPT_INVALIDATE"
    do throws(Failure) {
      try withAddress(of: &bytes) { address throws(Failure) in
        argument.data_uptr = address
        try session.ioctl(name, IOMMUFD_CMD_HWPT_INVALIDATE, &argument)
      }
    } catch {
      // How far it came is written on failure too.
      guard case .call(_, let errno, _) = error else { throw error }
      throw .call(name, errno, fields: [.init("entry_num", .decimal(argument.entry_num))])
    }
    return Report(name, fields: [.init("entry_num", .decimal(argument.entry_num))])
  }
}

struct HWPTSetDirtyTracking: Command {
  static let configuration = CommandConfiguration(
    commandName: "hwpt-set-dirty-tracking",
    abstract: "IOMMU_HWPT_SET_DIRTY_TRACKING: start or stop dirty tracking.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The hardware page table's id.") var hwpt: Word
  @Flag(inversion: .prefixedEnableDisable, help: "Start or stop.") var tracking: Bool

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_hwpt_set_dirty_tracking()
    argument.size = size(of: iommu_hwpt_set_dirty_tracking.self)
    argument.flags = tracking ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE.rawValue : 0
    argument.hwpt_id = hwpt.value
    try session.ioctl(
      "IOMMU_HWPT_SET_DIRTY_TRACKING", IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING, &argument)
    return Report("IOMMU_HWPT_SET_DIRTY_TRACKING")
  }
}

struct HWPTGetDirtyBitmap: Command {
  static let configuration = CommandConfiguration(
    commandName: "hwpt-get-dirty-bitmap",
    abstract: "IOMMU_HWPT_GET_DIRTY_BITMAP: which pages devices wrote to.",
    discussion: "The result is the number of dirty pages.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The hardware page table's id.") var hwpt: Word
  @Option(help: "First IOVA.") var iova: Number
  @Option(help: "Bytes.") var length: Number
  @Option(help: "Bytes that one bit stands for.") var pageSize = Number(4096)
  @Flag(help: "IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR.") var noClear = false

  func perform(in session: Session) throws(Failure) -> Report {
    let pages = pageSize.value == 0 ? 0 : length.value / pageSize.value
    guard pages <= 1 << 32 else { throw .usage("a bitmap of \(pages) bits is too large") }
    var bitmap = [UInt8](repeating: 0, count: Int(pages / 64 + 1) * 8)
    var argument = iommu_hwpt_get_dirty_bitmap()
    argument.size = size(of: iommu_hwpt_get_dirty_bitmap.self)
    argument.hwpt_id = hwpt.value
    argument.flags = noClear ? IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR.rawValue : 0
    argument.iova = iova.value
    argument.length = length.value
    argument.page_size = pageSize.value
    let name = "IOMMU_HWPT_GET_DIRTY_BITMAP"
    try withAddress(of: &bitmap) { address throws(Failure) in
      argument.data = address
      try session.ioctl(name, IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP, &argument)
    }
    let dirty = bitmap.reduce(0) { $0 + $1.nonzeroBitCount }
    return Report(
      name,
      fields: [.init("dirty", .decimal(dirty)), .init("data", .text(hexadecimal(bitmap[...])))])
  }
}
