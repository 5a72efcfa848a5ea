// SPDX-License-Identifier: Apache-2.0

// The ioctls of a VFIO type1 container, which an iommufd answers.

internal import ArgumentParser
internal import CUAPI
internal import UAPI

let containerCommands: [any ParsableCommand.Type] = [
  VFIOIOAS.self, VFIOGetAPIVersion.self, VFIOCheckExtension.self, VFIOSetIOMMU.self,
  VFIOIOMMUGetInfo.self, VFIOIOMMUMapDMA.self, VFIOIOMMUUnmapDMA.self,
]

struct VFIOIOAS: IoctlCommand {
  static let ioctl = Ioctl.vfioIOAS
  static let configuration = ioctlConfiguration(
    "vfio-ioas", "choose the IOAS that container ioctls work on.",
    discussion: """
      Without --set and --clear the choice is read. The result is the object ID of the IOAS; \
      ENODEV: none is chosen.

        iommufdctl vfio-ioas --fd 3 --set 1
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the IOAS to choose.") var set: Word?
  @Flag(help: "Choose no IOAS.") var clear = false

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let operation =
      clear ? IOMMU_VFIO_IOAS_CLEAR : set == nil ? IOMMU_VFIO_IOAS_GET : IOMMU_VFIO_IOAS_SET
    return try session.call(Self.ioctl, iommu_vfio_ioas()) {
      $0.ioas_id = set?.value ?? 0
      $0.op = UInt16(operation.rawValue)
    } outputs: {
      [.decimal("ioas_id", $0.ioas_id)]
    }
  }
}

struct VFIOGetAPIVersion: IoctlCommand {
  static let ioctl = Ioctl.vfioGetAPIVersion
  static let configuration = ioctlConfiguration(
    "vfio-get-api-version", "read the version of the VFIO interface.",
    discussion: """
      The result is 0, VFIO_API_VERSION.

        iommufdctl vfio-get-api-version --fd 3
      """)
  @OptionGroup var options: CommonOptions

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, value: 0, result: "version")
  }
}

struct VFIOCheckExtension: IoctlCommand {
  static let ioctl = Ioctl.vfioCheckExtension
  static let configuration = ioctlConfiguration(
    "vfio-check-extension", "ask whether an extension is supported.",
    discussion: """
      The result is 1, or 0 when it is not.

        iommufdctl vfio-check-extension --fd 3 3
      """)
  @OptionGroup var options: CommonOptions
  @Argument(
    help: """
      The extension: 1 type1, 3 type1v2, 4 DMA is cache-coherent, 9 VFIO_DMA_UNMAP_FLAG_ALL, …
      """)
  var extensionID: Word

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, value: UInt(extensionID.value), result: "supported")
  }
}

struct VFIOSetIOMMU: IoctlCommand {
  static let ioctl = Ioctl.vfioSetIOMMU
  static let configuration = ioctlConfiguration(
    "vfio-set-iommu", "choose the type of the container.",
    discussion: """
      An unmap in a type1 container can remove a part of a mapping; in a type1v2 container it \
      cannot.

        iommufdctl vfio-set-iommu --fd 3 3
      """)
  @OptionGroup var options: CommonOptions
  @Argument(help: "The type: 1 type1, 3 type1v2.") var type: Word

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, value: UInt(type.value))
  }
}

struct VFIOIOMMUGetInfo: IoctlCommand {
  static let ioctl = Ioctl.vfioIOMMUGetInfo
  static let configuration = ioctlConfiguration(
    "vfio-iommu-get-info", "describe the container's IOMMU.",
    discussion: """
      The result is argsz: the bytes that the struct and all capabilities need. The capabilities \
      are shown when they fit into --argsz.

        iommufdctl vfio-iommu-get-info --fd 3
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The argsz field: bytes of the buffer for the answer.") var argsz = Word(4096)

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let fixed = MemoryLayout<vfio_iommu_type1_info>.size
    var bytes = [UInt8](repeating: 0, count: max(fixed, Int(min(argsz.value, 1 << 20))))
    var info = vfio_iommu_type1_info()
    info.argsz = argsz.value
    bytes.withUnsafeMutableBytes { $0.storeBytes(of: info, as: vfio_iommu_type1_info.self) }
    try session.issue(Self.ioctl, &bytes)
    info = bytes.withUnsafeBytes { $0.loadUnaligned(as: vfio_iommu_type1_info.self) }
    let chain = Array(bytes.prefix(Int(info.argsz)))
    return Report(
      Self.ioctl.name,
      fields: [
        .decimal("argsz", info.argsz), .hex("flags", info.flags),
        .hex("iova_pgsizes", info.iova_pgsizes),
        .list("capabilities", Self.capabilities(in: chain, from: Int(info.cap_offset))),
      ])
  }

  /// Returns the capabilities of a chain, each with its ID, its version and its bytes up to the
  /// next capability.
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

struct VFIOIOMMUMapDMA: IoctlCommand {
  static let ioctl = Ioctl.vfioIOMMUMapDMA
  static let configuration = ioctlConfiguration(
    "vfio-iommu-map-dma", "map memory of this process.",
    discussion: """
      The result is the IOVA. The memory belongs to this process and ends with it; a script keeps \
      it as long as the script runs.

        iommufdctl vfio-iommu-map-dma --fd 3 --iova 0x40000000 --size 64K
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "First IOVA.") var iova: Number
  @Option(help: "Bytes, for example 4096, 0x1000 or 4K.") var size: Number
  @Option(help: "Address of a buffer; without it a new buffer of zeros is made.")
  var address: Number?
  @Option(help: "The flags field: 1 devices may read, 2 devices may write.") var flags = Word(3)

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let memory = try session.memory(at: address, size: size)
    return try session.call(Self.ioctl, vfio_iommu_type1_dma_map()) {
      $0.flags = flags.value
      $0.vaddr = memory
      $0.iova = iova.value
      $0.size = size.value
    } outputs: {
      [.hex("iova", $0.iova)]
    }
  }
}

struct VFIOIOMMUUnmapDMA: IoctlCommand {
  static let ioctl = Ioctl.vfioIOMMUUnmapDMA
  static let configuration = ioctlConfiguration(
    "vfio-iommu-unmap-dma", "remove the mappings in a range.",
    discussion: """
      The result is the number of bytes that were mapped.

        iommufdctl vfio-iommu-unmap-dma --fd 3 --iova 0x40000000 --size 64K
        iommufdctl vfio-iommu-unmap-dma --fd 3 --all
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "First IOVA.") var iova = Number(0)
  @Option(help: "Bytes, for example 4096, 0x1000 or 4K.") var size = Number(0)
  @Flag(help: "Remove all mappings (VFIO_DMA_UNMAP_FLAG_ALL).") var all = false

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, vfio_iommu_type1_dma_unmap()) {
      $0.flags = all ? UInt32(VFIO_DMA_UNMAP_FLAG_ALL) : 0
      $0.iova = iova.value
      $0.size = size.value
    } outputs: {
      [.hex("size", $0.size)]
    }
  }
}
