// VFIO's type1 container, as an iommufd answers it.

internal import ArgumentParser
internal import CUAPI

let containerCommands: [any ParsableCommand.Type] = [
  VFIOIOAS.self, VFIOGetAPIVersion.self, VFIOCheckExtension.self, VFIOSetIOMMU.self,
  VFIOIOMMUGetInfo.self, VFIOIOMMUMapDMA.self, VFIOIOMMUUnmapDMA.self,
]

/// Request numbers of vfio.h, which defines them by macros that Swift does not see.
enum VFIONumber {
  static let base: UInt8 = 100
  static let getAPIVersion = base + 0
  static let checkExtension = base + 1
  static let setIOMMU = base + 2
  static let deviceGetInfo = base + 7
  static let deviceGetRegionInfo = base + 8
  static let deviceGetIRQInfo = base + 9
  static let deviceSetIRQs = base + 10
  static let deviceReset = base + 11
  static let iommuGetInfo = base + 12
  static let iommuMapDMA = base + 13
  static let iommuUnmapDMA = base + 14
  static let deviceFeature = base + 17
  static let deviceBindIOMMUFD = base + 18
  static let deviceAttachIOMMUFDPT = base + 19
  static let deviceDetachIOMMUFDPT = base + 20
}

struct VFIOIOAS: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-ioas",
    abstract: "IOMMU_VFIO_IOAS: the address space that the commands below work on.",
    discussion: "Without an option it is read; the result is its id.")
  @OptionGroup var options: CommonOptions
  @Option(help: "Make this address space the one.") var set: Word?
  @Flag(help: "Have none.") var clear = false

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_vfio_ioas()
    argument.size = size(of: iommu_vfio_ioas.self)
    argument.ioas_id = set?.value ?? 0
    let operation =
      clear ? IOMMU_VFIO_IOAS_CLEAR : set == nil ? IOMMU_VFIO_IOAS_GET : IOMMU_VFIO_IOAS_SET
    argument.op = UInt16(operation.rawValue)
    try session.ioctl("IOMMU_VFIO_IOAS", IOMMUFD_CMD_VFIO_IOAS, &argument)
    return Report("IOMMU_VFIO_IOAS", fields: [.init("ioas_id", .decimal(argument.ioas_id))])
  }
}

struct VFIOGetAPIVersion: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-get-api-version", abstract: "VFIO_GET_API_VERSION.")
  @OptionGroup var options: CommonOptions

  func perform(in session: Session) throws(Failure) -> Report {
    let version = try session.issue("VFIO_GET_API_VERSION", VFIONumber.getAPIVersion, 0)
    return Report("VFIO_GET_API_VERSION", fields: [.init("version", .decimal(version))])
  }
}

struct VFIOCheckExtension: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-check-extension", abstract: "VFIO_CHECK_EXTENSION.")
  @OptionGroup var options: CommonOptions
  @Argument(help: "1 type1, 3 type1v2, 4 cache coherence, 7 no nesting, …") var extensionID: Word

  func perform(in session: Session) throws(Failure) -> Report {
    let answer = try session.issue(
      "VFIO_CHECK_EXTENSION", VFIONumber.checkExtension, UInt(extensionID.value))
    return Report("VFIO_CHECK_EXTENSION", fields: [.init("supported", .decimal(answer))])
  }
}

struct VFIOSetIOMMU: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-set-iommu", abstract: "VFIO_SET_IOMMU.")
  @OptionGroup var options: CommonOptions
  @Argument(help: "1 type1, 3 type1v2.") var type: Word

  func perform(in session: Session) throws(Failure) -> Report {
    try session.issue("VFIO_SET_IOMMU", VFIONumber.setIOMMU, UInt(type.value))
    return Report("VFIO_SET_IOMMU")
  }
}

struct VFIOIOMMUGetInfo: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-iommu-get-info", abstract: "VFIO_IOMMU_GET_INFO, with its capabilities.")
  @OptionGroup var options: CommonOptions
  @Option(help: "argsz: the room given to the call.") var argsz = Word(4096)

  func perform(in session: Session) throws(Failure) -> Report {
    let name = "VFIO_IOMMU_GET_INFO"
    let fixed = MemoryLayout<vfio_iommu_type1_info>.size
    var bytes = [UInt8](repeating: 0, count: max(fixed, Int(min(argsz.value, 1 << 20))))
    var info = vfio_iommu_type1_info()
    info.argsz = argsz.value
    bytes.withUnsafeMutableBytes { $0.storeBytes(of: info, as: vfio_iommu_type1_info.self) }
    try withAddress(of: &bytes) { address throws(Failure) in
      try session.issue(name, VFIONumber.iommuGetInfo, UInt(address))
    }
    info = bytes.withUnsafeBytes { $0.loadUnaligned(as: vfio_iommu_type1_info.self) }
    let chain = Array(bytes.prefix(Int(info.argsz)))
    return Report(
      name,
      fields: [
        .init("argsz", .decimal(info.argsz)), .init("flags", .hex(info.flags)),
        .init("iova_pgsizes", .hex(info.iova_pgsizes)),
        .init("capabilities", .list(Self.capabilities(in: chain, from: Int(info.cap_offset)))),
      ])
  }

  /// The chain of capabilities, each with its id, version and bytes up to the next one.
  private static func capabilities(in bytes: [UInt8], from first: Int) -> [Report.Value] {
    var result: [Report.Value] = []
    var offset = first
    let headerSize = MemoryLayout<vfio_info_cap_header>.size
    while offset > 0, offset + headerSize <= bytes.count {
      let header = bytes.withUnsafeBytes {
        $0.loadUnaligned(fromByteOffset: offset, as: vfio_info_cap_header.self)
      }
      let next = Int(header.next)
      let end = next > offset && next <= bytes.count ? next : bytes.count
      result.append(
        .fields([
          .init("id", .decimal(header.id)), .init("version", .decimal(header.version)),
          .init("data", .text(hexadecimal(bytes[offset + headerSize..<end]))),
        ]))
      guard next > offset else { break }
      offset = next
    }
    return result
  }
}

struct VFIOIOMMUMapDMA: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-iommu-map-dma", abstract: "VFIO_IOMMU_MAP_DMA: map memory of this process.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The IOVA.") var iova: Number
  @Option(help: "Bytes.") var size: Number
  @Option(help: "Address of a `buffer`; without it a new zeroed one is made.") var address: Number?
  @Option(help: "The flags word: 1 read, 2 write.") var flags = Word(3)

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = vfio_iommu_type1_dma_map()
    argument.argsz = UInt32(MemoryLayout<vfio_iommu_type1_dma_map>.size)
    argument.flags = flags.value
    argument.vaddr = try session.memory(at: address, size: size)
    argument.iova = iova.value
    argument.size = size.value
    try session.ioctl("VFIO_IOMMU_MAP_DMA", VFIONumber.iommuMapDMA, &argument)
    return Report("VFIO_IOMMU_MAP_DMA", fields: [.init("iova", .hex(argument.iova))])
  }
}

struct VFIOIOMMUUnmapDMA: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-iommu-unmap-dma", abstract: "VFIO_IOMMU_UNMAP_DMA.",
    discussion: "The result is the bytes removed.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The IOVA.") var iova = Number(0)
  @Option(help: "Bytes.") var size = Number(0)
  @Flag(help: "VFIO_DMA_UNMAP_FLAG_ALL.") var all = false

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = vfio_iommu_type1_dma_unmap()
    argument.argsz = UInt32(MemoryLayout<vfio_iommu_type1_dma_unmap>.size)
    argument.flags = all ? UInt32(VFIO_DMA_UNMAP_FLAG_ALL) : 0
    argument.iova = iova.value
    argument.size = size.value
    try session.ioctl("VFIO_IOMMU_UNMAP_DMA", VFIONumber.iommuUnmapDMA, &argument)
    return Report("VFIO_IOMMU_UNMAP_DMA", fields: [.init("size", .hex(argument.size))])
  }
}
