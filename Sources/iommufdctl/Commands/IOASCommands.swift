// SPDX-License-Identifier: Apache-2.0

// The ioctls on I/O address spaces, and those on the whole file: IOMMU_DESTROY and IOMMU_OPTION.

internal import ArgumentParser
internal import CUAPI
internal import SystemPackage
internal import UAPI

let ioasCommands: [any ParsableCommand.Type] = [
  Destroy.self, IOASAlloc.self, IOASIOVARanges.self, IOASAllowIOVAs.self, IOASMap.self,
  IOASMapFile.self, IOASCopy.self, IOASUnmap.self, IOASChangeProcess.self,
  IOASNoIOMMUGetPA.self, OptionCommand.self,
]

struct Destroy: IoctlCommand {
  static let ioctl = Ioctl.destroy
  static let configuration = ioctlConfiguration(
    "destroy", "destroy an object.",
    discussion: """
      EBUSY while another object uses this one: a HWPT uses its IOAS, and an attached device uses \
      its HWPT. A bound device is destroyed by closing its device file.

        iommufdctl destroy --fd 3 5
      """)
  @OptionGroup var options: CommonOptions
  @Argument(help: "Object ID.") var id: Word

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_destroy()) { $0.id = id.value }
  }
}

struct IOASAlloc: IoctlCommand {
  static let ioctl = Ioctl.ioasAlloc
  static let configuration = ioctlConfiguration(
    "ioas-alloc", "make an I/O address space (IOAS).",
    discussion: """
      An IOAS maps I/O virtual addresses (IOVAs) to memory. Devices that are attached to it use \
      its mappings. The result is its object ID.

        iommufdctl ioas-alloc --fd 3
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The flags field; no flag is defined.") var flags = Word(0)

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_ioas_alloc()) {
      $0.flags = flags.value
    } outputs: {
      [.decimal("out_ioas_id", $0.out_ioas_id)]
    }
  }
}

struct IOASIOVARanges: IoctlCommand {
  static let ioctl = Ioctl.ioasIOVARanges
  static let configuration = ioctlConfiguration(
    "ioas-iova-ranges", "list the IOVA ranges that can be mapped.",
    discussion: """
      The answer changes with every device that is attached or detached: the ranges are those \
      that all attached devices can use. IOVAs and lengths of mappings must be multiples of \
      out_iova_alignment.

        iommufdctl ioas-iova-ranges --fd 3 --ioas 1
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the IOAS.") var ioas: Word

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let stride = MemoryLayout<iommu_iova_range>.stride
    var argument = session.sized(iommu_ioas_iova_ranges())
    argument.ioas_id = ioas.value
    do throws(Failure) {
      try session.issue(Self.ioctl, &argument)
    } catch {
      // EMSGSIZE: an array without elements is too short, and num_iovas now has the length needed.
      guard case .call(_, .messageTooLong, _) = error else { throw error }
    }
    var bytes = [UInt8](repeating: 0, count: Int(argument.num_iovas) * stride)
    try session.issue(Self.ioctl, &argument, data: &bytes, at: \.allowed_iovas)
    let ranges = (0..<Int(argument.num_iovas)).map { index in
      let range = bytes.withUnsafeBytes {
        $0.loadUnaligned(fromByteOffset: index * stride, as: iommu_iova_range.self)
      }
      return Report.Value.fields([.hex("start", range.start), .hex("last", range.last)])
    }
    return Report(
      Self.ioctl.name,
      fields: [
        .decimal("num_iovas", argument.num_iovas), .list("allowed_iovas", ranges),
        .hex("out_iova_alignment", argument.out_iova_alignment),
      ])
  }
}

struct IOASAllowIOVAs: IoctlCommand {
  static let ioctl = Ioctl.ioasAllowIOVAs
  static let configuration = ioctlConfiguration(
    "ioas-allow-iovas", "reserve IOVA ranges for mappings.",
    discussion: """
      Afterwards a device that cannot use all of these ranges cannot be attached, and an IOVA \
      that the IOAS chooses lies in one of them. Each call replaces the former list; an empty \
      list ends the restriction. EADDRINUSE: a range is not available now.

        iommufdctl ioas-allow-iovas --fd 3 --ioas 1 \\
          0x100000-0x1fffff 0x40000000-0x7fffffff
        iommufdctl ioas-allow-iovas --fd 3 --ioas 1
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the IOAS.") var ioas: Word
  @Argument(help: "Ranges FIRST-LAST; the last IOVA is included.")
  var ranges: [IOVARange] = []

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let bytes = ranges.flatMap { range in
      withUnsafeBytes(of: iommu_iova_range(start: range.start, last: range.last)) { [UInt8]($0) }
    }
    return try session.call(
      Self.ioctl, iommu_ioas_allow_iovas(), data: bytes, at: \.allowed_iovas
    ) {
      $0.ioas_id = ioas.value
      $0.num_iovas = UInt32(ranges.count)
    }
  }
}

/// The IOVA and the permissions of a new mapping.
struct MappingOptions: ParsableArguments {
  @Option(help: "IOVA (IOMMU_IOAS_MAP_FIXED_IOVA); without it the IOAS chooses a free range.")
  var iova: Number?
  @Flag(help: "Devices may only read: no IOMMU_IOAS_MAP_WRITEABLE.") var readOnly = false
  @Flag(help: "Devices may only write: no IOMMU_IOAS_MAP_READABLE.") var writeOnly = false

  /// The input value of the member that holds the IOVA.
  var fixedIOVA: UInt64 { iova?.value ?? 0 }

  var flags: UInt32 {
    var flags = IOMMU_IOAS_MAP_WRITEABLE.rawValue | IOMMU_IOAS_MAP_READABLE.rawValue
    if readOnly { flags &= ~IOMMU_IOAS_MAP_WRITEABLE.rawValue }
    if writeOnly { flags &= ~IOMMU_IOAS_MAP_READABLE.rawValue }
    if iova != nil { flags |= IOMMU_IOAS_MAP_FIXED_IOVA.rawValue }
    return flags
  }
}

struct IOASMap: IoctlCommand {
  static let ioctl = Ioctl.ioasMap
  static let configuration = ioctlConfiguration(
    "ioas-map", "map memory of this process.",
    discussion: """
      The result is the IOVA. The memory belongs to this process and ends with it; a script keeps \
      it as long as the script runs. EEXIST: a part of the range is mapped already. ENOSPC: the \
      IOAS has no free range of that length.

        iommufdctl ioas-map --fd 3 --ioas 1 --length 2M
        iommufdctl ioas-map --fd 3 --ioas 1 --length 64K --iova 0x40000000 \\
          --read-only
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the IOAS.") var ioas: Word
  @Option(help: "Bytes, for example 4096, 0x1000 or 4K.") var length: Number
  @Option(help: "Address of a buffer; without it a new buffer of zeros is made.")
  var address: Number?
  @OptionGroup var mapping: MappingOptions

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let memory = try session.memory(at: address, size: length)
    return try session.call(Self.ioctl, iommu_ioas_map()) {
      $0.flags = mapping.flags
      $0.ioas_id = ioas.value
      $0.user_va = memory
      $0.length = length.value
      $0.iova = mapping.fixedIOVA
    } outputs: {
      [.hex("iova", $0.iova), .hex("user_va", $0.user_va)]
    }
  }
}

struct IOASMapFile: IoctlCommand {
  static let ioctl = Ioctl.ioasMapFile
  static let configuration = ioctlConfiguration(
    "ioas-map-file", "map pages of a memfd.",
    discussion: """
      The result is the IOVA. The mapping stays when the descriptor is closed and when this \
      process ends.

        iommufdctl ioas-map-file --fd 3 --ioas 1 --file 5 --start 4K --length 2M
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the IOAS.") var ioas: Word
  @Option(help: "Descriptor of the memfd, as `buffer --shared` reports it.") var file: Int32
  @Option(help: "Offset of the first byte in the file.") var start = Number(0)
  @Option(help: "Bytes, for example 4096, 0x1000 or 4K.") var length: Number
  @OptionGroup var mapping: MappingOptions

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_ioas_map_file()) {
      $0.flags = mapping.flags
      $0.ioas_id = ioas.value
      $0.fd = file
      $0.start = start.value
      $0.length = length.value
      $0.iova = mapping.fixedIOVA
    } outputs: {
      [.hex("iova", $0.iova)]
    }
  }
}

struct IOASCopy: IoctlCommand {
  static let ioctl = Ioctl.ioasCopy
  static let configuration = ioctlConfiguration(
    "ioas-copy", "map the pages of a mapping once more.",
    discussion: """
      The pages are pinned and accounted once for both mappings. The source range must be mapped \
      without gaps. The result is the new IOVA.

        iommufdctl ioas-copy --fd 3 --source 1 --source-iova 0x40000000 \\
          --length 64K --destination 2
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the IOAS with the mapping.") var source: Word
  @Option(help: "Object ID of the IOAS to map in.") var destination: Word
  @Option(help: "IOVA in the source.") var sourceIOVA: Number
  @Option(help: "Bytes, for example 4096, 0x1000 or 4K.") var length: Number
  @OptionGroup var mapping: MappingOptions

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_ioas_copy()) {
      $0.flags = mapping.flags
      $0.dst_ioas_id = destination.value
      $0.src_ioas_id = source.value
      $0.length = length.value
      $0.dst_iova = mapping.fixedIOVA
      $0.src_iova = sourceIOVA.value
    } outputs: {
      [.hex("dst_iova", $0.dst_iova)]
    }
  }
}

struct IOASUnmap: IoctlCommand {
  static let ioctl = Ioctl.ioasUnmap
  static let configuration = ioctlConfiguration(
    "ioas-unmap", "remove the mappings in a range.",
    discussion: """
      Mappings are removed as a whole. ENOENT: the range contains a part of a mapping, or no \
      mapping. `--iova 0 --length max` removes all mappings. The result is the number of bytes \
      that were mapped.

        iommufdctl ioas-unmap --fd 3 --ioas 1 --iova 0x40000000 --length 64K
        iommufdctl ioas-unmap --fd 3 --ioas 1 --iova 0 --length max
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the IOAS.") var ioas: Word
  @Option(help: "First IOVA.") var iova: Number
  @Option(help: "Bytes, for example 4096, 0x1000 or 4K.") var length: Number

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_ioas_unmap()) {
      $0.ioas_id = ioas.value
      $0.iova = iova.value
      $0.length = length.value
    } outputs: {
      [.hex("length", $0.length)]
    }
  }
}

struct IOASChangeProcess: IoctlCommand {
  static let ioctl = Ioctl.ioasChangeProcess
  static let configuration = ioctlConfiguration(
    "ioas-change-process", "account all pinned memory to this process.",
    discussion: """
      For a program that hands its devices over to another process. EINVAL unless every mapping \
      of the iommufd is a mapping of a file.

        iommufdctl ioas-change-process --fd 3
      """)
  @OptionGroup var options: CommonOptions

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_ioas_change_process())
  }
}

struct IOASNoIOMMUGetPA: IoctlCommand {
  static let ioctl = Ioctl.ioasNoIOMMUGetPA
  static let configuration = ioctlConfiguration(
    "ioas-noiommu-get-pa", "show the physical address behind an IOVA.",
    discussion: """
      For devices without an IOMMU, whose DMA needs physical addresses. EOPNOTSUPP in the \
      simulator, as in a kernel without CONFIG_IOMMUFD_NOIOMMU. The result is the physical \
      address; `length` is the number of contiguous bytes there.

        iommufdctl ioas-noiommu-get-pa --fd 3 --ioas 1 --iova 0x40000000 \\
          --length 64K
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of the IOAS.") var ioas: Word
  @Option(help: "A mapped IOVA.") var iova: Number
  @Option(help: "The most contiguous bytes to look for.") var length = Number(4096)

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommu_ioas_noiommu_get_pa()) {
      $0.ioas_id = ioas.value
      $0.iova = iova.value
      $0.length = length.value
    } outputs: {
      [.hex("out_phys", $0.out_phys), .hex("length", $0.length)]
    }
  }
}

struct OptionCommand: IoctlCommand {
  static let ioctl = Ioctl.option
  static let configuration = ioctlConfiguration(
    "option", "read or set an option.",
    discussion: """
      rlimit-mode, an option of the whole file: 0 accounts pinned pages to the user (the \
      default), 1 to the process. Setting it needs CAP_SYS_RESOURCE, and is EBUSY once the file \
      has objects.

      huge-pages, an option of an IOAS: 1 lets adjacent pages share a large page-table entry \
      (the default), 0 does not.

        iommufdctl option --fd 3 rlimit-mode
        iommufdctl option --fd 3 huge-pages --object 1 --set 0
      """)

  enum Name: String, ExpressibleByArgument, CaseIterable {
    case rlimitMode = "rlimit-mode"
    case hugePages = "huge-pages"

    var id: UInt32 {
      switch self {
      case .rlimitMode: IOMMU_OPTION_RLIMIT_MODE.rawValue
      case .hugePages: IOMMU_OPTION_HUGE_PAGES.rawValue
      }
    }
  }

  @OptionGroup var options: CommonOptions
  @Argument(help: "The option.") var name: Name
  @Option(help: "Object ID of its IOAS; 0 for the whole file.") var object = Word(0)
  @Option(help: "The value to set; without it the option is read.") var set: Number?

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let operation = set == nil ? IOMMU_OPTION_OP_GET : IOMMU_OPTION_OP_SET
    return try session.call(Self.ioctl, iommu_option()) {
      $0.option_id = name.id
      $0.op = UInt16(operation.rawValue)
      $0.object_id = object.value
      $0.val64 = set?.value ?? 0
    } outputs: {
      [.decimal("val64", $0.val64)]
    }
  }
}
