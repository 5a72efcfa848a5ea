// VFIO's type1 container, as an iommufd answers it.

internal import ArgumentParser
internal import CUAPI
internal import UAPI

let containerCommands: [any ParsableCommand.Type] = [
  VFIOIOAS.self, VFIOGetAPIVersion.self, VFIOCheckExtension.self, VFIOSetIOMMU.self,
  VFIOIOMMUGetInfo.self, VFIOIOMMUMapDMA.self, VFIOIOMMUUnmapDMA.self,
]

struct VFIOIOAS: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-ioas",
    abstract: "IOMMU_VFIO_IOAS: the address space that the commands below work on.",
    discussion: """
      Without an option it is read; the result is its id.

        iommufdctl vfio-ioas --fd 3 --set 1
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Make this address space the one.") var set: Word?
  @Flag(help: "Have none.") var clear = false

  func perform(in session: Session) throws(Failure) -> Report {
    let operation =
      clear ? IOMMU_VFIO_IOAS_CLEAR : set == nil ? IOMMU_VFIO_IOAS_GET : IOMMU_VFIO_IOAS_SET
    return try session.call("IOMMU_VFIO_IOAS", .vfioIOAS, iommu_vfio_ioas()) {
      $0.ioas_id = set?.value ?? 0
      $0.op = UInt16(operation.rawValue)
    } outputs: {
      [.decimal("ioas_id", $0.ioas_id)]
    }
  }
}

struct VFIOGetAPIVersion: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-get-api-version",
    abstract: "VFIO_GET_API_VERSION.",
    discussion: """
        iommufdctl vfio-get-api-version --fd 3
      """)
  @OptionGroup var options: CommonOptions

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("VFIO_GET_API_VERSION", .vfioGetAPIVersion, value: 0, result: "version")
  }
}

struct VFIOCheckExtension: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-check-extension",
    abstract: "VFIO_CHECK_EXTENSION.",
    discussion: """
        iommufdctl vfio-check-extension --fd 3 3
      """)
  @OptionGroup var options: CommonOptions
  @Argument(help: "1 type1, 3 type1v2, 4 cache coherence, 7 no nesting, …") var extensionID: Word

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call(
      "VFIO_CHECK_EXTENSION", .vfioCheckExtension, value: UInt(extensionID.value),
      result: "supported")
  }
}

struct VFIOSetIOMMU: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-set-iommu",
    abstract: "VFIO_SET_IOMMU.",
    discussion: """
        iommufdctl vfio-set-iommu --fd 3 3
      """)
  @OptionGroup var options: CommonOptions
  @Argument(help: "1 type1, 3 type1v2.") var type: Word

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("VFIO_SET_IOMMU", .vfioSetIOMMU, value: UInt(type.value))
  }
}

struct VFIOIOMMUGetInfo: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-iommu-get-info",
    abstract: "VFIO_IOMMU_GET_INFO, with its capabilities.",
    discussion: """
        iommufdctl vfio-iommu-get-info --fd 3
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "argsz: the room given to the call.") var argsz = Word(4096)

  func perform(in session: Session) throws(Failure) -> Report {
    let name = "VFIO_IOMMU_GET_INFO"
    let fixed = MemoryLayout<vfio_iommu_type1_info>.size
    var bytes = [UInt8](repeating: 0, count: max(fixed, Int(min(argsz.value, 1 << 20))))
    var info = vfio_iommu_type1_info()
    info.argsz = argsz.value
    bytes.withUnsafeMutableBytes { $0.storeBytes(of: info, as: vfio_iommu_type1_info.self) }
    try session.issue(name, .vfioIOMMUGetInfo, &bytes)
    info = bytes.withUnsafeBytes { $0.loadUnaligned(as: vfio_iommu_type1_info.self) }
    let chain = Array(bytes.prefix(Int(info.argsz)))
    return Report(
      name,
      fields: [
        .decimal("argsz", info.argsz), .hex("flags", info.flags),
        .hex("iova_pgsizes", info.iova_pgsizes),
        .list("capabilities", Self.capabilities(in: chain, from: Int(info.cap_offset))),
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
          .decimal("id", header.id), .decimal("version", header.version),
          .text("data", hexadecimal(bytes[offset + headerSize..<end])),
        ]))
      guard next > offset else { break }
      offset = next
    }
    return result
  }
}

struct VFIOIOMMUMapDMA: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-iommu-map-dma",
    abstract: "VFIO_IOMMU_MAP_DMA: map memory of this process.",
    discussion: """
        iommufdctl vfio-iommu-map-dma --fd 3 --iova 0x40000000 --size 64K
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The IOVA.") var iova: Number
  @Option(help: "Bytes, as 4096, 0x1000 or 4K.") var size: Number
  @Option(help: "Address of a `buffer`; without it a new zeroed one is made.") var address: Number?
  @Option(help: "The flags word: 1 read, 2 write.") var flags = Word(3)

  func perform(in session: Session) throws(Failure) -> Report {
    let memory = try session.memory(at: address, size: size)
    return try session.call("VFIO_IOMMU_MAP_DMA", .vfioIOMMUMapDMA, vfio_iommu_type1_dma_map()) {
      $0.flags = flags.value
      $0.vaddr = memory
      $0.iova = iova.value
      $0.size = size.value
    } outputs: {
      [.hex("iova", $0.iova)]
    }
  }
}

struct VFIOIOMMUUnmapDMA: Command {
  static let configuration = CommandConfiguration(
    commandName: "vfio-iommu-unmap-dma",
    abstract: "VFIO_IOMMU_UNMAP_DMA.",
    discussion: """
      The result is the bytes removed.

        iommufdctl vfio-iommu-unmap-dma --fd 3 --iova 0x40000000 --size 64K
        iommufdctl vfio-iommu-unmap-dma --fd 3 --all
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The IOVA.") var iova = Number(0)
  @Option(help: "Bytes.") var size = Number(0)
  @Flag(help: "VFIO_DMA_UNMAP_FLAG_ALL.") var all = false

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("VFIO_IOMMU_UNMAP_DMA", .vfioIOMMUUnmapDMA, vfio_iommu_type1_dma_unmap()) {
      $0.flags = all ? UInt32(VFIO_DMA_UNMAP_FLAG_ALL) : 0
      $0.iova = iova.value
      $0.size = size.value
    } outputs: {
      [.hex("size", $0.size)]
    }
  }
}
