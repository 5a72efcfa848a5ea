// The commands on I/O address spaces, and the two settings of the whole file.

internal import ArgumentParser
internal import CUAPI
internal import SystemPackage

let ioasCommands: [any ParsableCommand.Type] = [
  Destroy.self, IOASAlloc.self, IOASIOVARanges.self, IOASAllowIOVAs.self, IOASMap.self,
  IOASMapFile.self, IOASCopy.self, IOASUnmap.self, IOASChangeProcess.self,
  IOASNoIOMMUGetPA.self, OptionCommand.self,
]

/// The size member that every iommufd struct begins with.
func size<T>(of type: T.Type) -> UInt32 { UInt32(MemoryLayout<T>.size) }

struct Destroy: Command {
  static let configuration = CommandConfiguration(
    commandName: "destroy", abstract: "IOMMU_DESTROY: destroy an object by its id.")
  @OptionGroup var options: CommonOptions
  @Argument(help: "The object's id.") var id: Word

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_destroy(size: size(of: iommu_destroy.self), id: id.value)
    try session.ioctl("IOMMU_DESTROY", IOMMUFD_CMD_DESTROY, &argument)
    return Report("IOMMU_DESTROY")
  }
}

struct IOASAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-alloc", abstract: "IOMMU_IOAS_ALLOC: make an I/O address space.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The flags word.") var flags = Word(0)

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_ioas_alloc()
    argument.size = size(of: iommu_ioas_alloc.self)
    argument.flags = flags.value
    try session.ioctl("IOMMU_IOAS_ALLOC", IOMMUFD_CMD_IOAS_ALLOC, &argument)
    return Report(
      "IOMMU_IOAS_ALLOC", fields: [.init("out_ioas_id", .decimal(argument.out_ioas_id))])
  }
}

struct IOASIOVARanges: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-iova-ranges",
    abstract: "IOMMU_IOAS_IOVA_RANGES: list the ranges that can be mapped.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word

  func perform(in session: Session) throws(Failure) -> Report {
    let name = "IOMMU_IOAS_IOVA_RANGES"
    let stride = MemoryLayout<iommu_iova_range>.stride
    var argument = iommu_ioas_iova_ranges()
    argument.size = size(of: iommu_ioas_iova_ranges.self)
    argument.ioas_id = ioas.value
    do throws(Failure) {
      try session.ioctl(name, IOMMUFD_CMD_IOAS_IOVA_RANGES, &argument)
    } catch {
      // The call with no room answers how much room it wants.
      guard case .call(_, .messageTooLong, _) = error else { throw error }
    }
    var bytes = [UInt8](repeating: 0, count: Int(argument.num_iovas) * stride)
    try withAddress(of: &bytes) { address throws(Failure) in
      argument.allowed_iovas = address
      try session.ioctl(name, IOMMUFD_CMD_IOAS_IOVA_RANGES, &argument)
    }
    let ranges = (0..<Int(argument.num_iovas)).map { index in
      bytes.withUnsafeBytes {
        $0.loadUnaligned(fromByteOffset: index * stride, as: iommu_iova_range.self)
      }
    }
    return Report(
      name,
      fields: [
        .init("num_iovas", .decimal(argument.num_iovas)),
        .init(
          "allowed_iovas",
          .list(
            ranges.map {
              .fields([.init("start", .hex($0.start)), .init("last", .hex($0.last))])
            })),
        .init("out_iova_alignment", .hex(argument.out_iova_alignment)),
      ])
  }
}

struct IOASAllowIOVAs: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-allow-iovas",
    abstract: "IOMMU_IOAS_ALLOW_IOVAS: say which ranges automatic placement may use.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word
  @Argument(help: "Ranges FIRST-LAST, both included; none lifts the restriction.")
  var ranges: [Range64] = []

  func perform(in session: Session) throws(Failure) -> Report {
    var bytes = ranges.flatMap { range in
      withUnsafeBytes(of: iommu_iova_range(start: range.start, last: range.last)) { [UInt8]($0) }
    }
    var argument = iommu_ioas_allow_iovas()
    argument.size = size(of: iommu_ioas_allow_iovas.self)
    argument.ioas_id = ioas.value
    argument.num_iovas = UInt32(ranges.count)
    try withAddress(of: &bytes) { address throws(Failure) in
      argument.allowed_iovas = address
      try session.ioctl("IOMMU_IOAS_ALLOW_IOVAS", IOMMUFD_CMD_IOAS_ALLOW_IOVAS, &argument)
    }
    return Report("IOMMU_IOAS_ALLOW_IOVAS")
  }
}

/// Where a mapping goes and what it allows.
struct MappingOptions: ParsableArguments {
  @Option(help: "The IOVA (FIXED_IOVA); without it the driver chooses one.") var iova: Number?
  @Flag(help: "Do not set IOMMU_IOAS_MAP_WRITEABLE.") var readOnly = false
  @Flag(help: "Do not set IOMMU_IOAS_MAP_READABLE.") var writeOnly = false

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
    commandName: "ioas-map", abstract: "IOMMU_IOAS_MAP: map memory of this process.",
    discussion: "The result is the IOVA.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word
  @Option(help: "Bytes.") var length: Number
  @Option(help: "Address of a `buffer`; without it a new zeroed one is made.") var address: Number?
  @OptionGroup var mapping: MappingOptions

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_ioas_map()
    argument.size = size(of: iommu_ioas_map.self)
    argument.flags = mapping.flags
    argument.ioas_id = ioas.value
    argument.user_va = try session.memory(at: address, size: length)
    argument.length = length.value
    argument.iova = mapping.iova?.value ?? 0
    try session.ioctl("IOMMU_IOAS_MAP", IOMMUFD_CMD_IOAS_MAP, &argument)
    return Report(
      "IOMMU_IOAS_MAP",
      fields: [.init("iova", .hex(argument.iova)), .init("user_va", .hex(argument.user_va))])
  }
}

struct IOASMapFile: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-map-file", abstract: "IOMMU_IOAS_MAP_FILE: map a memory file.",
    discussion: "The result is the IOVA.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word
  @Option(help: "Descriptor of the memory file, as `buffer --shared` reports it.") var file: Int32
  @Option(help: "Offset of the first byte.") var start = Number(0)
  @Option(help: "Bytes.") var length: Number
  @OptionGroup var mapping: MappingOptions

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_ioas_map_file()
    argument.size = size(of: iommu_ioas_map_file.self)
    argument.flags = mapping.flags
    argument.ioas_id = ioas.value
    argument.fd = file
    argument.start = start.value
    argument.length = length.value
    argument.iova = mapping.iova?.value ?? 0
    try session.ioctl("IOMMU_IOAS_MAP_FILE", IOMMUFD_CMD_IOAS_MAP_FILE, &argument)
    return Report("IOMMU_IOAS_MAP_FILE", fields: [.init("iova", .hex(argument.iova))])
  }
}

struct IOASCopy: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-copy",
    abstract: "IOMMU_IOAS_COPY: map the pages of one address space in another.",
    discussion: "The result is the new IOVA.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space that has the mapping.") var source: Word
  @Option(help: "The address space to map it in.") var destination: Word
  @Option(help: "IOVA in the source.") var sourceIOVA: Number
  @Option(help: "Bytes.") var length: Number
  @OptionGroup var mapping: MappingOptions

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_ioas_copy()
    argument.size = size(of: iommu_ioas_copy.self)
    argument.flags = mapping.flags
    argument.dst_ioas_id = destination.value
    argument.src_ioas_id = source.value
    argument.length = length.value
    argument.dst_iova = mapping.iova?.value ?? 0
    argument.src_iova = sourceIOVA.value
    try session.ioctl("IOMMU_IOAS_COPY", IOMMUFD_CMD_IOAS_COPY, &argument)
    return Report("IOMMU_IOAS_COPY", fields: [.init("dst_iova", .hex(argument.dst_iova))])
  }
}

struct IOASUnmap: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-unmap", abstract: "IOMMU_IOAS_UNMAP: remove mappings.",
    discussion: "`--iova 0 --length max` removes all. The result is the bytes removed.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word
  @Option(help: "First IOVA.") var iova: Number
  @Option(help: "Bytes.") var length: Number

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_ioas_unmap()
    argument.size = size(of: iommu_ioas_unmap.self)
    argument.ioas_id = ioas.value
    argument.iova = iova.value
    argument.length = length.value
    try session.ioctl("IOMMU_IOAS_UNMAP", IOMMUFD_CMD_IOAS_UNMAP, &argument)
    return Report("IOMMU_IOAS_UNMAP", fields: [.init("length", .hex(argument.length))])
  }
}

struct IOASChangeProcess: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-change-process",
    abstract: "IOMMU_IOAS_CHANGE_PROCESS: account all file mappings to this process.")
  @OptionGroup var options: CommonOptions

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_ioas_change_process()
    argument.size = size(of: iommu_ioas_change_process.self)
    try session.ioctl("IOMMU_IOAS_CHANGE_PROCESS", IOMMUFD_CMD_IOAS_CHANGE_PROCESS, &argument)
    return Report("IOMMU_IOAS_CHANGE_PROCESS")
  }
}

struct IOASNoIOMMUGetPA: Command {
  static let configuration = CommandConfiguration(
    commandName: "ioas-noiommu-get-pa",
    abstract: "IOMMU_IOAS_NOIOMMU_GET_PA: the physical address behind an IOVA, without an IOMMU.")
  @OptionGroup var options: CommonOptions
  @Option(help: "The address space's id.") var ioas: Word
  @Option(help: "The IOVA.") var iova: Number
  @Option(help: "Longest contiguous run wanted.") var length = Number(4096)

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_ioas_noiommu_get_pa()
    argument.size = size(of: iommu_ioas_noiommu_get_pa.self)
    argument.ioas_id = ioas.value
    argument.iova = iova.value
    argument.length = length.value
    try session.ioctl("IOMMU_IOAS_NOIOMMU_GET_PA", IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA, &argument)
    return Report(
      "IOMMU_IOAS_NOIOMMU_GET_PA",
      fields: [
        .init("out_phys", .hex(argument.out_phys)), .init("length", .hex(argument.length)),
      ])
  }
}

struct OptionCommand: Command {
  static let configuration = CommandConfiguration(
    commandName: "option", abstract: "IOMMU_OPTION: read or set an option.")

  enum Name: String, ExpressibleByArgument, CaseIterable {
    case rlimitMode = "rlimit-mode"
    case hugePages = "huge-pages"
  }

  @OptionGroup var options: CommonOptions
  @Argument(help: "Which option.") var name: Name
  @Option(help: "The object it belongs to; 0 is the whole file.") var object = Word(0)
  @Option(help: "The value to set; without it the option is read.") var set: Number?

  func perform(in session: Session) throws(Failure) -> Report {
    var argument = iommu_option()
    argument.size = size(of: iommu_option.self)
    argument.option_id =
      name == .rlimitMode ? IOMMU_OPTION_RLIMIT_MODE.rawValue : IOMMU_OPTION_HUGE_PAGES.rawValue
    let operation = set == nil ? IOMMU_OPTION_OP_GET : IOMMU_OPTION_OP_SET
    argument.op = UInt16(operation.rawValue)
    argument.object_id = object.value
    argument.val64 = set?.value ?? 0
    try session.ioctl("IOMMU_OPTION", IOMMUFD_CMD_OPTION, &argument)
    return Report("IOMMU_OPTION", fields: [.init("val64", .decimal(argument.val64))])
  }
}
