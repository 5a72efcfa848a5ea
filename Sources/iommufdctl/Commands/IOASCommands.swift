// The commands on I/O address spaces, and the two settings of the whole file.

internal import ArgumentParser
internal import CUAPI
internal import SystemPackage
internal import UAPI

let ioasCommands: [any ParsableCommand.Type] = [
  Destroy.self, IOASAlloc.self, IOASIOVARanges.self, IOASAllowIOVAs.self, IOASMap.self,
  IOASMapFile.self, IOASCopy.self, IOASUnmap.self, IOASChangeProcess.self,
  IOASNoIOMMUGetPA.self, OptionCommand.self,
]

struct Destroy: Command {
  static let configuration = CommandConfiguration(
    commandName: "destroy",
    abstract: "IOMMU_DESTROY: destroy an object by its id.",
    discussion: """
      While something else needs the object the answer is EBUSY: a page table its address space, an \
      attached device its page table. A bound device is destroyed by closing its node.

        iommufdctl destroy --fd 3 5
      """)
  @OptionGroup var options: CommonOptions
  @Argument(help: "The object's id.") var id: Word

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("IOMMU_DESTROY", .destroy, iommu_destroy()) { $0.id = id.value }
  }
}

struct IOASAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-alloc",
    abstract: "IOMMU_IOAS_ALLOC: make an I/O address space.",
    discussion: """
      The result is its id.

        iommufdctl ioas-alloc --fd 3
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The flags word.") var flags = Word(0)

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("IOMMU_IOAS_ALLOC", .ioasAlloc, iommu_ioas_alloc()) {
      $0.flags = flags.value
    } outputs: {
      [.decimal("out_ioas_id", $0.out_ioas_id)]
    }
  }
}

struct IOASIOVARanges: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-iova-ranges",
    abstract: "IOMMU_IOAS_IOVA_RANGES: list the ranges that can be mapped.",
    discussion: """
        iommufdctl ioas-iova-ranges --fd 3 --ioas 1
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word

  func perform(in session: Session) throws(Failure) -> Report {
    let name = "IOMMU_IOAS_IOVA_RANGES"
    let stride = MemoryLayout<iommu_iova_range>.stride
    var argument = session.sized(iommu_ioas_iova_ranges())
    argument.ioas_id = ioas.value
    do throws(Failure) {
      try session.issue(name, .ioasIOVARanges, &argument)
    } catch {
      // The call with no room answers how much room it wants.
      guard case .call(_, .messageTooLong, _) = error else { throw error }
    }
    var bytes = [UInt8](repeating: 0, count: Int(argument.num_iovas) * stride)
    try session.issue(name, .ioasIOVARanges, &argument, data: &bytes, at: \.allowed_iovas)
    let ranges = (0..<Int(argument.num_iovas)).map { index in
      let range = bytes.withUnsafeBytes {
        $0.loadUnaligned(fromByteOffset: index * stride, as: iommu_iova_range.self)
      }
      return Report.Value.fields([.hex("start", range.start), .hex("last", range.last)])
    }
    return Report(
      name,
      fields: [
        .decimal("num_iovas", argument.num_iovas), .list("allowed_iovas", ranges),
        .hex("out_iova_alignment", argument.out_iova_alignment),
      ])
  }
}

struct IOASAllowIOVAs: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-allow-iovas",
    abstract: "IOMMU_IOAS_ALLOW_IOVAS: say which ranges automatic placement may use.",
    discussion: """
        iommufdctl ioas-allow-iovas --fd 3 --ioas 1 0x100000-0x1fffff 0x40000000-0x7fffffff
        iommufdctl ioas-allow-iovas --fd 3 --ioas 1
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word
  @Argument(help: "Ranges FIRST-LAST, both included; none lifts the restriction.")
  var ranges: [Range64] = []

  func perform(in session: Session) throws(Failure) -> Report {
    let bytes = ranges.flatMap { range in
      withUnsafeBytes(of: iommu_iova_range(start: range.start, last: range.last)) { [UInt8]($0) }
    }
    return try session.call(
      "IOMMU_IOAS_ALLOW_IOVAS", .ioasAllowIOVAs, iommu_ioas_allow_iovas(), data: bytes,
      at: \.allowed_iovas
    ) {
      $0.ioas_id = ioas.value
      $0.num_iovas = UInt32(ranges.count)
    }
  }
}

/// Where a mapping goes and what it allows.
struct MappingOptions: ParsableArguments {
  @Option(help: "The IOVA (FIXED_IOVA); without it the driver chooses one.") var iova: Number?
  @Flag(help: "Do not set IOMMU_IOAS_MAP_WRITEABLE.") var readOnly = false
  @Flag(help: "Do not set IOMMU_IOAS_MAP_READABLE.") var writeOnly = false

  /// The member that holds the IOVA on the way in.
  var fixedIOVA: UInt64 { iova?.value ?? 0 }

  var flags: UInt32 {
    var flags = IOMMU_IOAS_MAP_WRITEABLE.rawValue | IOMMU_IOAS_MAP_READABLE.rawValue
    if readOnly { flags &= ~IOMMU_IOAS_MAP_WRITEABLE.rawValue }
    if writeOnly { flags &= ~IOMMU_IOAS_MAP_READABLE.rawValue }
    if iova != nil { flags |= IOMMU_IOAS_MAP_FIXED_IOVA.rawValue }
    return flags
  }
}

struct IOASMap: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-map",
    abstract: "IOMMU_IOAS_MAP: map memory of this process.",
    discussion: """
      The result is the IOVA.

        iommufdctl ioas-map --fd 3 --ioas 1 --length 2M
        iommufdctl ioas-map --fd 3 --ioas 1 --length 64K --iova 0x40000000 --read-only
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word
  @Option(help: "Bytes, as 4096, 0x1000 or 4K.") var length: Number
  @Option(help: "Address of a `buffer`; without it a new zeroed one is made.") var address: Number?
  @OptionGroup var mapping: MappingOptions

  func perform(in session: Session) throws(Failure) -> Report {
    let memory = try session.memory(at: address, size: length)
    return try session.call("IOMMU_IOAS_MAP", .ioasMap, iommu_ioas_map()) {
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

struct IOASMapFile: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-map-file",
    abstract: "IOMMU_IOAS_MAP_FILE: map a memory file.",
    discussion: """
      The result is the IOVA.

        iommufdctl ioas-map-file --fd 3 --ioas 1 --file 5 --start 4K --length 2M
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word
  @Option(help: "Descriptor of the memory file, as `buffer --shared` reports it.") var file: Int32
  @Option(help: "Offset of the first byte.") var start = Number(0)
  @Option(help: "Bytes, as 4096, 0x1000 or 4K.") var length: Number
  @OptionGroup var mapping: MappingOptions

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("IOMMU_IOAS_MAP_FILE", .ioasMapFile, iommu_ioas_map_file()) {
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

struct IOASCopy: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-copy",
    abstract: "IOMMU_IOAS_COPY: map the pages of one address space in another.",
    discussion: """
      The result is the new IOVA.

        iommufdctl ioas-copy --fd 3 --source 1 --destination 2 --source-iova 0x40000000 --length 64K
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space that has the mapping.") var source: Word
  @Option(help: "The address space to map it in.") var destination: Word
  @Option(help: "IOVA in the source.") var sourceIOVA: Number
  @Option(help: "Bytes, as 4096, 0x1000 or 4K.") var length: Number
  @OptionGroup var mapping: MappingOptions

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("IOMMU_IOAS_COPY", .ioasCopy, iommu_ioas_copy()) {
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

struct IOASUnmap: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-unmap",
    abstract: "IOMMU_IOAS_UNMAP: remove mappings.",
    discussion: """
      `--iova 0 --length max` removes all. The result is the bytes removed.

        iommufdctl ioas-unmap --fd 3 --ioas 1 --iova 0x40000000 --length 64K
        iommufdctl ioas-unmap --fd 3 --ioas 1 --iova 0 --length max
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word
  @Option(help: "First IOVA.") var iova: Number
  @Option(help: "Bytes, as 4096, 0x1000 or 4K.") var length: Number

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call("IOMMU_IOAS_UNMAP", .ioasUnmap, iommu_ioas_unmap()) {
      $0.ioas_id = ioas.value
      $0.iova = iova.value
      $0.length = length.value
    } outputs: {
      [.hex("length", $0.length)]
    }
  }
}

struct IOASChangeProcess: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-change-process",
    abstract: "IOMMU_IOAS_CHANGE_PROCESS: account all file mappings to this process.",
    discussion: """
        iommufdctl ioas-change-process --fd 3
      """)
  @OptionGroup var options: CommonOptions

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call(
      "IOMMU_IOAS_CHANGE_PROCESS", .ioasChangeProcess, iommu_ioas_change_process())
  }
}

struct IOASNoIOMMUGetPA: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-noiommu-get-pa",
    abstract: "IOMMU_IOAS_NOIOMMU_GET_PA: the physical address behind an IOVA, without an IOMMU.",
    discussion: """
        iommufdctl ioas-noiommu-get-pa --fd 3 --ioas 1 --iova 0x40000000 --length 64K
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word
  @Option(help: "The IOVA.") var iova: Number
  @Option(help: "Longest contiguous run wanted.") var length = Number(4096)

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call(
      "IOMMU_IOAS_NOIOMMU_GET_PA", .ioasNoIOMMUGetPA, iommu_ioas_noiommu_get_pa()
    ) {
      $0.ioas_id = ioas.value
      $0.iova = iova.value
      $0.length = length.value
    } outputs: {
      [.hex("out_phys", $0.out_phys), .hex("length", $0.length)]
    }
  }
}

struct OptionCommand: Command {
  static let configuration = CommandConfiguration(
    commandName: "option",
    abstract: "IOMMU_OPTION: read or set an option.",
    discussion: """
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
  @Argument(help: "Which option.") var name: Name
  @Option(help: "The object it belongs to; 0 is the whole file.") var object = Word(0)
  @Option(help: "The value to set; without it the option is read.") var set: Number?

  func perform(in session: Session) throws(Failure) -> Report {
    let operation = set == nil ? IOMMU_OPTION_OP_GET : IOMMU_OPTION_OP_SET
    return try session.call("IOMMU_OPTION", .option, iommu_option()) {
      $0.option_id = name.id
      $0.op = UInt16(operation.rawValue)
      $0.object_id = object.value
      $0.val64 = set?.value ?? 0
    } outputs: {
      [.decimal("val64", $0.val64)]
    }
  }
}
